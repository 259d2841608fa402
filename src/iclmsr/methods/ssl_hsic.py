# SPDX-License-Identifier: Apache-2.0
"""SSL-HSIC: self-supervised learning with kernel dependence maximization (Li et al. 2021).

arXiv 2106.08320. The Hilbert-Schmidt independence criterion of embeddings Z and image identity Y
is raised, that of Z with itself is kept low.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.losses import at_least_float32
from iclmsr.methods.base import (
    Embeddings,
    Method,
    Settings,
    TargetSchedule,
    check_decay,
    embed_each,
    embed_target,
)
from iclmsr.networks import Encoder, Projector, TargetNetwork, target_decay
from iclmsr.tiles import over_rows

Kernel = Literal["exact", "rff"]


def ssl_hsic_loss(
    hiddens: Tensor,
    *,
    kernel: Kernel = "exact",
    scale: float | Tensor = 1.0,
    gamma: float = 3.0,
    features: int = 512,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The loss gamma sqrt(HSIC(Z, Z)) - HSIC(Z, Y) with the inverse multiquadric kernel.

    With unit rows z_i^p (image i, hidden p) and k(a, b) = c / sqrt(||a - b||^2 + c^2),

        HSIC(Z, Y) = sum_i sum_pl k(z_i^p, z_i^l) / (B M (M-1)) - sum_ijpl k(z_i^p, z_j^l) / (B M)^2
        HSIC(Z, Z) = ||H K H||_F^2 / (B M)^2,   H = I - 1 1^T / (B M).

    Args:
        hiddens: (M, B, D), M >= 2 embeddings of each image, not normalized.
        kernel: ``exact``: the (M B, M B) kernel matrix, twice, in tiles where it is large (its
            centring needs the means first); ``rff``: its estimate by two independent draws of
            random Fourier features, linear in M B.
        scale: c > 0; a tensor gets no gradient.
        gamma: >= 0.
        features: Random Fourier features of a draw, >= 1.
        generator: A CPU generator for the draws; None is a new one with seed 0.

    Returns:
        [] without unit; float32 or the inputs' dtype if that is wider.

    Raises:
        IclmsrError: M < 2, an unknown kernel, or a scale that is not positive.

    Source: Li et al. 2021, Eq. 6 to 8. Departure: the sums of its public code, which count p = l
    and divide by (B M)^2; frequencies |s| e with s, e normal, which have the same law as its table.

    >>> eye = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    >>> round(ssl_hsic_loss(eye).item(), 10)  # 3 * 0.0446581987^0.5 - 1.2113248654
    -0.5773502692
    """
    if hiddens.ndim != 3 or len(hiddens) < 2:
        raise IclmsrError(f"hiddens must be (M, B, D) with M >= 2, got {tuple(hiddens.shape)}")
    if kernel not in get_args(Kernel):
        raise IclmsrError(f"kernel must be exact or rff, got {kernel!r}")
    if not scale > 0 or features < 1:
        raise IclmsrError(f"scale must be > 0 and features >= 1, got {float(scale)} and {features}")
    with torch.autocast(hiddens.device.type, enabled=False):
        z = F.normalize(at_least_float32(hiddens), dim=2)
        c = scale.detach().to(z) if isinstance(scale, Tensor) else scale
        if kernel == "exact":
            zy, zz = _hsic_exact(z, c)
        else:
            zy, zz = _hsic_rff(z, c, features, generator)
        return gamma * zz.clamp_min(1e-12).sqrt() - zy  # the square root has no slope at 0


def _hsic_exact(z: Tensor, c: float | Tensor) -> tuple[Tensor, Tensor]:
    """HSIC(Z, Y) and HSIC(Z, Z), [] each, of unit rows (M, B, D), from the kernel matrix."""
    count, batch, _ = z.shape
    rows = z.flatten(0, 1)  # (M B, D)

    def kernel(cosine: Tensor) -> Tensor:
        return c / ((2 - 2 * cosine).clamp_min(0) + c**2).sqrt()

    def centred_square(z_i: Tensor, mean_i: Tensor, z: Tensor, mean: Tensor) -> Tensor:
        centred = kernel(z_i @ z.T) - mean_i[:, None] - mean + mean.mean()  # (R, M B)
        return centred.square().mean(1)

    same_image = kernel(torch.einsum("pbd,qbd->pqb", z, z))  # (M, M, B)
    mean = over_rows(lambda z_i, z: kernel(z_i @ z.T).mean(1), [rows], [rows])  # (M B,)
    zy = same_image.sum() / (batch * count * (count - 1)) - mean.mean()
    return zy, over_rows(centred_square, [rows, mean], [rows, mean]).mean()


def _hsic_rff(
    z: Tensor, c: float | Tensor, features: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Estimates of HSIC(Z, Y) and HSIC(Z, Z), [] each, of unit rows (M, B, D)."""
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    count, batch, _ = z.shape
    total = batch * count
    rows = z.flatten(0, 1)
    a, b = (_fourier_features(rows, c, features, generator) for _ in range(2))
    per_image = a.view(count, batch, features).sum(0)  # (B, features)
    zy = per_image.square().sum() / (total * (count - 1)) - a.mean(0).square().sum()
    cross = (a - a.mean(0)).T @ (b - b.mean(0))  # of independent maps: one map is biased
    return zy, cross.square().sum() / total**2


def _fourier_features(
    rows: Tensor, c: float | Tensor, features: int, generator: torch.Generator
) -> Tensor:
    """Phi(z), (R, features), of ``rows`` (R, D): inner products estimate the kernel."""
    # A Gaussian scale mixture: normal vectors times the length of a normal number.
    spread = torch.randn(features, 1, generator=generator, dtype=torch.float64).abs()
    direction = torch.randn(features, rows.shape[1], generator=generator, dtype=torch.float64)
    phase = torch.rand(features, generator=generator, dtype=torch.float64) * 2 * math.pi
    frequency = (spread * direction).to(rows)
    return math.sqrt(2 / features) * (rows @ frequency.T / c + phase.to(rows)).cos()


@dataclass(frozen=True)
class SSLHSICConfig(Settings):
    """SSL-HSIC with BYOL's heads and target, for the table's protocol."""

    name: Literal["ssl-hsic"] = "ssl-hsic"
    """The method's name."""
    gamma: float = 3.0
    """Weight of sqrt(HSIC(Z, Z)), >= 0."""
    kernel: Kernel = "rff"
    """rff: random Fourier features, redrawn every step; exact: the kernel matrix, no noise."""
    rff_features: int = 512
    """Random Fourier features of a draw, >= 1."""
    initial_scale: float = 1.0
    """c, the kernel's scale, at the start, > 0."""
    scale_lr: float = 3e-4
    """Adam's learning rate for c, >= 0; 0 keeps c."""
    target_decay: float = 0.99
    """Share of itself that the target keeps at a step, at the start, in [0, 1]; rises to 1."""
    target_schedule: TargetSchedule = "epoch"
    """Whether that rise goes by whole epochs (the table's protocol) or by steps (the paper)."""
    hidden_dim: int = 1024
    """Width of the hidden layers of projector and predictor."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        check_decay(self.target_decay)
        for name, least in (("gamma", 0), ("scale_lr", 0), ("rff_features", 1)):
            value = getattr(self, name)
            if not value >= least:
                option = name.replace("_", "-")
                raise IclmsrError(f"method.{option} must be >= {least}, got {value}")
        if not self.initial_scale > 0:
            raise IclmsrError(f"method.initial-scale must be > 0, got {self.initial_scale}")

    def build(self, encoder: Encoder) -> "SSLHSIC":
        """The method around ``encoder``; other initial weights come from torch's generator."""
        return SSLHSIC(self, encoder)


class SSLHSIC(Method):
    """Online predictions and target embeddings of all views are the hiddens: M = 2 V.

    The kernel's scale c is learnt beside theta, by an Adam of its own, so that the kernel's slope
    is steep at the distances that occur; the loss takes it as a constant.

    Source: Li et al. 2021, section 3, and its public code. Departure: heads and target as
    BYOL's in the table's protocol, and no moving average of the weights for evaluation.
    """

    scale: Tensor
    scale_moments: Tensor
    scale_steps: Tensor
    sample_seed: Tensor

    def __init__(self, config: SSLHSICConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.counts_epochs = config.target_schedule == "epoch"
        hidden, dim = config.hidden_dim, config.embedding_dim
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, hidden, dim)
        self.predictor = Projector(dim, hidden, dim)
        self.target = TargetNetwork(encoder, self.projector)
        self.register_buffer("scale", torch.tensor(config.initial_scale))
        self.register_buffer("scale_moments", torch.zeros(2))  # Adam's, of the slope
        self.register_buffer("scale_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("sample_seed", torch.randint(2**31, ()))

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Every network sees one view at a time."""
        online, features = embed_each(
            self.encoder, lambda h: self.predictor(self.projector(h)), views
        )
        return Embeddings(online, embed_target(self.target, views), features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """:func:`ssl_hsic_loss` over the hiddens of both branches, []."""
        return ssl_hsic_loss(
            torch.cat([embeddings.online, embeddings.target]),
            kernel=self.config.kernel,
            scale=self.scale,
            gamma=self.config.gamma,
            features=self.config.rff_features,
            generator=generator,
        )

    def after_step(self, embeddings: Embeddings, progress: float) -> None:
        """The target follows f and g; c takes a step of Adam."""
        decay = target_decay(self.config.target_decay, progress)
        self.target.follow(self.encoder, self.projector, decay=decay)
        self._step_scale(torch.cat([embeddings.online, embeddings.target]))

    @torch.no_grad()
    def _step_scale(self, hiddens: Tensor, *, samples: int = 1024) -> None:
        """One step of Adam for c on :func:`scale_slope`, over rows drawn with replacement."""
        generator = torch.Generator().manual_seed(int(self.sample_seed + self.scale_steps))
        z = F.normalize(hiddens.to(self.scale.dtype), dim=2)
        count, batch, _ = z.shape
        a, b = (
            z.gather(1, rows.to(z.device)[..., None].expand(-1, -1, z.shape[2])).flatten(0, 1)
            for rows in torch.randint(
                batch, (2, count, max(samples // count, 1)), generator=generator
            )
        )
        slope = scale_slope((2 - 2 * a @ b.T).clamp_min(0), self.scale)
        self.scale_steps += 1
        steps, (beta1, beta2) = int(self.scale_steps), (0.9, 0.999)
        first, second = self.scale_moments
        first.lerp_(slope, 1 - beta1)
        second.lerp_(slope**2, 1 - beta2)
        update = (first / (1 - beta1**steps)) / ((second / (1 - beta2**steps)).sqrt() + 1e-8)
        self.scale -= self.config.scale_lr * update


def scale_slope(squared: Tensor, scale: Tensor) -> Tensor:
    """Derivative by c of -mean log |dk / d ||a - b||^2|, [], which c descends.

    With dk / d||.||^2 = -(c / 2) (||.||^2 + c^2)^(-3/2), the slope is the mean of
    3 c / (||.||^2 + c^2) - 1 / c over the pairs whose squared derivative is above 1e-14; it is
    zero where the mean of c^2 / (||.||^2 + c^2) is 1/3.

    Args:
        squared: (R, S) squared distances.
        scale: [] c > 0.

    Source: the public code of Li et al. 2021. Departure: none.

    >>> scale_slope(torch.full((2, 2), 2.0), torch.tensor(1.0)).item()  # orthogonal unit rows
    0.0
    """
    whole = squared + scale**2
    steep = (scale / 2) ** 2 * whole**-3 > 1e-14
    return torch.where(steep, 3 * scale / whole - 1 / scale, 0.0).mean()
