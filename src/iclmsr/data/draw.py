# SPDX-License-Identifier: Apache-2.0
"""Which images of a data set are read at all."""

from dataclasses import dataclass

import torch

from iclmsr.data.images import ImageSet
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator


@dataclass(frozen=True)
class Draw:
    """All images, or some of them drawn at random.

    Attributes:
        limit: How many, >= 1; None is all of them.
        seed: Of the draw.
    """

    limit: int | None = None
    seed: int = 0

    def order(self, count: int) -> list[int]:
        """All of 0..count - 1; the images to read come first, those that may replace them follow.

        Args:
            count: Images that there are.

        Raises:
            IclmsrError: There are fewer than ``limit``.

        >>> sorted(Draw(limit=2).order(5))
        [0, 1, 2, 3, 4]
        """
        if self.limit is None:
            return list(range(count))
        self.check(count)
        return torch.randperm(count, generator=generator(self.seed, "limit")).tolist()

    def indices(self, count: int) -> list[int]:
        """The images to read, ascending.

        Args:
            count: Images that there are.

        Raises:
            IclmsrError: There are fewer than ``limit``.

        >>> Draw().indices(3)
        [0, 1, 2]
        """
        return sorted(self.order(count)[: self.limit])

    def of(self, images: ImageSet) -> ImageSet:
        """The drawn ones of a set that is in memory already.

        Raises:
            IclmsrError: There are fewer than ``limit``.
        """
        if self.limit is None:
            return images
        return images.take(torch.tensor(self.indices(len(images))))

    def check(self, count: int) -> None:
        """Raises :class:`IclmsrError` unless ``count`` images are enough."""
        if self.limit is not None and not 0 < self.limit <= count:
            raise IclmsrError(
                f"data.limit must be in [1, {count}], the number of training images, "
                f"got {self.limit}"
            )
