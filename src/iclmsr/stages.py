# SPDX-License-Identifier: Apache-2.0
"""The two stages: theta and psi, their optimizers, and one update of each kind."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from iclmsr.bilevel import Known, Ranks, parameters_of
from iclmsr.bilevel.functional import random_state
from iclmsr.config import PretrainConfig
from iclmsr.distributed import World, gather_outputs, sum_over_ranks_
from iclmsr.encoders.start import starting_encoder
from iclmsr.health import measure
from iclmsr.methods.base import Embeddings, Method
from iclmsr.networks import Encoder, sync_batch_norm
from iclmsr.optim import build_optimizer
from iclmsr.regularizer import MetaSemanticRegularizer
from iclmsr.seeds import derive, generator
from iclmsr.stage_two import DIFFERENTIATED, Batch, NotFinite, Place, StageTwo

__all__ = ["Batch", "NotFinite", "Place", "TwoStages"]


class TwoStages:
    """Theta (networks) and psi (regularizer), and how each is updated.

    Initial weights come from the config's seed, and from its ``init`` if it has one. With
    several processes each embeds its own part of a batch, and each computes the losses of the
    whole.

    Attributes:
        method: The contrastive method, holding theta; in training mode.
        two: Stage 2, holding psi, or None.
        strata_weights: (n, D) A_s at the last step that measured health, its mean over the images
            where each has its own; None before, and without the regularizer.
    """

    def __init__(
        self, config: PretrainConfig, device: torch.device, world: World | None = None
    ) -> None:
        self.config, self.device = config, device
        self.world = world or World()
        alone = self.world.size == 1
        encoder = starting_encoder(config.encoder, config.seed, config.init)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(config.seed, "method"))
            method = config.method.build(encoder)
        if not alone and config.sync_batch_norm:
            beyond = config.msr.enabled and config.msr.engine in DIFFERENTIATED
            sync_batch_norm(method, device, higher_order=beyond)
        method.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.method: Method = method.train()
        if config.compile:
            for module in self.method.modules():
                if isinstance(module, Encoder):
                    module.compile(dynamic=False)
        self.theta = parameters_of(self.method)
        self.optimizer = build_optimizer(config.optimizer, self.theta.values())
        # Batch norm's statistics of rank 0 are everybody's, so that its checkpoint is the run's.
        self.network: nn.Module = self.method
        if not alone:
            # Its reducer keeps a group and the group's threads for good. Not the one of the last
            # messages: such a thread that lets go of a tensor while Python ends aborts.
            self.network = DistributedDataParallel(self.method, process_group=dist.new_group())
        self.two: StageTwo | None = None
        self.strata_weights: Tensor | None = None
        if config.msr.enabled:
            self.two = StageTwo(
                config,
                self.method,
                self.theta,
                self.optimizer,
                self._contrastive,
                Ranks(gather_outputs, sum_over_ranks_),
                alone=alone,
                device=device,
            )

    @property
    def msr(self) -> MetaSemanticRegularizer | None:
        """The regularizer, holding psi, or None."""
        return None if self.two is None else self.two.msr

    def theta_step(
        self,
        views: Sequence[Tensor],
        place: Place,
        *,
        lr: float,
        progress: float,
        health: bool = False,
        outer: Batch | None = None,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Stage 1, Eq. 4: one optimizer step of theta with A_s held fixed.

        Args:
            views: V of (b, 3, S, S), of this process's images.
            place: Which batch this is.
            lr: Learning rate of the step.
            progress: Share of the run that was done before it, in [0, 1].
            health: Whether to measure the batch's health.
            outer: Judge psi on this batch, too: stage 2 with the same batch and theta, before
                theta's step, sharing embeddings and gradient.

        Returns:
            The losses by name in nats, and the health (empty unless asked for).

        Raises:
            NotFinite: A loss is not finite, or a gradient of psi.
        """
        views = _channels_last(views)
        before = random_state(self.device) if outer is not None else None
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            own: Embeddings = self.network(views)
        # DistributedDataParallel takes means of gradients where sums over the parts are due.
        embeddings = gather_outputs(own, scale=self.world.size)
        contrastive = self._contrastive(embeddings, place)
        losses = {"contrastive": contrastive}
        loss = contrastive
        jointly = self.two is not None and self.config.msr.learnt == "jointly"
        if self.two is not None:
            losses["interventional"] = self.two.msr(*embeddings, fixed=not jointly)
            loss = contrastive + self.config.msr.loss_weight * losses["interventional"]
        values = {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}
        if not torch.isfinite(loss):
            raise NotFinite(", ".join(f"{name} {value:g}" for name, value in values.items()))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if outer is not None:
            gradient = [
                torch.zeros_like(p) if p.grad is None else p.grad for p in self.theta.values()
            ]
            known = Known(own, gradient, before)
            values |= self._judge(Batch(views, place), outer, lr=lr, known=known)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if self.two is not None and jointly:
            self.two.follow()
        self.method.after_step(embeddings, progress)
        if health and self.msr is not None:
            with torch.no_grad():
                weights = self.msr.weights(embeddings.features)
            self.strata_weights = weights.flatten(0, -3).mean(0) if weights.ndim > 2 else weights
        return values, measure(embeddings, self.msr) if health else {}

    def psi_step(self, inner: Batch, outer: Batch, *, lr: float) -> dict[str, float]:
        """Stage 2, Eq. 5, on its own: one update of psi through a virtual step of theta.

        See :meth:`StageTwo.step`.
        """
        return self._judge(Batch(_channels_last(inner.views), inner.place), outer, lr=lr)

    def _judge(
        self, inner: Batch, outer: Batch, *, lr: float, known: Known | None = None
    ) -> dict[str, float]:
        """One update of psi; ``inner`` has its memory format already."""
        assert self.two is not None, "a run without the regularizer has no stage 2"
        if outer.place == inner.place:
            outer = inner
        else:
            outer = Batch(_channels_last(outer.views), outer.place)
        return self.two.step(inner, outer, lr=lr, known=known)

    def _contrastive(self, embeddings: Embeddings, place: Place) -> Tensor:
        """L_cl with the random numbers of its place in the run."""
        return self.method.loss(embeddings, generator=generator(self.config.seed, "loss", *place))

    def state_dict(self) -> dict[str, Any]:
        """Everything that updates change."""
        state = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
        return state if self.two is None else {**state, **self.two.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` returned."""
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.two is not None:
            self.two.load_state_dict(state)


def _channels_last(views: Sequence[Tensor]) -> list[Tensor]:
    """The views in the memory format that convolutions are fastest in."""
    return [view.contiguous(memory_format=torch.channels_last) for view in views]
