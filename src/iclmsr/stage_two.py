# SPDX-License-Identifier: Apache-2.0
"""Stage 2: the regularizer, its optimizer, and psi's updates by the meta-gradient."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclmsr.bilevel import (
    Engine,
    Known,
    MetaGradient,
    Ranks,
    Theta,
    automatic,
    cosine,
    meta_gradient,
    sgd,
    stateless,
    step_of,
)
from iclmsr.bilevel.tangents import RELATIVE_STEPS
from iclmsr.config import PretrainConfig
from iclmsr.errors import IclmsrError
from iclmsr.methods.base import Embeddings, Method
from iclmsr.optim import OptimizerConfig, build_optimizer
from iclmsr.regularizer import MetaSemanticRegularizer
from iclmsr.seeds import generator

DIFFERENTIATED = ("reference", "forward", "dual")
"""Engines that differentiate networks beyond one backward pass."""


class NotFinite(IclmsrError):
    """A loss or a gradient of psi is infinite or not a number; nothing was updated with it."""


class Place(NamedTuple):
    """Where in the run an update stands; seeds what is random in its losses."""

    epoch: int
    batch: int


class Batch(NamedTuple):
    """V views (b, 3, S, S) of the images of this process, and which batch they are of."""

    views: Sequence[Tensor]
    place: Place


class StageTwo:
    """Psi and how it is updated.

    Args:
        config: The run.
        method: Holds theta; the bare module.
        theta: Its trainable parameters.
        optimizer: Theta's; its state is read where the virtual step is to be its own.
        contrastive: L_cl of embeddings at a place in the run.
        ranks: How processes join their parts of a batch.

    Attributes:
        msr: The regularizer.
        engine: How the meta-gradient is computed, and why: set by the first update.

    Raises:
        IclmsrError: An engine that cannot work with what the run is made of.
    """

    def __init__(
        self,
        config: PretrainConfig,
        method: Method,
        theta: Theta,
        optimizer: torch.optim.Optimizer,
        contrastive: Callable[[Embeddings, Place], Tensor],
        ranks: Ranks,
        *,
        alone: bool,
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        self.method, self.theta, self.optimizer = method, theta, optimizer
        self.contrastive, self.ranks = contrastive, ranks
        self.msr = _regularizer(config, method.encoder.feature_dim).to(device)
        self.psi = list(self.msr.parameters())
        self.psi_optimizer = build_optimizer(
            OptimizerConfig(name=config.msr.optimizer, lr=config.msr.lr, weight_decay=0.0), self.psi
        )
        self.updates = 0
        self.engine: tuple[Engine, str] | None = None
        if config.msr.engine == "reference" and not alone:
            raise IclmsrError(
                "msr.engine 'reference' needs the whole batch in one process: "
                "choose auto, difference, dual or forward"
            )

    def choose(self) -> tuple[Engine, str]:
        """The engine, and why it is this one."""
        if self.engine is None:
            chosen = self.config.msr.engine
            self.engine = automatic(self.theta) if chosen == "auto" else (chosen, "as configured")
        return self.engine

    def step(
        self, inner: Batch, outer: Batch, *, lr: float, known: Known | None = None
    ) -> dict[str, float]:
        """Adds one meta-gradient; every ``msr.average``-th call steps psi with their mean.

        Args:
            inner: What the virtual step is taken on.
            outer: What theta' is judged on.
            lr: Theta's current learning rate, the default alpha.
            known: What stage 1 has computed on ``inner``, with theta as it is now.

        Returns:
            ``outer``: L_cl(theta') in nats; with engine ``free`` now and then ``free_cosine``.

        Raises:
            NotFinite: The outer loss or a gradient is not finite.
        """
        config = self.config.msr
        if config.images is not None:
            inner, outer = (
                Batch([view[: config.images] for view in part.views], part.place)
                for part in (inner, outer)
            )
            known = None
        if config.source == "features-attached":
            known = None  # stage 1 let no gradient through A_s, the virtual step does
        engine = self.choose()[0]
        found = self._solve(engine, inner, outer, lr, known)
        values = {"outer": found.outer_loss.item()}
        if not all(bool(g.isfinite().all()) for g in (found.outer_loss, *found.psi)):
            raise NotFinite(f"outer {values['outer']:g} or its gradient for psi")
        if engine == "free" and self.updates % config.cosine_every == 0:
            truth = self._solve(automatic(self.theta)[0], inner, outer, lr, known)
            values["free_cosine"] = cosine(found.psi, truth.psi)
        for tensor, slope in zip(self.psi, found.psi, strict=True):
            share = slope / config.average
            tensor.grad = share if tensor.grad is None else tensor.grad + share
        self.updates += 1
        if self.updates % config.average == 0:
            self.psi_optimizer.step()
            self.psi_optimizer.zero_grad()
        return values

    def follow(self) -> None:
        """Steps psi along the gradient that stage 1 has just left in it, an ablation of Eq. 5."""
        self.psi_optimizer.step()
        self.psi_optimizer.zero_grad()

    def _solve(
        self, engine: Engine, inner: Batch, outer: Batch, lr: float, known: Known | None
    ) -> MetaGradient:
        """The meta-gradient of one pair of batches."""
        msr, config = self.msr, self.config.msr
        call = stateless(self.method)
        differentiated = engine in DIFFERENTIATED
        half = self.config.precision == "bf16" and engine not in ("reference", "forward")
        rounded = RELATIVE_STEPS[torch.bfloat16, config.difference_sides] if half else None

        def embed(theta: Theta, views: Sequence[Tensor]) -> Any:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                if not (self.config.compile and differentiated):
                    return call(theta, views)
                with torch.compiler.set_stance("force_eager"):
                    return call(theta, views)

        def inner_loss(embeddings: Embeddings) -> Tensor:
            interventional: Tensor = msr(*embeddings, fixed=False)
            return self.contrastive(embeddings, inner.place) + config.loss_weight * interventional

        def diversity(embeddings: Embeddings) -> Tensor:
            return msr.diversity(embeddings.features) * config.diversity_weight

        alpha = lr if config.inner_lr is None else config.inner_lr
        own = config.inner_step == "optimizer"
        return meta_gradient(
            embed,
            inner_loss,
            lambda embeddings: self.contrastive(embeddings, outer.place),
            self.theta,
            self.psi,
            inner.views,
            outer.views,
            step=step_of(self.optimizer, self.theta, lr=alpha) if own else sgd(alpha),
            direct=diversity if config.diversity_weight else None,
            engine=engine,
            known=known,
            sides=config.difference_sides,
            relative_step=config.difference_step or rounded,
            ranks=self.ranks,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that updates change."""
        return {
            "msr": self.msr.state_dict(),
            "psi_optimizer": self.psi_optimizer.state_dict(),
            "psi_gradients": [tensor.grad for tensor in self.psi],
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` returned."""
        self.msr.load_state_dict(state["msr"])
        self.psi_optimizer.load_state_dict(state["psi_optimizer"])
        for tensor, slope in zip(self.psi, state["psi_gradients"], strict=True):
            tensor.grad = None if slope is None else slope.to(tensor)
        self.updates = state["updates"]


def _regularizer(config: PretrainConfig, feature_dim: int) -> MetaSemanticRegularizer:
    """The regularizer with the config's choices and the base method's temperature."""
    msr, method = config.msr, config.method
    return MetaSemanticRegularizer(
        method.embedding_dim,
        strata=msr.strata,
        source=msr.source,
        feature_dim=feature_dim * config.view_count,
        bound=msr.bound,
        prior=msr.prior,
        temperature=msr.temperature or getattr(method, "temperature", None) or 0.5,
        negatives=msr.negatives,
        hidden=msr.hidden_dim,
        generator=generator(config.seed, "msr"),
    )
