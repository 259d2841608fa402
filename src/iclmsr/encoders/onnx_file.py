# SPDX-License-Identifier: Apache-2.0
"""An encoder in an ONNX file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError


class OnnxEncoder(nn.Module):
    """Runs an encoder that is in an ONNX file, on the CPU: (B, 3, H, W) -> (B, F) for any B.

    It has no parameters and no gradient.

    Args:
        path: The file. Its one input is (B, 3, h, w) float32, its first output (B, F); a model
            whose B is fixed is run on so many images at a time.

    Attributes:
        image_size: Height and width that it takes, pixels; None where it takes any.
        feature_dim: F, or None where the file does not say.
        metadata: What we wrote about it when we exported it; empty in other files.

    Raises:
        IclmsrError: ONNX Runtime is not installed, there is no such file, it is no model, or it
            takes something else than images.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.where = printable(path)
        self.session = _session(path, self.where)
        inputs = self.session.get_inputs()
        shape = [side if isinstance(side, int) else None for side in inputs[0].shape]
        fits = len(inputs) == 1 and len(shape) == 4 and shape[1] in (None, 3)
        if not fits or inputs[0].type != "tensor(float)" or shape[2] != shape[3]:
            found = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs)
            raise IclmsrError(
                f"{self.where} must take images (B, 3, h, w) float32, square, and nothing else; it "
                f"takes {found}"
            )
        self.input: str = inputs[0].name
        self.batch, self.image_size = shape[0], shape[2]
        output = self.session.get_outputs()[0]
        self.output: str = output.name
        if len(output.shape) not in (0, 2):
            raise IclmsrError(
                f"{self.where} must return features (B, F) first, but its output {output.name!r} "
                f"is {output.shape}: end the model with a pooling"
            )
        last = output.shape[-1] if output.shape else None
        self.feature_dim: int | None = last if isinstance(last, int) else None
        about = self.session.get_modelmeta().custom_metadata_map
        self.metadata: dict[str, Any] = json.loads(about.get("iclmsr", "{}"))

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, F) of images (B, 3, H, W), on the device of the images."""
        pixels = images.detach().to("cpu", torch.float32).contiguous().numpy()
        count, size = len(pixels), self.batch or max(len(pixels), 1)
        found = []
        for start in range(0, count, size):
            part = pixels[start : start + size]
            full = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), np.float32)])
            try:
                (features,) = self.session.run([self.output], {self.input: full})
            except Exception as error:  # ONNX Runtime's exceptions have no common base
                reason = " ".join(str(error).split())
                raise IclmsrError(
                    f"{self.where} does not run on images {tuple(images.shape)}: {reason}"
                ) from error
            found.append(features[: len(part)])
        return torch.from_numpy(np.concatenate(found)).to(images.device)


def _session(path: Path, where: str) -> Any:
    """The model, ready to run with as many threads as torch has."""
    try:
        import onnxruntime
    except ImportError as error:
        raise IclmsrError(
            f"{where} needs ONNX Runtime ({error}): pip install 'iclmsr[onnx]'"
        ) from error
    if not path.is_file():
        raise IclmsrError(f"no encoder at {where}: there is no such file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is in the exception
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        reason = " ".join(str(error).split())
        raise IclmsrError(f"{where} is no ONNX model: {reason}") from error
