# SPDX-License-Identifier: Apache-2.0
"""One session of a run: from where it stands to its end, or to where it is stopped."""

import contextlib
import json
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch

from iclmsr import checkpoint
from iclmsr.boards import Boards
from iclmsr.config import PretrainConfig
from iclmsr.data.batches import Epoch
from iclmsr.data.decoded import Unreadable
from iclmsr.data.feed import feed_of
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.devices import keep_freed_memory
from iclmsr.distributed import World, any_rank, max_over_ranks
from iclmsr.errors import Diverged, Elsewhere, IclmsrError
from iclmsr.evaluate.online import SHARE, Online
from iclmsr.health import collapse, summary
from iclmsr.interruption import Interrupted, Requests, Stopped, stop_requests
from iclmsr.keeper import Keeper
from iclmsr.optim import learning_rate
from iclmsr.progress import RunProgress
from iclmsr.runs import RunFolder
from iclmsr.schedule import Position, Update, batches_of, plan
from iclmsr.seeds import derive, generator
from iclmsr.stages import Batch, NotFinite, Place, TwoStages


class Session:
    """One session of a run."""

    def __init__(
        self,
        config: PretrainConfig,
        folder: RunFolder,
        images: ImageSet | FileSet,
        world: World,
        device: torch.device,
    ) -> None:
        self.config, self.folder, self.world = config, folder, world
        self.files = images if isinstance(images, FileSet) else None
        self.feed = feed_of(images, device, config.data.workers)
        self.batches = len(images) // config.batch_size
        # Random layers of two processes must not draw the same numbers.
        torch.manual_seed(derive(config.seed, "torch", *([world.rank] if world.rank else [])))
        self.stages = TwoStages(config, device, world)
        self.keeper = Keeper(config, folder, self.stages, images, world)
        self.position = Position()
        self.online: Online | None = None
        if config.online.every_epochs is not None and world.main:
            self.online = Online(config.data, config.online.count(len(images)), device)

    def restore(self, state: dict[str, Any] | None) -> None:
        """Goes back to a checkpoint's state; None is the start of the run."""
        self.position = self.keeper.restore(state)

    def run(self) -> Path:
        """Makes every update that is left."""
        config, position = self.config, self.position
        if self.stages.device.type == "cpu":
            keep_freed_memory()
        updates = sum(len(plan(config, self.batches, epoch)) for epoch in range(config.epochs))
        with (
            stop_requests() as stop,
            RunProgress(
                config.epochs, updates, position.updates, quiet=not self.world.main
            ) as self.progress,
            contextlib.ExitStack() as stack,
            self.feed,
        ):
            self.boards = None
            if self.world.main:
                self.boards = stack.enter_context(Boards(self.folder, config, position.step))
            if self.stages.two is not None and config.msr.learnt == "stage-2":
                engine, why = self.stages.two.choose()
                self.progress.say(f"stage 2 by engine {engine}: {why}")
            if self.files is not None:
                self.progress.say(
                    f"images stay on disk: decoded when needed, {self.feed.workers} workers"
                )
            while position.epoch < config.epochs:
                self._epoch(stop)
        return self.folder.path

    def _epoch(self, stop: Requests) -> None:
        """Makes what is left of the current epoch's plan."""
        config, position = self.config, self.position
        began, first, self.waited = time.monotonic(), position.step, 0.0
        order = None
        if position.item == 0:
            position.ranks = self.world.size
        if self.files is not None:
            order = self.files.order(
                generator(config.seed, "order", position.epoch),
                ranks=position.ranks,
                batch_size=config.batch_size,
            )
        data = Epoch(
            self.feed,
            config.views,
            view_count=config.view_count,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=position.epoch,
            mean=config.data.mean,
            std=config.data.std,
            part=(self.world.rank, self.world.size),
            order=order,
        )
        todo = plan(config, self.batches, position.epoch)
        left = todo[position.item :]
        data.expect([i for update in left for i in batches_of(config, self.batches, update)])
        self.waited += time.monotonic() - began
        for update in left:
            self._update(update, self._batches(data, update, stop))
            seconds = time.monotonic() - began
            speed = (position.step - first) * config.batch_size / seconds
            position.item += 1
            position.updates += 1
            self.progress.update(position.epoch, position.means(), speed)
            every = config.checkpoint.every_steps
            due = every is not None and position.updates % every == 0
            if position.item == len(todo):
                due = self._finish_epoch(speed, seconds) or due
            stopped = max_over_ranks(stop[0] if stop else 0)
            if due or stopped:
                self.keeper.save(self.position)
            if stopped and position.epoch < config.epochs:
                self._interrupt(stopped)

    def _interrupt(self, stopped: int) -> NoReturn:
        """Ends the session after the signal ``stopped``."""
        if not self.world.main:
            raise Elsewhere(128 + stopped)
        raise Interrupted(
            stopped,
            f"stopped by {signal.Signals(stopped).name} after step {self.position.step}; "
            f"go on with: iclmsr pretrain --resume {self.folder.path}",
        )

    def _batches(self, data: Epoch, update: Update, stop: Requests) -> list[Batch]:
        """What an update sees; if a rank cannot have its part, all save where they are and stop."""
        failure: Unreadable | Stopped | None = None
        asked, batches = time.monotonic(), []
        try:
            with contextlib.nullcontext() if self.files is None else stop.cut_short():
                for batch in batches_of(self.config, self.batches, update):
                    place = Place(self.position.epoch, batch)
                    batches.append(Batch(data.views(batch), place))
        except (Unreadable, Stopped) as error:
            failure = error
        self.waited += time.monotonic() - asked
        if self.files is None or not any_rank(failure is not None):
            return batches
        self.keeper.save(self.position)
        stopped = max_over_ranks(stop[0] if stop else 0)
        if stopped:  # the workers got the signal, too
            self._interrupt(stopped)
        if not isinstance(failure, Unreadable):
            raise Elsewhere
        again = f"iclmsr pretrain --resume {self.folder.path} {failure.options}".rstrip()
        raise IclmsrError(f"{failure}; nothing is lost, go on with: {again}") from failure

    def _update(self, update: Update, batches: list[Batch]) -> None:
        """Makes one update, or says what led to a loss that is not finite."""
        config, position = self.config, self.position
        inner, outer = batches[0], batches[-1]
        rate = {"steps_per_epoch": self.batches, "epochs": config.epochs}
        try:
            if update.kind == "psi":
                lr = learning_rate(config.optimizer, max(position.step - 1, 0), **rate)
                losses = self.stages.psi_step(inner, outer, lr=lr)
            else:
                done = position.step / (self.batches * config.epochs)
                if self.stages.method.counts_epochs:
                    done = position.epoch / config.epochs
                losses, health = self.stages.theta_step(
                    *inner,
                    lr=learning_rate(config.optimizer, position.step, **rate),
                    progress=done,
                    health=update.batch == self.batches - 1,
                    outer=outer if update.kind == "both" else None,
                )
                position.step += 1
                position.health = health
                if health:
                    self._record_weights()
                if position.step % config.log_every == 0:
                    self._record("step", losses)
        except NotFinite as error:
            good = checkpoint.checkpoints(self.folder.checkpoints)
            raise Diverged(
                f"loss not finite at step {position.step} ({error}); "
                f"means of the epoch before it: {json.dumps(position.means())}; "
                f"the last checkpoint is {good[-1] if good else 'not written yet'}: "
                "lower the learning rate or raise the temperature, and start again"
            ) from error
        position.add(losses)

    def _finish_epoch(self, speed: float, seconds: float) -> bool:
        """Reports the epoch and begins the next; says whether a checkpoint is due.

        ``data_wait`` is the share of the epoch's time, in [0, 1], between asking for views and
        having them, as rank 0's host sees it: with images in memory it is the time to make the
        views, or, on a GPU, to order them, as nothing waits for that here.
        """
        config, position = self.config, self.position
        wait = self.waited / seconds
        self.progress.epoch(position.epoch, position.means(), speed, position.health, wait)
        warning = collapse(position.health)
        if warning is not None:
            self.progress.say(f"warning: {warning}")
        position.epoch += 1
        self._record(
            "epoch",
            {
                **position.means(),
                **position.health,
                "images_per_second": speed,
                "seconds": seconds,
                "data_wait": wait,
            },
        )
        self._record_replaced()
        self._look(seconds)
        position.item, position.sums, position.health = 0, {}, {}
        last = position.epoch == config.epochs
        return last or position.epoch % config.checkpoint.every_epochs == 0

    def _look(self, seconds: float) -> None:
        """Judges the encoder on the side, on rank 0, where it is due.

        Args:
            seconds: That the epoch took.
        """
        every = self.config.online.every_epochs
        if self.online is None or every is None or self.position.epoch % every:
            return
        # The bare network: what is compiled would be compiled again for evaluation.
        glance = self.online(self.stages.method.encoder.network)
        share = glance.seconds / (every * seconds)
        self._record("online", {**asdict(glance), "share": share})
        line = (
            f"online, {len(self.online.asked)} training images held out: 5-nn "
            f"{glance.knn_top1:.1f} %, linear {glance.linear_top1:.1f} %; "
            f"{100 * share:.1f} % of the epochs' time"
        )
        if share > SHARE:
            line += f", more than {100 * SHARE:.0f} %: raise online.every-epochs"
        self.progress.say(line)

    def _record(self, event: str, values: dict[str, float]) -> None:
        """Writes values to metrics.jsonl and the boards, on rank 0."""
        if self.boards is None:
            return
        position = self.position
        self.folder.log(event=event, epoch=position.epoch, step=position.step, **values)
        self.boards.add(event, values, position.step)

    def _record_weights(self) -> None:
        """Writes the strata weights of the epoch that ends to weights.jsonl, on rank 0."""
        weights = self.stages.strata_weights
        if self.boards is not None and weights is not None:
            self.folder.weights.add(epoch=self.position.epoch + 1, **summary(weights))

    def _record_replaced(self) -> None:
        """Writes to metrics.jsonl which files others have taken the place of, if it is news."""
        files, position = self.files, self.position
        if files is None:
            return
        replaced = sorted({*position.replaced, *self.keeper.instead()})
        if self.boards is not None and replaced != position.replaced:
            names = sorted(files.tree.where(files.files[place]) for place in replaced)
            self.folder.log(event="replaced", epoch=position.epoch, files=names)
        position.replaced = replaced
