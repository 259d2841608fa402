# SPDX-License-Identifier: Apache-2.0
"""Where a run's numbers go beside its own files: TensorBoard, and others that were asked for."""

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from iclmsr.config import PretrainConfig, encode
from iclmsr.errors import IclmsrError
from iclmsr.files import read_json, write_json
from iclmsr.runs import RunFolder


class Logger(Protocol):
    """A service that keeps numbers of runs.

    Attributes:
        run_id: What it calls this run.
    """

    run_id: str

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Takes values by name at a step of the run."""

    def close(self) -> None:
        """Sends what is left."""


class Boards:
    """TensorBoard always, and the loggers of a config.

    A logger that fails never stops the run: one warning, and it gets no more. What a service
    calls the run stays in ``loggers.json``, so that a resumed run goes on in the same place;
    records after the last checkpoint, which a resumed run makes again, are there twice.

    Args:
        folder: The run folder.
        config: The run.
        step: Steps done before this session.
    """

    def __init__(self, folder: RunFolder, config: PretrainConfig, step: int) -> None:
        self.tensorboard = SummaryWriter(str(folder.path / "tensorboard"), purge_step=step or None)
        ids_file = folder.path / "loggers.json"
        ids: dict[str, str] = read_json(ids_file) if ids_file.exists() else {}
        self.loggers: dict[str, Logger] = {}
        for name in config.loggers:
            with self._kept_from_stopping_the_run(name):
                self.loggers[name] = _LOGGERS[name](folder, config, ids.get(name))
                ids[name] = self.loggers[name].run_id
        if self.loggers:
            write_json(ids_file, ids)

    def __enter__(self) -> "Boards":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.tensorboard.close()
        for name, logger in list(self.loggers.items()):
            with self._kept_from_stopping_the_run(name):
                logger.close()

    def add(self, event: str, values: Mapping[str, float], step: int) -> None:
        """Hands on values as ``event/name``."""
        named = {f"{event}/{name}": value for name, value in values.items()}
        for name, value in named.items():
            self.tensorboard.add_scalar(name, value, step)
        for name, logger in list(self.loggers.items()):
            with self._kept_from_stopping_the_run(name):
                logger.add(named, step)

    @contextlib.contextmanager
    def _kept_from_stopping_the_run(self, name: str) -> Any:
        """Warns of an error of a logger, once, as it gets no more numbers."""
        try:
            yield
        except Exception as error:  # whatever it is, training is worth more
            self.loggers.pop(name, None)
            said = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(f"logger {name} failed and is left alone now: {said}", stacklevel=3)


def check_loggers(names: Sequence[str]) -> None:
    """Raises :class:`IclmsrError` unless the packages of the loggers are installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise IclmsrError(
                f"loggers {name} needs the package {name}: pip install 'iclmsr[{name}]'"
            )


class _WandB:
    """Weights & Biases; WANDB_MODE=offline needs no network, WANDB_PROJECT names the project."""

    def __init__(self, folder: RunFolder, config: PretrainConfig, run_id: str | None) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "iclmsr"),
            name=folder.path.resolve().name,
            id=run_id,
            resume="allow",
            dir=str(folder.path),
            config=encode(config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run_id: str = self.run.id
        # Its own step counts calls and never goes back; a resumed run does.
        self.run.define_metric("*", step_metric="step")

    def add(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({**values, "step": step})

    def close(self) -> None:
        self.run.finish()


class _MLflow:
    """MLflow at MLFLOW_TRACKING_URI, a server or a local store; MLFLOW_EXPERIMENT_NAME names it."""

    def __init__(self, folder: RunFolder, config: PretrainConfig, run_id: str | None) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "iclmsr")
            known = self.client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self.client.create_experiment(name)
            run = self.client.create_run(experiment, run_name=folder.path.resolve().name)
            run_id = str(run.info.run_id)
            for parameter, value in _flat(encode(config)).items():
                self.client.log_param(run_id, parameter, value)
        else:
            self.client.update_run(run_id, status="RUNNING")
        self.run_id = run_id

    def add(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def close(self) -> None:
        self.client.set_terminated(self.run_id)


_LOGGERS: dict[str, Any] = {"wandb": _WandB, "mlflow": _MLflow}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of nested objects by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
