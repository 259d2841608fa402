# SPDX-License-Identifier: Apache-2.0
"""How images become what an encoder sees, as constants that travel with its weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from iclmsr.data.config import DataConfig

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's channels, the usual ones of other libraries."""


@dataclass(frozen=True)
class Preprocessing:
    """How images are prepared: the constants of evaluation, see :class:`DataConfig`.

    Attributes:
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, > 0, that they are divided by.
        image_size: Short side that images are resized to, pixels; the rest is cut off around the
            centre. None if it is not known.
        resize: Height and width that they are resized to after that; None keeps image_size.
        crop: Height and width of the centre that is cut out then; None cuts nothing.
    """

    mean: Triple
    std: Triple
    image_size: int | None = None
    resize: int | None = None
    crop: int | None = None

    @property
    def seen(self) -> int | None:
        """Height and width of what the encoder sees, pixels.

        >>> Preprocessing((0.5,) * 3, (0.5,) * 3, 96, resize=70, crop=64).seen
        64
        """
        return self.crop or self.resize or self.image_size

    @classmethod
    def of(cls, data: DataConfig) -> "Preprocessing":
        """As a run on these data is evaluated."""
        return cls(data.mean, data.std, data.image_size, data.evaluate_resize, data.evaluate_crop)

    def to_json(self) -> dict[str, Any]:
        """JSON values for a file's metadata."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Preprocessing":
        """What :meth:`to_json` made ``value`` from.

        >>> one = Preprocessing((0.5,) * 3, (0.25,) * 3, 32)
        >>> Preprocessing.from_json(one.to_json()) == one
        True
        """
        (r, g, b), (x, y, z) = value["mean"], value["std"]
        sizes = (value.get(name) for name in ("image_size", "resize", "crop"))
        return cls((r, g, b), (x, y, z), *sizes)
