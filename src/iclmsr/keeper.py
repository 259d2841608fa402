# SPDX-License-Identifier: Apache-2.0
"""What a run writes down so that it can go on, and how it goes back to that."""

from dataclasses import asdict
from typing import Any

from iclmsr import checkpoint
from iclmsr.config import PretrainConfig
from iclmsr.distributed import World, gather_object, together
from iclmsr.encoders import Preprocessing
from iclmsr.networks import write_encoder
from iclmsr.runs import RunFolder
from iclmsr.schedule import Position
from iclmsr.stages import TwoStages


class Keeper:
    """Saves and restores a run; rank 0 writes for all.

    Args:
        config: The run.
        folder: Its folder.
        stages: What updates change.
        fingerprint: What its data are known by.
        world: The processes.
    """

    def __init__(
        self,
        config: PretrainConfig,
        folder: RunFolder,
        stages: TwoStages,
        fingerprint: str,
        world: World,
    ) -> None:
        self.config, self.folder, self.stages = config, folder, stages
        self.fingerprint, self.world = fingerprint, world

    def save(self, position: Position) -> None:
        """Writes a checkpoint, and the encoder as it stands."""
        random = gather_object(checkpoint.random_states())
        together(lambda: self._write(position, random))

    def restore(self, state: dict[str, Any] | None) -> Position:
        """Goes back to a checkpoint's state, files too; None is the start of the run."""
        position = Position() if state is None else Position(**state["position"])
        if state is not None:
            self.stages.load_state_dict(state["stages"])
            if self.world.rank < len(state["random"]):
                checkpoint.restore_random_states(state["random"][self.world.rank])
        if self.world.main:
            self.folder.truncate_metrics(position.metrics_size)
            self.folder.weights.cut(position.weights_size)
        if state is not None:  # it may have been killed between the checkpoint and the encoder
            together(lambda: self._write_encoder(position))
        return position

    def _write(self, position: Position, random: list[dict[str, Any]]) -> None:
        """Rank 0's part of saving; ``random`` holds every rank's random states."""
        position.metrics_size = self.folder.metrics_size()
        position.weights_size = self.folder.weights.size()
        state = {
            "position": asdict(position),
            "stages": self.stages.state_dict(),
            "random": random,
            "data": self.fingerprint,
        }
        keep = self.config.checkpoint.keep
        checkpoint.save(self.folder.checkpoints, position.updates, state, keep=keep)
        self._write_encoder(position)

    def _write_encoder(self, position: Position) -> None:
        """Writes the encoder."""
        write_encoder(
            self.folder.encoder,
            self.stages.method.encoder,
            self.config.encoder,
            epoch=position.epoch,
            step=position.step,
            preprocessing=Preprocessing.of(self.config.data).to_json(),
        )
