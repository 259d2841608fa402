# SPDX-License-Identifier: Apache-2.0
"""A segmentation model in an ONNX file as a mask maker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.masks.makers import Image, Maker

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's."""


def onnx_model(
    path: Path,
    *,
    size: int | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    input: str | None = None,
    output: str | None = None,
) -> Maker:
    """A maker that runs a model on the CPU.

    The model takes one image (1, 3, h, w) float32 and returns (1, 1, h', w') or (1, h', w'),
    probabilities of the foreground, or (1, C, h', w') with C >= 2, scores of classes of which the
    first is the background.

    Args:
        path: The ONNX file.
        size: Height and width that images are resized to, pixels, > 0; None takes the model's
            own, or the image's where the model takes any.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, > 0, that they are divided by.
        input: Name of the input for images; None takes the only one.
        output: Name of the output for masks; None takes the first.

    Returns:
        The maker: from an image to the probability of the foreground, or, with C >= 2, to
        whether another class than the first has the highest score.

    Raises:
        IclmsrError: ONNX Runtime is not installed, the file is no model, or takes no image. The
            maker raises it where the output is none of the above.
    """
    session = _session(path)
    where = printable(path)
    shapes = {one.name: one.shape for one in session.get_inputs()}
    if input is None and len(shapes) > 1:
        raise IclmsrError(
            f"{where} has inputs {', '.join(shapes)}: name the one for images by --model-input"
        )
    input = _named("input", input, list(shapes), where)
    output = _named("output", output, [one.name for one in session.get_outputs()], where)
    shape = shapes[input]
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise IclmsrError(
            f"{where}: input {input!r} must be (1, 3, h, w), but it is ({', '.join(map(str, shape))})"
        )
    tall, wide = (side if isinstance(side, int) else size for side in shape[2:])
    if size is not None and (tall, wide) != (size, size):
        raise IclmsrError(
            f"{where} takes images of {wide} x {tall} pixels only: leave out --model-size {size}"
        )

    def make(image: Image) -> NDArray[Any]:
        height, width = image.shape[:2]
        shown = _resized(image, tall or height, wide or width)
        pixels = shown.astype(np.float32) / 255
        pixels = (pixels - np.float32(mean)) / np.float32(std)
        try:
            (found,) = session.run([output], {input: pixels.transpose(2, 0, 1)[None]})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise IclmsrError(f"{where} does not run: {' '.join(str(error).split())}") from error
        return _foreground(found, height, width, f"{where}: output {output!r}")

    return make


def _session(path: Path) -> Any:
    """The model, ready to run."""
    try:
        import onnxruntime
    except ImportError as error:
        raise IclmsrError(
            f"mask maker onnx needs ONNX Runtime ({error}): pip install 'iclmsr[onnx]'"
        ) from error
    if not path.is_file():
        raise IclmsrError(f"--model {printable(path)} does not exist")
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        reason = " ".join(str(error).split())
        raise IclmsrError(f"--model {printable(path)} is no ONNX model: {reason}") from error


def _named(what: str, wanted: str | None, known: Sequence[str], where: str) -> str:
    """The name of the input or output, checked."""
    if wanted is None:
        return known[0]
    if wanted not in known:
        raise IclmsrError(f"{where} has no {what} {wanted!r}: choose from {', '.join(known)}")
    return wanted


def _resized(image: Image, height: int, width: int) -> Image:
    """The image in another size, bilinear and antialiased."""
    if image.shape[:2] == (height, width):
        return image
    resized = Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BILINEAR)
    return np.asarray(resized)


def _foreground(found: Any, height: int, width: int, where: str) -> NDArray[Any]:
    """The mask (H, W) in a model's output."""
    scores = np.asarray(found, np.float32)
    shape = scores.shape
    if scores.ndim == 4 and shape[0] == 1:
        scores = scores[0]
    if scores.ndim != 3 or not scores.size:
        raise IclmsrError(f"{where} must be (1, 1, h, w), (1, h, w) or (1, C, h, w), got {shape}")
    planes = [
        np.asarray(Pillow.fromarray(plane).resize((width, height), Pillow.Resampling.BILINEAR))
        for plane in scores
    ]
    if len(planes) > 1:
        return np.stack(planes).argmax(axis=0) != 0
    low, high = float(scores.min()), float(scores.max())
    if not (low >= 0 and high <= 1):
        raise IclmsrError(
            f"{where} must be probabilities in [0, 1], got {low:.3g} to {high:.3g}: end the model "
            "with a sigmoid"
        )
    return planes[0]
