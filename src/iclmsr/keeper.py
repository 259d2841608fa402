# SPDX-License-Identifier: Apache-2.0
"""What a run writes down so that it can go on, and how it goes back to that."""

from dataclasses import asdict
from typing import Any

from iclmsr import checkpoint
from iclmsr.config import PretrainConfig
from iclmsr.data.backdrops import fingerprint
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
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
        images: Its data.
        world: The processes.
    """

    def __init__(
        self,
        config: PretrainConfig,
        folder: RunFolder,
        stages: TwoStages,
        images: ImageSet | FileSet,
        world: World,
    ) -> None:
        self.config, self.folder, self.stages = config, folder, stages
        self.files = images if isinstance(images, FileSet) else None
        self.world = world
        self.known = {
            "data": fingerprint(images, masks=config.views.background != "keep"),
            "layout": self.files.layout() if self.files is not None else "",
        }

    def save(self, position: Position) -> None:
        """Writes a checkpoint, and the encoder as it stands."""
        random = gather_object(checkpoint.random_states())
        instead = self.instead()
        together(lambda: self._write(position, random, instead))

    def instead(self) -> dict[int, int]:
        """For each image found not to decode by any rank, the one in its place; all on rank 0."""
        found: dict[int, int] = {}
        for rank in gather_object({} if self.files is None else self.files.instead):
            found |= rank
        return found

    def restore(self, state: dict[str, Any] | None) -> Position:
        """Goes back to a checkpoint's state, files too; None is the start of the run."""
        position = Position() if state is None else Position(**state["position"])
        if state is not None:
            self.stages.load_state_dict(state["stages"])
            if self.files is not None and not self.files.strict:
                self.files.instead |= state.get("instead", {})
            if self.world.rank < len(state["random"]):
                checkpoint.restore_random_states(state["random"][self.world.rank])
        if self.world.main:
            self.folder.truncate_metrics(position.metrics_size)
            self.folder.weights.cut(position.weights_size)
        if state is not None:  # it may have been killed between the checkpoint and the encoder
            together(lambda: self._write_encoder(position))
        return position

    def _write(
        self, position: Position, random: list[dict[str, Any]], instead: dict[int, int]
    ) -> None:
        """Rank 0's part of saving; ``random`` holds every rank's random states."""
        position.metrics_size = self.folder.metrics_size()
        position.weights_size = self.folder.weights.size()
        state = {
            "position": asdict(position),
            "stages": self.stages.state_dict(),
            "random": random,
            "instead": instead,
            **self.known,
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
