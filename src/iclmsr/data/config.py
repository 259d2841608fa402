# SPDX-License-Identifier: Apache-2.0
"""Which images a run sees, as a value."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from iclmsr.data.jpeg import Decoder
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.variants import Filler, Variant
from iclmsr.errors import IclmsrError


@dataclass(frozen=True)
class DataConfig:
    """Which images a run sees.

    Raises:
        IclmsrError: A value is outside its range.
    """

    source: str = "cifar10"
    """cifar10, cifar100, stl10, tiny-imagenet: as their authors hand them out, or as a folder by
    class; imagenet: train/CLASS and val/CLASS; folder: any images, in one folder per class or
    not; hf:NAME or hf:NAME:SUBSET: a data set on Hugging Face's hub, or hf: files at root, or at
    hf:PATH, that its package reads; synthetic: drawn shapes on textured backgrounds, which needs
    no files."""
    root: str | Path | None = None
    """Where the data set lies: a folder, or a .tar, .tar.gz, .tgz or .zip archive of it, which is
    read in place; for folder and imagenet also shards: a folder or URL where `iclmsr data shard`
    wrote them, or any WebDataset's as PATH/name-{000..099}.tar; for hf a .parquet file or a
    folder; synthetic and hf:NAME need none."""
    image_size: int = 32
    """Height and width of an image, pixels, > 0; images of another size are resized."""
    evaluate_resize: int | None = None
    """Height and width, pixels, > 0, that images are resized to for evaluation before the crop;
    None keeps image_size."""
    evaluate_crop: int | None = None
    """Height and width, pixels, > 0, of the centre that evaluation sees; None shows all."""
    limit: int | None = None
    """Use only so many training images, drawn at random, >= 1; None uses all."""
    labels: bool = True
    """Whether folders are classes; if not, images at any depth are read without labels. Of images
    in other files, too, no label is kept."""
    class_list: Path | None = None
    """A text file that names the classes to use, one a line; None uses all."""
    masks: str | Path | None = None
    """A folder or archive of foreground masks, or one with a folder masks: under an image's own
    path, but as .png; in gray, 0 is background, 128 and more foreground. Or shards, as root."""
    image_column: str | None = None
    """The column of an hf data set that holds images; None is the only one that does."""
    label_column: str | None = None
    """The column of classes; None is the only one that is declared as such, if there is one."""
    mask_column: str | None = None
    """The column of foreground masks; None is the one called mask, if it holds images; "" none."""
    on_corrupt: Literal["error", "skip"] = "error"
    """An image that does not decode or lacks its mask: stop, or leave it out. With images on disk
    that is known only when it is read: stop, or take the next image in its place."""
    cache: bool = True
    """Whether images that `iclmsr data prepare` has decoded are mapped into memory from there."""
    shard_cache: float = 32.0
    """How much of the disk shards from a URL may take, GiB, > 0; those used least recently go."""
    resident: Literal["auto", "memory", "disk"] = "auto"
    """Where image files that are not prepared are decoded to: memory, all of them at once; disk:
    nowhere, they are decoded whenever they are needed; auto: memory, unless they would take more
    than a quarter of the machine's."""
    workers: int | None = None
    """Processes that decode what is not held in memory, >= 0; 0 is done by the process that
    trains, None takes as many as there are cores. It changes no number."""
    decoder: Decoder = "pillow"
    """What makes images of JPEG files: pillow; torchvision, up to twice as fast, a few grey levels
    apart; nvjpeg, an NVIDIA GPU, for images that stay on disk. Files that are turned, CMYK, damaged
    or of other formats are Pillow's in any case."""
    variant: Variant = "original"
    """What is shown of images with foreground masks, as in ImageNet-9: only_fg, the background
    filled; only_bg_b, only_bg_t, the foreground's box black or tiled with background; no_fg, the
    foreground black; mixed_same, mixed_rand, mixed_next, on the background of an image of the
    same, any, the next class."""
    filler: Filler = "gray"
    """What only_fg fills the background with: gray, the images' mean color, or black."""
    mean: tuple[float, float, float] = (0.4914, 0.4822, 0.4465)
    """Mean of each channel, subtracted from pixels in [0, 1]."""
    std: tuple[float, float, float] = (0.2023, 0.1994, 0.2010)
    """Standard deviation of each channel, > 0, that they are divided by."""
    seed: int = 0
    """Of the draw for limit and of the synthetic images; not the run's seed."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """What the synthetic images look like."""

    def __post_init__(self) -> None:
        for name in ("root", "masks"):
            value = getattr(self, name)
            if isinstance(value, str) and "://" not in value:  # a path would lose a slash of a URL
                object.__setattr__(self, name, Path(value))
        for name in ("image_size", "evaluate_resize", "evaluate_crop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise IclmsrError(f"data.{name.replace('_', '-')} must be > 0 pixels, got {value}")
        whole = self.evaluate_resize or self.image_size
        if self.evaluate_crop is not None and self.evaluate_crop > whole:
            raise IclmsrError(
                f"data.evaluate-crop must be at most {whole} pixels, the size of the image that "
                f"it is cut from, got {self.evaluate_crop}"
            )
        if self.workers is not None and self.workers < 0:
            raise IclmsrError(f"data.workers must be >= 0, got {self.workers}")
        if self.class_list is not None and not self.labels:
            raise IclmsrError("data.class-list needs classes: leave out --data.no-labels")
        for name in ("image_column", "label_column", "mask_column"):
            if getattr(self, name) is not None and self.source.partition(":")[0] != "hf":
                raise IclmsrError(
                    f"data.{name.replace('_', '-')} is for data.source hf, images in columns, not "
                    f"for {self.source!r}: leave it out"
                )
        if not 0 < self.shard_cache < math.inf:
            raise IclmsrError(f"data.shard-cache must be > 0 GiB, got {self.shard_cache}")
        if not all(map(math.isfinite, self.mean)):
            raise IclmsrError(f"data.mean must be finite, got {self.mean}")
        if not all(0 < std < math.inf for std in self.std):
            raise IclmsrError(f"data.std must be > 0, got {self.std}")
