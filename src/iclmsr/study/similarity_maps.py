# SPDX-License-Identifier: Apache-2.0
"""What the similarity of two views rests on: by gradient, or by covering parts of a view."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iclmsr.errors import IclmsrError, nearest

LAST_STAGE = "layer4"
"""Where a ResNet's last feature map leaves."""
PLACES = 4
"""A map needs so many places to a side to tell an object from what is around it."""


def gradient_maps(
    network: nn.Module, first: Tensor, second: Tensor, *, layer: str | None = None
) -> Tensor:
    """Grad-CAM of the similarity of two views, on the first.

    With A (C, h, w) a layer's output for the first view, and s = <f(first), f(second)> over both
    norms, the map is ReLU(sum_c mean(ds/dA_c) A_c), enlarged to the view. The norms are held
    constant in the derivative: the cosine itself does not change with the length of f, so that
    its gradient vanishes for equal views, and the map's mean would be 0 for every pair. Held
    constant, the map of a last convolution with mean pooling adds up to h w s before the ReLU.

    Args:
        network: (B, 3, H, W) -> (B, F), differentiable; it leaves as it came.
        first: (B, 3, H, W), normalized.
        second: (B, 3, H, W), normalized.
        layer: Name of the submodule whose output (B, C, h, w) is A; None takes a ResNet's last
            stage. With an earlier one the map may be far from what covering parts of the view
            shows, see :func:`is_fine`.

    Returns:
        (B, H, W) float32 >= 0; each sums to 1, or is 0 everywhere.

    Raises:
        IclmsrError: No such layer or no such map, or features that are not (B, F).

    Source: Selvaraju et al. 2017 (arXiv 1610.02391), Eq. 1 and 2. Departure: the score is the
    similarity of two views, its norms held constant.

    >>> network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> _ = [nn.init.constant_(p, 1.0) for p in network.parameters()]
    >>> view = torch.zeros(1, 3, 2, 2)
    >>> gradient_maps(network, view, view, layer="0").tolist()
    [[[0.25, 0.25], [0.25, 0.25]]]
    """
    raw, size = similarity_maps(network, first, second, layer=layer), first.shape[2:]
    return unit_energy(F.interpolate(raw.relu()[:, None], size, mode="bilinear")[:, 0])


def similarity_maps(
    network: nn.Module, first: Tensor, second: Tensor, *, layer: str | None = None
) -> Tensor:
    """The map of :func:`gradient_maps` before ReLU, enlargement and normalization, (B, h, w).

    Args and Raises: as there.
    """
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise IclmsrError(
                f"layer {layer!r} gives no map (B, C, h, w) but {shape}: name a convolutional "
                "layer, or use occlusion_maps"
            )
        found.append(output)
        return output.clone()  # what follows may work in place

    chosen = _layer(network, layer)

    with _evaluated(network), torch.enable_grad():
        with torch.no_grad():
            other = _features(network, second)
        hook = chosen.register_forward_hook(keep)
        try:
            own = _features(network, first.detach().clone().requires_grad_())
        finally:
            hook.remove()
        scale = (own.norm(dim=1) * other.norm(dim=1)).detach().clamp_min(1e-12)
        similarity = ((own * other).sum(1) / scale).sum()
        (activation,) = found
        (gradient,) = torch.autograd.grad(similarity, activation)
    return (gradient.mean((2, 3), keepdim=True) * activation).sum(1).detach().float()


def occlusion_maps(
    network: nn.Module,
    first: Tensor,
    second: Tensor,
    *,
    patch: int | None = None,
    stride: int | None = None,
) -> Tensor:
    """How much the cosine of two views falls where the first is covered; for any encoder.

    A square of the data set's mean colour is moved over the first view. A pixel's value is the
    mean fall over the squares that cover it, or 0 if the cosine rises.

    Args:
        network: (B, 3, H, W) -> (B, F); it leaves as it came and needs no gradient.
        first: (B, 3, H, W), normalized, so that 0 is the mean colour.
        second: (B, 3, H, W), normalized.
        patch: Side of the square, pixels, in [1, min(H, W)]; None is a quarter of the view.
        stride: Pixels between two squares, in [1, patch]; None is half of it.

    Returns:
        (B, H, W) float32 >= 0; each sums to 1, or is 0 everywhere.

    Raises:
        IclmsrError: A size outside its range, or features that are not (B, F).

    Source: Zeiler and Fergus 2014 (arXiv 1311.2901), section 4.2. Departure: the score is the
    cosine of two views.

    >>> view = torch.zeros(1, 3, 2, 2)
    >>> view[0, :, 0, 0] = 1
    >>> occlusion_maps(nn.Flatten(), view, view, patch=1).tolist()
    [[[1.0, 0.0], [0.0, 0.0]]]
    """
    height, width = first.shape[2:]
    patch = max(1, min(height, width) // 4) if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= patch <= min(height, width):
        raise IclmsrError(f"patch must be in [1, {min(height, width)}] pixels, got {patch}")
    if not 1 <= stride <= patch:
        raise IclmsrError(f"stride must be in [1, {patch}] pixels, the patch, got {stride}")
    fall = torch.zeros(len(first), height, width)
    covered = torch.zeros(height, width)
    with _evaluated(network), torch.no_grad():
        other = F.normalize(_features(network, second), dim=1)
        whole = (F.normalize(_features(network, first), dim=1) * other).sum(1)
        for top in _starts(height, patch, stride):
            for left in _starts(width, patch, stride):
                window = (slice(top, top + patch), slice(left, left + patch))
                hidden = first.clone()
                hidden[:, :, *window] = 0
                cosine = (F.normalize(_features(network, hidden), dim=1) * other).sum(1)
                fall[:, *window] += (whole - cosine).float()[:, None, None]
                covered[window] += 1
    return unit_energy((fall / covered).relu())


def is_fine(network: nn.Module, view: Tensor) -> bool:
    """Whether a network is a ResNet whose last map of a view has at least 4 x 4 places.

    Only there is :func:`gradient_maps` to be believed: the last map's weights are exact, an
    earlier one's are means over places that differ. With 2 x 2 places the foreground is no place
    of its own.

    Args:
        network: As :func:`gradient_maps` takes it.
        view: (1, 3, H, W).
    """
    if not hasattr(_inner(network), LAST_STAGE):
        return False
    return min(similarity_maps(network, view, view).shape[1:]) >= PLACES


def _inner(network: nn.Module) -> nn.Module:
    """The bare network of our encoder, or the module itself."""
    inner = getattr(network, "network", network)
    return inner if isinstance(inner, nn.Module) else network


def _layer(network: nn.Module, name: str | None) -> nn.Module:
    """The layer of that name, or a ResNet's last stage."""
    inner = _inner(network)
    if name is None:
        last = getattr(inner, LAST_STAGE, None)
        if not isinstance(last, nn.Module):
            raise IclmsrError(
                f"{type(inner).__name__} is no ResNet: name the layer of its last feature map, or "
                "use occlusion_maps, which needs none"
            )
        return last
    known: dict[str, nn.Module] = dict(network.named_modules())
    if not name or name not in known:
        raise IclmsrError(f"no layer {name!r} in the encoder: {nearest(name, known)}")
    return known[name]


def _features(network: nn.Module, views: Tensor) -> Tensor:
    """Features (B, F)."""
    output = network(views)
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise IclmsrError(f"an encoder must give (B, F), got {shape}")
    return output


def _starts(size: int, patch: int, stride: int) -> list[int]:
    """Where squares begin, so that the last one ends at the edge."""
    return [*range(0, size - patch, stride), size - patch]


def unit_energy(maps: Tensor) -> Tensor:
    """Maps >= 0 that sum to 1; those that are 0 everywhere stay so."""
    total = maps.sum((1, 2), keepdim=True)
    return maps / torch.where(total > 0, total, 1)


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards every module is in its own again."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
