# SPDX-License-Identifier: Apache-2.0
"""Mask makers by name."""

import importlib
import inspect
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iclmsr.errors import IclmsrError, nearest
from iclmsr.masks.makers import Maker, grabcut, saliency
from iclmsr.masks.model import MEAN, STD, onnx_model

MAKERS = {"grabcut": grabcut, "saliency": saliency}


@dataclass(frozen=True)
class MaskConfig:
    """How masks are made.

    Raises:
        IclmsrError: A value is outside its range, or two do not go together.
    """

    method: str = "grabcut"
    """grabcut: what has the colours of the middle rather than of the rim; saliency: what stands
    out from the image's spectrum, mostly bad; onnx: a segmentation model (with --model); or your
    own function as package.module:function, looked for in the current folder too, which takes an
    image (H, W, 3) uint8 and returns its foreground (H, W), bool or a float in [0, 1]."""
    boxes: Path | None = None
    """For grabcut: a CSV file of path,x0,y0,x1,y1: the image's path in IMAGES, and the box around
    its foreground in pixels of the upright image, x1 and y1 the first ones outside; or the folder
    of Tiny ImageNet, which has boxes. Images that it does not name are cut without a box."""
    model: Path | None = None
    """For onnx: the model's file. It takes one image (1, 3, h, w) float32, and returns the
    probability of the foreground (1, 1, h, w), or scores of classes (1, C, h, w) or classes
    (1, h, w), of which the first is the background."""
    model_size: int | None = None
    """For onnx: height and width that images are resized to, pixels, > 0; None takes the model's
    own, or the image's where the model takes any."""
    model_mean: tuple[float, float, float] = MEAN
    """For onnx: mean of each channel, subtracted from pixels in [0, 1]."""
    model_std: tuple[float, float, float] = STD
    """For onnx: standard deviation of each channel, > 0, that they are divided by."""
    model_output: str | None = None
    """For onnx: name of the output for masks; None takes the first."""
    overwrite: bool = False
    """Whether masks that are there already are made again."""
    workers: int = 1
    """Threads, >= 1; a function of your own must bear being called from several at once."""

    def __post_init__(self) -> None:
        if self.boxes is not None and self.method != "grabcut":
            raise IclmsrError(f"--boxes is for --method grabcut, not {self.method!r}: leave it out")
        if (self.model is None) == (self.method == "onnx"):
            raise IclmsrError(
                "--method onnx needs a model: pass --model FILE.onnx"
                if self.model is None
                else f"--model is for --method onnx, not {self.method!r}: leave it out"
            )
        if self.model_size is not None and self.model_size < 1:
            raise IclmsrError(f"--model-size must be > 0 pixels, got {self.model_size}")
        if not all(map(math.isfinite, self.model_mean)):
            raise IclmsrError(f"--model-mean must be finite, got {self.model_mean}")
        if not all(0 < std < math.inf for std in self.model_std):
            raise IclmsrError(f"--model-std must be > 0, got {self.model_std}")
        if self.workers < 1:
            raise IclmsrError(f"--workers must be >= 1, got {self.workers}")


def mask_maker(config: MaskConfig) -> Maker:
    """The maker that a config names.

    Args:
        config: Its ``method``; a function is looked for where Python finds modules, and in the
            current folder.

    Raises:
        IclmsrError: There is no such maker, or what it needs is not there.

    >>> mask_maker(MaskConfig("iclmsr.masks.makers:saliency")) is saliency
    True
    """
    if config.model is not None:
        return onnx_model(
            config.model,
            size=config.model_size,
            mean=config.model_mean,
            std=config.model_std,
            output=config.model_output,
        )
    if config.method in MAKERS:
        return MAKERS[config.method]
    if ":" in config.method:
        return _imported(config.method)
    known = (*MAKERS, "onnx", "package.module:function")
    raise IclmsrError(f"unknown --method {config.method!r}: {nearest(config.method, known)}")


def _imported(method: str) -> Maker:
    """The function that ``package.module:function`` names."""
    module, _, name = method.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise IclmsrError(f"--method {method!r}: cannot import {module!r} ({reason})") from error
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key, one in inspect.getmembers(found, callable) if key[0] != "_"]
            advice = nearest(part, known) if known else "nothing in it can be called"
            raise IclmsrError(f"--method {method!r}: no {part!r} in it; {advice}")
        found = getattr(found, part)
    if not callable(found):
        raise IclmsrError(f"--method {method!r} is of type {type(found).__name__}, no function")
    maker: Maker = found
    return maker
