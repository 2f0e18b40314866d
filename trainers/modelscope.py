"""The loop as a trainer of ModelScope: a registered name, and hooks that fire at their stages."""

from typing import Any

from modelscope.trainers.builder import TRAINERS
from modelscope.trainers.trainer import EpochBasedTrainer
from modelscope.utils.constant import TrainerStages

from trainers.loop import Loop
from trainers.observer import Observer, Position


class _Hooks(Observer):
    """Fires ModelScope's hooks where the loop tells of a stage."""

    def __init__(self, trainer: "OFATrainer") -> None:
        self.trainer = trainer

    def run_begins(self, loop: Position) -> None:
        self.trainer.invoke_hook(TrainerStages.before_run)

    def epoch_begins(self, loop: Position) -> None:
        self.trainer.invoke_hook(TrainerStages.before_train_epoch)

    def update_begins(self, loop: Position) -> None:
        self.trainer.invoke_hook(TrainerStages.before_train_iter)

    def update_ended(self, loop: Position, logs: dict[str, float]) -> None:
        self.trainer.train_outputs = logs
        self.trainer.log_buffer.update(logs)
        self.trainer.invoke_hook(TrainerStages.after_train_iter)

    def epoch_ended(self, loop: Position) -> None:
        self.trainer.invoke_hook(TrainerStages.after_train_epoch)

    def run_ended(self, loop: Position) -> None:
        self.trainer.invoke_hook(TrainerStages.after_run)


@TRAINERS.register_module(module_name="ofa-captioning")
class OFATrainer(EpochBasedTrainer):
    """Holds a `Loop` (of any task: the name is that under which it has always been registered) and runs it.

    ModelScope's own loop, data sets, optimizer and checkpoint hooks are not used: what they save cannot be resumed
    exactly. A hook that is registered sees `iter`, `epoch`, `max_iters`, `model`, `optimizer` and `train_outputs`.

    Args:
        loop: what to run.
        cfg_file: path of a ModelScope `configuration.json`; its folder is the run's.
    """

    def __init__(self, loop: Loop, cfg_file: str) -> None:
        self.loop = loop
        super().__init__(
            model=loop.model,
            cfg_file=cfg_file,
            seed=loop.seed,
            max_epochs=loop.max_epochs,
            device=str(loop.world.device),
        )
        self.optimizer = loop.optimizer
        if loop.world.is_main:
            loop.observers.append(_Hooks(self))

    def train(self, *args: Any, resume: bool = False, **kwargs: Any) -> dict[str, Any]:
        """`Loop.run`."""
        return self.loop.run(resume=resume)

    # --- where the loop is, under the names that hooks read; ModelScope's constructor sets them to 0 -----------------

    @property
    def _iter(self) -> int:
        return self.loop.step

    @_iter.setter
    def _iter(self, value: int) -> None: ...

    @property
    def _epoch(self) -> int:
        return self.loop.epoch

    @_epoch.setter
    def _epoch(self, value: int) -> None: ...

    @property
    def _inner_iter(self) -> int:
        return self.loop.state.inner_step

    @_inner_iter.setter
    def _inner_iter(self, value: int) -> None: ...

    @property
    def _stop_training(self) -> bool:
        return self.loop.stopped

    @_stop_training.setter
    def _stop_training(self, value: bool) -> None:
        self.loop.stopped = value or self.loop.stopped

    @property
    def max_iters(self) -> int:
        """Updates of the whole run."""
        return self.loop.max_steps

    @property
    def iters_per_epoch(self) -> int:
        return self.loop.updates_per_epoch

    # --- what ModelScope's constructor would do on its own account ---------------------------------------------------

    def build_dataset(self, datasets: Any, *args: Any, **kwargs: Any) -> None:
        """The loop has its items."""

    def get_preprocessors(self, preprocessor: Any) -> tuple[None, None]:
        return None, None

    def get_metrics(self) -> list[str]:
        return []

    def register_hook_from_cfg(self, hook_cfg: list[Any]) -> list[Any]:
        """None of ModelScope's defaults: the loop logs, saves and schedules."""
        return []

    def print_cfg(self) -> None:
        """ModelScope prints the whole configuration to stdout; the run's folder holds it."""
