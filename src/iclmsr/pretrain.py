# SPDX-License-Identifier: Apache-2.0
"""Pretraining: the schedule of the two stages, the run folder, and exact resumption."""

import json
import signal
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from iclmsr import checkpoint
from iclmsr.config import PretrainConfig, decode, encode
from iclmsr.data.batches import Epoch
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import load
from iclmsr.devices import choose_device
from iclmsr.errors import IclmsrError
from iclmsr.health import collapse
from iclmsr.interruption import Interrupted, stop_requests
from iclmsr.networks import write_encoder
from iclmsr.optim import learning_rate
from iclmsr.progress import RunProgress
from iclmsr.runs import RunFolder, environment
from iclmsr.schedule import Position, Update, plan
from iclmsr.seeds import derive
from iclmsr.stages import NotFinite, Place, TwoStages


def pretrain(config: PretrainConfig, out: Path) -> Path:
    """Pretrains an encoder and writes a run folder.

    Seeds torch's global generator, which stochastic layers of an encoder draw from.

    Args:
        config: The whole run.
        out: The run folder to make.

    Returns:
        ``out``, complete.

    Raises:
        IclmsrError: Anything in the way, before the folder is made; a loss that is not finite;
            a disk that is full. :class:`Interrupted` on SIGTERM or SIGINT.
    """
    RunFolder.check_free(out)
    device = choose_device(config.device)
    images = _training_images(config)
    folder = RunFolder.create(out, encode(config), _environment(config, device, images))
    with folder.lock():
        return _Pretraining(config, folder, images, device).run()


def resume(path: Path, *, root: Path | None = None) -> Path:
    """Continues a run exactly where its newest good checkpoint left it.

    Args:
        path: The run folder, which may have been moved.
        root: Where the data lie now, if they were moved.

    Returns:
        ``path``, complete.

    Raises:
        IclmsrError: Not a run folder, or the data are not the same. As :func:`pretrain`.
    """
    folder = RunFolder.open(path)
    config = decode(PretrainConfig, folder.config())
    if root is not None:
        config = replace(config, data=replace(config.data, root=root))
    with folder.lock():
        folder.remove_scraps()
        state = checkpoint.load_newest(folder.checkpoints)
        if state is not None and state["position"]["epoch"] == config.epochs:
            return path
        device = choose_device(config.device)
        images = _training_images(config)
        if state is not None and state["data"] != images.fingerprint():
            raise IclmsrError(
                f"the images in {config.data.root} are not those that {path} was trained on: "
                "pass --data.root with the folder that holds them"
            )
        folder.add_session(_environment(config, device, images))
        run = _Pretraining(config, folder, images, device)
        run.restore(state)
        return run.run()


def _training_images(config: PretrainConfig) -> ImageSet:
    """The training images, at least one batch of them."""
    images = load(config.data, "train")
    if images.skipped:
        warnings.warn(
            f"{len(images.skipped)} images did not decode and are left out: environment.json "
            f"lists them, {images.skipped[0]} first",
            stacklevel=2,
        )
    if config.batch_size > len(images):
        raise IclmsrError(
            f"batch size {config.batch_size} is larger than the data set of {len(images)} images: "
            f"pass --batch-size {len(images)} or less"
        )
    return images


def _environment(config: PretrainConfig, device: torch.device, images: ImageSet) -> dict[str, Any]:
    """What environment.json says of this session."""
    return environment(
        config.seed,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        images=len(images),
        skipped=list(images.skipped),
        data=images.fingerprint(),
    )


class _Pretraining:
    """One session of a run."""

    def __init__(
        self, config: PretrainConfig, folder: RunFolder, images: ImageSet, device: torch.device
    ) -> None:
        self.config, self.folder = config, folder
        self.fingerprint = images.fingerprint()
        self.images = images.images.to(device)
        self.batches = len(images) // config.batch_size
        torch.manual_seed(derive(config.seed, "torch"))
        self.stages = TwoStages(config, device)
        self.position = Position()

    def restore(self, state: dict[str, Any] | None) -> None:
        """Goes back to a checkpoint's state; None is the start of the run."""
        if state is not None:
            self.position = Position(**state["position"])
            self.stages.load_state_dict(state["stages"])
            checkpoint.restore_random_states(state["random"])
        self.folder.truncate_metrics(self.position.metrics_size)

    def run(self) -> Path:
        """Makes every update that is left."""
        config, position = self.config, self.position
        updates = sum(len(plan(config, self.batches, epoch)) for epoch in range(config.epochs))
        with (
            stop_requests() as stop,
            RunProgress(config.epochs, updates, position.updates) as self.progress,
            SummaryWriter(
                str(self.folder.path / "tensorboard"), purge_step=position.step or None
            ) as self.board,
        ):
            while position.epoch < config.epochs:
                self._epoch(stop)
        return self.folder.path

    def _epoch(self, stop: list[int]) -> None:
        """Makes what is left of the current epoch's plan."""
        config, position = self.config, self.position
        data = Epoch(
            self.images,
            config.views,
            view_count=config.view_count,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=position.epoch,
            mean=config.data.mean,
            std=config.data.std,
        )
        todo = plan(config, self.batches, position.epoch)
        began, first = time.monotonic(), position.step
        for update in todo[position.item :]:
            self._update(data, update)
            seconds = time.monotonic() - began
            speed = (position.step - first) * config.batch_size / seconds
            position.item += 1
            position.updates += 1
            self.progress.update(position.epoch, position.means(), speed)
            every = config.checkpoint.every_steps
            due = every is not None and position.updates % every == 0
            if position.item == len(todo):
                due = self._finish_epoch(speed, seconds) or due
            if due or stop:
                self._save()
            if stop and position.epoch < config.epochs:
                raise Interrupted(
                    stop[0],
                    f"stopped by {signal.Signals(stop[0]).name} after step {position.step}; "
                    f"go on with: iclmsr pretrain --resume {self.folder.path}",
                )

    def _update(self, data: Epoch, update: Update) -> None:
        """Makes one update, or says what led to a loss that is not finite."""
        config, position = self.config, self.position
        place = Place(position.epoch, update.batch)
        rate = {"steps_per_epoch": self.batches, "epochs": config.epochs}
        try:
            if update.kind == "theta":
                done = position.step / (self.batches * config.epochs)
                if self.stages.method.counts_epochs:
                    done = position.epoch / config.epochs
                losses, health = self.stages.theta_step(
                    data.views(update.batch),
                    place,
                    lr=learning_rate(config.optimizer, position.step, **rate),
                    progress=done,
                    health=update.batch == self.batches - 1,
                )
                position.step += 1
                position.health = health
                if position.step % config.log_every == 0:
                    self._record("step", losses)
            else:
                outer = update.batch
                if config.msr.outer_batch == "fresh":
                    outer = (update.batch + 1) % self.batches
                losses = self.stages.psi_step(
                    data.views(update.batch),
                    data.views(outer),
                    place,
                    Place(position.epoch, outer),
                    lr=learning_rate(config.optimizer, max(position.step - 1, 0), **rate),
                )
        except NotFinite as error:
            good = checkpoint.checkpoints(self.folder.checkpoints)
            raise IclmsrError(
                f"loss not finite at step {position.step} ({error}); "
                f"means of the epoch before it: {json.dumps(position.means())}; "
                f"the last checkpoint is {good[-1] if good else 'not written yet'}: "
                "lower the learning rate or raise the temperature, and start again"
            ) from error
        position.add(losses)

    def _finish_epoch(self, speed: float, seconds: float) -> bool:
        """Reports the epoch and begins the next; says whether a checkpoint is due."""
        config, position = self.config, self.position
        self.progress.epoch(position.epoch, position.means(), speed, position.health)
        warning = collapse(position.health)
        if warning is not None:
            self.progress.say(f"warning: {warning}")
        position.epoch += 1
        self._record(
            "epoch",
            {**position.means(), **position.health, "images_per_second": speed, "seconds": seconds},
        )
        position.item, position.sums, position.health = 0, {}, {}
        last = position.epoch == config.epochs
        return last or position.epoch % config.checkpoint.every_epochs == 0

    def _record(self, event: str, values: dict[str, float]) -> None:
        """Writes values to metrics.jsonl and TensorBoard."""
        position = self.position
        self.folder.log(event=event, epoch=position.epoch, step=position.step, **values)
        for name, value in values.items():
            self.board.add_scalar(f"{event}/{name}", value, position.step)

    def _save(self) -> None:
        """Writes a checkpoint and the encoder as it stands."""
        position = self.position
        position.metrics_size = self.folder.metrics_size()
        state = {
            "position": asdict(position),
            "stages": self.stages.state_dict(),
            "random": checkpoint.random_states(),
            "data": self.fingerprint,
        }
        keep = self.config.checkpoint.keep
        checkpoint.save(self.folder.checkpoints, position.updates, state, keep=keep)
        write_encoder(
            self.folder.encoder,
            self.stages.method.encoder,
            self.config.encoder,
            epoch=position.epoch,
            step=position.step,
        )
