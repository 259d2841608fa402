# SPDX-License-Identifier: Apache-2.0
"""The two stages: theta and psi, their optimizers, and one update of each kind."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclmsr.bilevel import meta_gradient, parameters_of, stateless
from iclmsr.config import PretrainConfig
from iclmsr.errors import IclmsrError
from iclmsr.health import measure
from iclmsr.methods.base import Embeddings, Method
from iclmsr.networks import initial_encoder
from iclmsr.optim import OptimizerConfig, build_optimizer
from iclmsr.regularizer import MetaSemanticRegularizer
from iclmsr.seeds import derive, generator


class NotFinite(IclmsrError):
    """A loss or a gradient of psi is infinite or not a number; nothing was updated with it."""


class Place(NamedTuple):
    """Where in the run an update stands; seeds what is random in its losses."""

    epoch: int
    batch: int


class TwoStages:
    """Theta (networks) and psi (regularizer), and how each is updated.

    Initial weights come from the config's seed alone.

    Attributes:
        method: The contrastive method, holding theta; in training mode.
        msr: The regularizer, holding psi, or None.
    """

    def __init__(self, config: PretrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        encoder = initial_encoder(config.encoder, config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(config.seed, "method"))
            method = config.method.build(encoder)
        method.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.method: Method = method.train()
        self.theta = parameters_of(self.method)
        self.optimizer = build_optimizer(config.optimizer, self.theta.values())
        self.msr = self._build_msr(encoder.feature_dim) if config.msr.enabled else None
        if self.msr is not None:
            self.psi = list(self.msr.parameters())
            psi_config = OptimizerConfig(
                name=config.msr.optimizer, lr=config.msr.lr, weight_decay=0.0
            )
            self.psi_optimizer = build_optimizer(psi_config, self.psi)

    def _build_msr(self, feature_dim: int) -> MetaSemanticRegularizer:
        """The regularizer with the config's choices and the base method's temperature."""
        config, method = self.config.msr, self.config.method
        temperature = config.temperature or getattr(method, "temperature", None) or 0.5
        return MetaSemanticRegularizer(
            method.embedding_dim,
            strata=config.strata,
            source=config.source,
            feature_dim=feature_dim * self.config.view_count,
            bound=config.bound,
            prior=config.prior,
            temperature=temperature,
            negatives=config.negatives,
            hidden=config.hidden_dim,
            generator=generator(self.config.seed, "msr"),
        ).to(self.device)

    def theta_step(
        self, views: Sequence[Tensor], place: Place, *, lr: float, progress: float, health: bool
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Stage 1, Eq. 4: one optimizer step of theta with A_s held fixed.

        Args:
            views: V of (B, 3, S, S).
            place: Which batch this is.
            lr: Learning rate of the step.
            progress: Share of the run that was done before it, in [0, 1].
            health: Whether to measure the batch's health.

        Returns:
            The losses by name in nats, and the health (empty unless asked for).

        Raises:
            NotFinite: The loss is not finite.
        """
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            embeddings: Embeddings = self.method(_channels_last(views))
        contrastive = self._contrastive(embeddings, place)
        losses = {"contrastive": contrastive}
        loss = contrastive
        if self.msr is not None:
            losses["interventional"] = self.msr(*embeddings)
            loss = contrastive + self.config.msr.loss_weight * losses["interventional"]
        values = {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}
        if not torch.isfinite(loss):
            raise NotFinite(", ".join(f"{name} {value:g}" for name, value in values.items()))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.method.after_step(embeddings, progress)
        return values, measure(embeddings, self.msr) if health else {}

    def psi_step(
        self,
        inner: Sequence[Tensor],
        outer: Sequence[Tensor],
        inner_place: Place,
        outer_place: Place,
        *,
        lr: float,
    ) -> dict[str, float]:
        """Stage 2, Eq. 5: one optimizer step of psi through a virtual step of theta.

        Args:
            inner: Views that the virtual step is taken on.
            outer: Views that theta' is judged on.
            inner_place: Which batch ``inner`` is.
            outer_place: Which batch ``outer`` is.
            lr: Theta's current learning rate, the default alpha.

        Returns:
            ``outer``: L_cl(theta') in nats.

        Raises:
            NotFinite: The outer loss or a gradient is not finite.
        """
        msr, config = self.msr, self.config.msr
        assert msr is not None, "a run without the regularizer has no stage 2"

        def inner_loss(embeddings: Embeddings) -> Tensor:
            interventional: Tensor = msr(*embeddings, fixed=False)
            return self._contrastive(embeddings, inner_place) + config.loss_weight * interventional

        def diversity(embeddings: Embeddings) -> Tensor:
            return msr.diversity(embeddings.features) * config.diversity_weight

        gradient = meta_gradient(
            stateless(self.method),
            inner_loss,
            lambda embeddings: self._contrastive(embeddings, outer_place),
            self.theta,
            self.psi,
            _channels_last(inner),
            _channels_last(outer),
            alpha=lr if config.inner_lr is None else config.inner_lr,
            direct=diversity if config.diversity_weight else None,
        )
        finite = all(bool(g.isfinite().all()) for g in (gradient.outer_loss, *gradient.psi))
        if not finite:
            raise NotFinite(f"outer {gradient.outer_loss.item():g} or its gradient for psi")
        for tensor, slope in zip(self.psi, gradient.psi, strict=True):
            tensor.grad = slope
        self.psi_optimizer.step()
        self.psi_optimizer.zero_grad()
        return {"outer": gradient.outer_loss.item()}

    def _contrastive(self, embeddings: Embeddings, place: Place) -> Tensor:
        """L_cl with the random numbers of its place in the run."""
        return self.method.loss(embeddings, generator=generator(self.config.seed, "loss", *place))

    def state_dict(self) -> dict[str, Any]:
        """Everything that updates change."""
        state = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.msr is not None:
            state["msr"] = self.msr.state_dict()
            state["psi_optimizer"] = self.psi_optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` returned."""
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.msr is not None:
            self.msr.load_state_dict(state["msr"])
            self.psi_optimizer.load_state_dict(state["psi_optimizer"])


def _channels_last(views: Sequence[Tensor]) -> list[Tensor]:
    """The views in the memory format that convolutions are fastest in."""
    return [view.contiguous(memory_format=torch.channels_last) for view in views]
