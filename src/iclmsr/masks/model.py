# SPDX-License-Identifier: Apache-2.0
"""A segmentation model in an ONNX file as a mask maker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError, nearest
from iclmsr.masks.makers import Image, Maker

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's."""


def onnx_model(
    path: Path,
    *,
    size: int | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    output: str | None = None,
) -> Maker:
    """A maker that runs a model on the CPU.

    The model takes one image (1, 3, h, w) float32 and returns one of
    (1, 1, h', w') or (1, h', w') float: the probability of the foreground;
    (1, 1, h', w') or (1, h', w') integer or bool: classes, of which 0 is the background;
    (1, C, h', w') with C >= 2: scores of classes, of which the first is the background.

    Args:
        path: The ONNX file.
        size: Height and width that images are resized to, pixels, > 0; None takes the model's
            own, or the image's where the model takes any.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, > 0, that they are divided by.
        output: Name of the output for masks; None takes the first.

    Returns:
        The maker: from an image to the probability of the foreground (H, W), which with classes
        is 0 or 1 on the model's grid. It raises RuntimeError where the model does not run on an
        image, or its output has other proportions.

    Raises:
        IclmsrError: ONNX Runtime is not installed, the file is no model, or takes something else
            than an image. The maker raises it where the output is none of the above.
    """
    session = _session(path)
    where = printable(path)
    input, tall, wide = _input(session, where)
    outputs = [one.name for one in session.get_outputs()]
    if output is None:
        output = outputs[0]
    if output not in outputs:
        raise IclmsrError(f"{where} has no output {output!r}: {nearest(output, outputs)}")
    if size is not None and any(side not in (None, size) for side in (tall, wide)):
        raise IclmsrError(
            f"{where} takes images of {wide or 'any'} x {tall or 'any'} pixels only: leave out "
            f"--model-size {size}"
        )
    centre, spread = np.array(mean, np.float32), np.array(std, np.float32)

    def make(image: Image) -> NDArray[Any]:
        height, width = image.shape[:2]
        shown = _resized(image, tall or size or height, wide or size or width)
        pixels = (shown.astype(np.float32) / 255 - centre) / spread
        try:
            (found,) = session.run([output], {input: pixels.transpose(2, 0, 1)[None]})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise RuntimeError(f"{where} does not run: {error}") from error
        mask = _foreground(found, f"{where}: output {output!r}")
        proportion = mask.shape[0] * shown.shape[1] / (mask.shape[1] * shown.shape[0])
        if not 0.5 <= proportion <= 2:  # strides round
            raise RuntimeError(
                f"{where}: output {output!r} {np.shape(found)} has not the proportions of the "
                f"image {shown.shape[:2]}: is it (1, h, w, C)?"
            )
        return _resized(mask, height, width)

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
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is in the exception
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        reason = " ".join(str(error).split())
        raise IclmsrError(f"--model {printable(path)} is no ONNX model: {reason}") from error


def _input(session: Any, where: str) -> tuple[str, int | None, int | None]:
    """Name of the input, and the height and width that it must have, None where it may have any."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise IclmsrError(f"{where} must take an image and nothing else, but has inputs: {names}")
    (name, shape, kind) = inputs[0].name, inputs[0].shape, inputs[0].type
    sizes = [side if isinstance(side, int) and side > 0 else None for side in shape]
    fits = len(sizes) == 4 and sizes[0] in (None, 1) and sizes[1] in (None, 3)
    if not fits or (sizes[1] is None and sizes[3] == 3) or kind != "tensor(float)":
        raise IclmsrError(
            f"{where}: input {name!r} must be (1, 3, h, w) float32, but it is "
            f"({', '.join(map(str, shape))}) {kind.removeprefix('tensor')}"
        )
    return name, sizes[2], sizes[3]


def _resized(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """An image (h, w, 3) uint8 or a mask (h, w) float32 in another size, bilinear, antialiased."""
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Pillow.fromarray(pixels).resize((width, height), Pillow.Resampling.BILINEAR)
    return np.asarray(resized)


def _foreground(found: Any, where: str) -> NDArray[np.float32]:
    """The probability (h', w') of the foreground in a model's output."""
    scores = np.asarray(found)
    shape = scores.shape
    if len(shape) == 4 and shape[0] == 1:
        scores = scores[0]
    if scores.ndim != 3 or not scores.size:
        raise IclmsrError(f"{where} must be (1, 1, h, w), (1, h, w) or (1, C, h, w), got {shape}")
    if len(scores) > 1:
        return np.asarray(scores.argmax(axis=0) != 0, np.float32)
    plane = scores[0]
    if not np.issubdtype(plane.dtype, np.floating):
        return np.asarray(plane != 0, np.float32)
    low, high = float(plane.min()), float(plane.max())
    if not (low >= 0 and high <= 1):
        raise IclmsrError(
            f"{where} must be probabilities in [0, 1], got {low:.3g} to {high:.3g}: end the model "
            "with a sigmoid"
        )
    return np.asarray(plane, np.float32)
