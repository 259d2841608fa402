# SPDX-License-Identifier: Apache-2.0
"""The folder that an export is: weights, constants and card, there as a whole or not at all."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iclmsr.data.names import printable
from iclmsr.encoders.weights import BESIDE
from iclmsr.errors import IclmsrError, nearest
from iclmsr.export.card import card
from iclmsr.export.formats import FORMATS
from iclmsr.export.parcel import Parcel
from iclmsr.files import unwritable, write_atomic, write_json

__all__ = ["FORMATS", "Exported", "export"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: Where.
        difference: The largest difference of a feature, after loading it through the library that
            it is for, relative to the largest feature if that is above 1.
        remarks: What a person should know about the encoder, a line each.
    """

    folder: Path
    difference: float
    remarks: list[str]


def export(source: str | Path, format: str, out: Path) -> Exported:
    """Hands an encoder on in a format of other tools.

    The files are loaded again through the other library's own loader; the folder appears only if
    the features are the same.

    Args:
        source: An encoder as :func:`iclmsr.encoders.load_encoder` takes it, but for ONNX.
        format: ``safetensors`` (ours), ``timm`` (for ``timm.create_model``), ``torchvision`` (a
            state dict that its ResNet takes strictly), ``onnx``, or ``hf`` (for
            :class:`iclmsr.export.hub.HubEncoder`).
        out: The folder to make: the weights, ``preprocessor_config.json``, ``README.md``.

    Raises:
        IclmsrError: No such format or encoder; the format cannot hold it; ``out`` exists; or the
            features differ by more than 1e-5.
    """
    if format not in FORMATS:
        raise IclmsrError(f"unknown --format {format!r}: {nearest(format, FORMATS)}")
    try:
        free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise unwritable(printable(out), error) from error
    if not free:
        raise IclmsrError(f"{printable(out)} already exists: choose another -o, or remove it")
    parcel = Parcel.of(source)
    form = FORMATS[format]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise unwritable(printable(out), error) from error
    try:
        (staging / "README.md").touch()  # Hugging Face's mixin leaves alone what is there
        form.write(parcel, staging)
        difference = parcel.difference(form.features(parcel, staging))
        write_json(staging / BESIDE, _processor(parcel))
        run = Path(source) if Path(source).is_dir() else None
        text = card(parcel, format, form, difference, run, out.name)
        write_atomic(staging / "README.md", text.encode("utf-8", "backslashreplace"))
        staging.chmod(0o755)
        staging.rename(out)
    except OSError as error:
        raise unwritable(printable(out), error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Exported(out, difference, parcel.loaded.remarks())


def _processor(parcel: Parcel) -> dict[str, Any]:
    """The constants under the names that Hugging Face's image processors use, and our own."""
    images = parcel.preprocessing
    value: dict[str, Any] = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(images.mean),
        "image_std": list(images.std),
        "do_resize": images.seen is not None,
        "do_center_crop": images.seen is not None,
        "resample": 3,
        "iclmsr": parcel.about(),
    }
    if images.seen is not None:
        value["size"] = {"shortest_edge": images.resize or images.image_size}
        value["crop_size"] = {"height": images.seen, "width": images.seen}
    return value
