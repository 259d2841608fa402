# SPDX-License-Identifier: Apache-2.0
"""One epoch's batches of views."""

from collections.abc import Sequence

import torch
from torch import Tensor

from iclmsr.data.backdrops import Backdrops, draw_donors
from iclmsr.data.feed import Feed, Held
from iclmsr.data.views import ViewConfig, draw_parameters, make_views
from iclmsr.seeds import generator


class Epoch:
    """The batches of one epoch: order and views follow from (seed, epoch) alone.

    Every image's augmentation is drawn by its place in the data set, not by its batch, so any
    batch can be made at any time, twice, or split, and holds the same numbers.

    Args:
        images: (N, 3, H, W) uint8 on the device where views are made, or what hands them out.
        config: How views are made, but for those that it calls weak.
        view_count: V.
        batch_size: B; the N mod B images at the end of the order are left out.
        seed: The run's seed.
        epoch: Index of the epoch.
        mean: Of each channel, in [0, 1].
        std: Of each channel, > 0.
        part: Which of how many equal parts of each batch to make: a process's own share.
        backdrops: What exchanges backgrounds, where ``config`` asks for it.
        order: (N,) int64 permutation of the images, made for this seed and epoch, where not any
            will do (:func:`iclmsr.data.shard_order.shard_order`).
    """

    def __init__(
        self,
        images: Tensor | Feed,
        config: ViewConfig,
        *,
        view_count: int,
        batch_size: int,
        seed: int,
        epoch: int,
        mean: Sequence[float],
        std: Sequence[float],
        part: tuple[int, int] = (0, 1),
        order: Tensor | None = None,
        backdrops: Backdrops | None = None,
    ) -> None:
        self.feed = Held(images, images.device) if isinstance(images, Tensor) else images
        self.batch_size, self.part = batch_size, part
        self.configs = [config.for_view(view) for view in range(view_count)]
        self.mean, self.std = mean, std
        count, (height, width) = self.feed.count, self.feed.size
        if order is None:
            order = torch.randperm(count, generator=generator(seed, "order", epoch))
        self.order, self.backdrops = order, backdrops
        self.donors: list[Tensor] = []
        if backdrops is not None:
            kinds = [own.background for own in self.configs]
            self.donors = draw_donors(
                kinds, config.background_probability, order, seed=seed, epoch=epoch
            )
        self.parameters = [
            draw_parameters(count, height, width, own, generator(seed, "views", epoch, view))
            for view, own in enumerate(self.configs)
        ]

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def expect(self, batches: Sequence[int]) -> None:
        """Says which batches :meth:`views` will be asked for, in this order."""
        self.feed.expect([self._rows(batch) for batch in batches])

    def views(self, batch: int) -> list[Tensor]:
        """V views (B / parts, 3, S, S) float32 of this part of the images in batch ``batch``.

        Raises:
            Unreadable: An image that is not held in memory cannot be had.
        """
        index = self._rows(batch)
        images = self.feed.fetch(index)
        shown = [images] * len(self.configs)
        if self.backdrops is not None:
            shown = [self.backdrops.put(images, index, donors[index]) for donors in self.donors]
        return [
            make_views(seen, drawn.take(index), own, mean=self.mean, std=self.std)
            for seen, drawn, own in zip(shown, self.parameters, self.configs, strict=True)
        ]

    def _rows(self, batch: int) -> Tensor:
        """Places (B / parts,) in the data set of this part of a batch."""
        which, parts = self.part
        size = self.batch_size // parts
        first = batch * self.batch_size + which * size
        return self.order[first : first + size]
