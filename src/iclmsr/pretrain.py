# SPDX-License-Identifier: Apache-2.0
"""Pretraining: the schedule of the two stages, the run folder, and exact resumption."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from iclmsr import checkpoint
from iclmsr.boards import check_loggers
from iclmsr.config import PretrainConfig, decode, encode
from iclmsr.data.backdrops import fingerprint
from iclmsr.data.batches import check_masks
from iclmsr.data.file_set import FINGERPRINT, FileSet
from iclmsr.data.images import ImageSet
from iclmsr.data.names import counted
from iclmsr.data.sources import DataConfig, open_split
from iclmsr.distributed import World, device_of, join, together
from iclmsr.encoders.start import check_origin, origin
from iclmsr.errors import IclmsrError
from iclmsr.runs import RunFolder, environment
from iclmsr.session import Session


def pretrain(config: PretrainConfig, out: Path) -> Path:
    """Pretrains an encoder and writes a run folder.

    Started by torchrun or srun, all processes train together on parts of each batch, and rank 0
    writes. Seeds torch's global generator, which stochastic layers of an encoder draw from.

    Args:
        config: The whole run.
        out: The run folder to make.

    Returns:
        ``out``, complete.

    Raises:
        IclmsrError: Anything in the way, before the folder is made; a disk that is full.
            :class:`Diverged` where a loss is not finite, :class:`Interrupted` on SIGTERM or SIGINT.
    """
    with join(config.device) as world:
        together(lambda: RunFolder.check_free(out))
        check_loggers(config.loggers)
        _check_share(config, world)
        device = device_of(world, config.device)
        images = _training_images(config)
        started = origin(config, aloud=world.main)
        surroundings = _environment(config, world, device, images) | started
        together(lambda: RunFolder.create(out, encode(config), surroundings))
        folder = RunFolder.open(out)
        with _held(folder):
            return Session(config, folder, images, world, device).run()


def resume(path: Path, *, device: str | None = None, **data: Any) -> Path:
    """Continues a run exactly where its newest good checkpoint left it.

    Args:
        path: The run folder, which may have been moved.
        device: Where to go on, as in the config; None is where it was.
        data: Fields of the config's ``data`` that have changed since: ``root``, where the data
            lie now; ``workers``; ``on_corrupt``. No other may, and none changes a number.

    Returns:
        ``path``, complete.

    Raises:
        IclmsrError: Not a run folder; the data are not the same, or their order is not: that of
            images on disk follows from their shards where these come from a URL. As
            :func:`pretrain`.
    """
    folder = RunFolder.open(path)
    config = decode(PretrainConfig, folder.config())
    config = replace(config, device=device or config.device, data=replace(config.data, **data))
    with join(config.device) as world, _held(folder):
        _check_share(config, world)
        check_loggers(config.loggers)
        together(folder.remove_scraps)
        state = checkpoint.load_newest(folder.checkpoints)
        if (
            state is not None
            and state["position"]["epoch"] == config.epochs == folder.epochs_done()
        ):
            return path
        place = device_of(world, config.device)
        if state is None:
            check_origin(config, folder.environment())
        else:  # its weights are the run's by now
            config = replace(config, init=None, data=_as_before(config.data, state["data"]))
        images = _training_images(config)
        if state is not None:
            _check_same(state, config, images, folder)
        surroundings = _environment(config, world, place, images)
        together(lambda: folder.add_session(surroundings))
        run = Session(config, folder, images, world, place)
        run.restore(state)
        return run.run()


def _check_share(config: PretrainConfig, world: World) -> None:
    """Every process needs a part of the batch of the same size, and of stage 2's slice of it."""
    for option, size in (("batch-size", config.batch_size), ("msr.images", config.msr.images)):
        if size is not None and size % world.size:
            raise IclmsrError(
                f"{option} {size} cannot be shared by {world.size} processes: "
                f"pass a multiple of {world.size}"
            )


@contextlib.contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    """The folder's lock, held by rank 0 for all."""
    with contextlib.ExitStack() as stack:
        together(lambda: stack.enter_context(folder.lock()))
        yield


def _as_before(data: DataConfig, fingerprint: str) -> DataConfig:
    """The images where they were, on disk or in memory, whatever ``auto`` would say here."""
    if fingerprint.startswith(FINGERPRINT):
        return replace(data, resident="disk", cache=False)
    return replace(data, resident="memory")


def _check_same(
    state: dict[str, Any], config: PretrainConfig, images: ImageSet | FileSet, folder: RunFolder
) -> None:
    """Raises unless the images are those of a checkpoint, and come in the same order."""
    root = config.data.root or config.data.source
    if state["data"] != fingerprint(images, masks=config.views.background != "keep"):
        raise IclmsrError(
            f"the images in {root} are not those that {folder.path} was trained on: "
            "pass --data.root with the folder that holds them"
        )
    if not isinstance(images, FileSet):
        return
    layout, known = images.layout(), state.get("layout")
    if known is None:  # of a version that did not say it
        before = decode(PretrainConfig, folder.config()).data.root
        if before == config.data.root:
            return
        known = "unknown" if isinstance(before, str) else ""
    if known and known != layout:
        raise IclmsrError(
            f"the images in {root} are those that {folder.path} was trained on, but its order "
            "follows from its shards: pass --data.root with a URL of the same shards "
            "(file:///FOLDER will do)"
        )
    if known != layout:
        raise IclmsrError(
            f"the images in {root} are those that {folder.path} was trained on, but shards at a "
            "URL have an order of their own: pass --data.root with a folder or archive on this "
            "machine"
        )


def _training_images(config: PretrainConfig) -> ImageSet | FileSet:
    """The training images, at least one batch of them."""
    images = open_split(config.data, "pretrain")
    if images.skipped:
        one, many = "image could not be used and is", "images could not be used and are"
        out = counted(len(images.skipped), one, many)
        warnings.warn(
            f"{out} left out: environment.json lists all, {images.skipped[0]} first",
            stacklevel=2,
        )
    check_masks(images, config.views)
    if config.batch_size > len(images):
        raise IclmsrError(
            f"batch size {config.batch_size} is larger than the data set of {len(images)} images: "
            f"pass --batch-size {len(images)} or less"
        )
    return images


def _environment(
    config: PretrainConfig, world: World, device: torch.device, images: ImageSet | FileSet
) -> dict[str, Any]:
    """What environment.json says of this session."""
    return environment(
        config.seed,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        processes=world.size,
        threads=torch.get_num_threads(),
        images=len(images),
        resident="disk" if isinstance(images, FileSet) else "memory",
        skipped=list(images.skipped),
        data=fingerprint(images, masks=config.views.background != "keep"),
    )
