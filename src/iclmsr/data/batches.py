# SPDX-License-Identifier: Apache-2.0
"""One epoch's batches of views."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from iclmsr.data.backdrops import REMOVED, draw_donors, exchanged
from iclmsr.data.feed import Feed, Held
from iclmsr.data.views import ViewConfig, ViewParameters, draw_parameters, make_views
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator


class MaybeMasked(Protocol):
    """A data set, or what is known of one."""

    @property
    def masks(self) -> object | None:
        """None if it has none."""


def check_masks(images: MaybeMasked, config: ViewConfig) -> None:
    """Raises unless images have the masks that their views need.

    Args:
        images: A data set.
        config: How views are made of it.

    Raises:
        IclmsrError: Backgrounds are to be exchanged, and there are no masks.
    """
    if config.background != "keep" and images.masks is None:
        raise IclmsrError(
            f"views.background {config.background} needs images with foreground masks: pass "
            "--data.masks PATH, or --views.background keep"
        )


class Epoch:
    """The batches of one epoch: order and views follow from (seed, epoch) alone.

    Every image's augmentation is drawn by its place in the data set, not by its batch, so any
    batch can be made at any time, twice, or split, and holds the same numbers.

    Args:
        images: (N, 3, H, W) uint8 on the device where views are made, or what hands them out,
            with masks if ``config`` exchanges backgrounds.
        config: How views are made, but for those that it calls weak.
        view_count: V.
        batch_size: B; the N mod B images at the end of the order are left out.
        seed: The run's seed.
        epoch: Index of the epoch.
        mean: Of each channel, in [0, 1].
        std: Of each channel, > 0.
        part: Which of how many equal parts of each batch to make: a process's own share.
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
    ) -> None:
        self.feed = Held(images, images.device) if isinstance(images, Tensor) else images
        self.batch_size, self.part = batch_size, part
        self.config, self.mean, self.std = config, mean, std
        count, (height, width) = self.feed.count, self.feed.size
        if order is None:
            order = torch.randperm(count, generator=generator(seed, "order", epoch))
        self.order = order
        self.donors: list[Tensor] = []
        configs = [config.for_view(view) for view in range(view_count)]
        if config.background != "keep":
            kinds = [own.background for own in configs]
            self.donors = draw_donors(
                kinds, config.background_probability, order, seed=seed, epoch=epoch
            )
        self.parameters = [
            draw_parameters(count, height, width, own, generator(seed, "views", epoch, view))
            for view, own in enumerate(configs)
        ]

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def expect(self, batches: Sequence[int]) -> None:
        """Says which batches :meth:`views` will be asked for, in this order."""
        self.feed.expect([self._needed(self._rows(batch)) for batch in batches])

    def views(self, batch: int) -> list[Tensor]:
        """V views (B / parts, 3, S, S) float32 of this part of the images in batch ``batch``.

        Raises:
            Unreadable: An image that is not held in memory cannot be had.
        """
        index = self._rows(batch)
        if self.donors:
            shown = self._exchanged(index)
        else:
            shown = [self.feed.fetch(index)] * len(self.parameters)
        drawn = ViewParameters.cat([view.take(index) for view in self.parameters])
        views = make_views(torch.cat(shown), drawn, self.config, mean=self.mean, std=self.std)
        return list(torch.split(views, len(index)))

    def _exchanged(self, index: Tensor) -> list[Tensor]:
        """The images (B / parts, 3, H, W) uint8 at ``index`` as each view is to show them."""
        needed = self._needed(index)
        found = self.feed.fetch_masked(needed)
        rows = torch.searchsorted(needed, index).to(found.images.device)
        shown = []
        for donors in self.donors:
            own = donors[index]
            at = torch.searchsorted(needed, own).where(own != REMOVED, REMOVED)
            shown.append(exchanged(found, rows, at.to(rows.device)))
        return shown

    def _needed(self, index: Tensor) -> Tensor:
        """Places of all images that the views of those at ``index`` are made of."""
        if not self.donors:
            return index
        needed = torch.cat([index, *(donors[index] for donors in self.donors)])
        there: Tensor = torch.unique(needed[needed != REMOVED])
        return there

    def _rows(self, batch: int) -> Tensor:
        """Places (B / parts,) in the data set of this part of a batch."""
        which, parts = self.part
        size = self.batch_size // parts
        first = batch * self.batch_size + which * size
        return self.order[first : first + size]
