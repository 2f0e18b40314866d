"""The training loop, of any task: epochs, updates, validation, checkpoints, interruption. It knows no framework.

It is given what a task puts together (a model, items, an objective, what to save, how to score) and runs it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data.run_folder import RunFolder
from trainers.averaging import WeightAverage
from trainers.batches import Items, UpdateSampler, end_workers, next_update, training_loader
from trainers.checkpointing import CheckpointFolder
from trainers.distributed import World
from trainers.history import History
from trainers.interruption import Interruption
from trainers.objective import Objective, TrainingModule
from trainers.observer import Observer
from trainers.progress import Progress
from trainers.run_state import RunState
from trainers.saving import Saving
from trainers.sharding import ShardUnit, gathered, shard
from trainers.stall import StallWatch
from trainers.update import Updater

LOGGER = logging.getLogger("stylecap")
Rate = Callable[[int, int], float]


class Loop:
    """A training run.

    Args:
        model: what is trained, on any device.
        items: what is learnt from; `collate` makes a micro-batch of some of them.
        objective: what is minimised.
        optimizer: makes the optimizer of the model's trained parameters.
        rate: (update from 0, updates of the run) -> learning rate.
        write_model: fills a folder with a loadable model of the weights given: `write_model(folder, weights)`.
        validate: the validation scores of the model as it is; called on every rank, scores used from rank 0.
        folder: the run's.
        world: this process among those that train together.
        observers: what looks on, on the main process only.
        frozen: parts of the model that stay in the mode of evaluation.
        shard_units: parts that gather their parameters on their own where these are divided over ranks.
        resume_from: a checkpoint of another run, to go on from where this one has none.
        data: digests of what is trained on, by name; a run is resumed with the same.
        allow_changed_data: resume with other data than before.
        seed: of dropout, to which each rank adds its own number.
        others: keys of the section `train` of a configuration, with the same names and meanings.
    """

    def __init__(
        self,
        model: nn.Module,
        items: Items,
        objective: Objective,
        *,
        collate: Callable[[list[Any]], Mapping[str, Any]],
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        rate: Rate,
        write_model: Callable[[Path, Mapping[str, Tensor]], None],
        validate: Callable[[], dict[str, Any]] | None,
        folder: RunFolder,
        world: World,
        observers: Sequence[Observer] = (),
        frozen: Sequence[nn.Module] = (),
        shard_units: Iterable[ShardUnit] = (),
        resume_from: Path | None = None,
        data: Mapping[str, str] | None = None,
        allow_changed_data: bool = False,
        max_epochs: int,
        max_steps: int | None,
        batch_size: int,
        gradient_accumulation: int,
        num_workers: int,
        clip_norm: float,
        ema: float = 0.0,
        dtype: str,
        sharding: str,
        checkpoint_every: str | int,
        keep_checkpoints: int,
        best_metric: str,
        early_stop_patience: int | None,
        max_skipped_updates: int,
        stall_warning_s: float,
        log_every: int,
        tensorboard: bool,
        seed: int,
    ) -> None:
        self.model = model
        self.items = items
        self.collate = collate
        self.objective = objective
        self.rate = rate
        self.validate = validate
        self.world = world
        self.resume_from = resume_from
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.checkpoint_every = checkpoint_every
        self.best_metric = best_metric
        self.early_stop_patience = early_stop_patience
        self.max_skipped_updates = max_skipped_updates
        self.history = History(folder.history, folder.tensorboard if tensorboard else None)
        self.observers: list[Observer] = [Progress(log_every, self.history), *observers] if world.is_main else []
        self.checkpoints = CheckpointFolder(folder.checkpoints, keep_checkpoints)
        self.interruption = Interruption()
        self.stall = StallWatch(stall_warning_s)
        self.seed = (seed + world.rank) % 2**32  # of dropout, the one thing in which ranks are to differ
        torch.manual_seed(self.seed)
        self._module(sharding, shard_units)
        self.optimizer = optimizer(model)
        self.updater = Updater(
            self.inner, self.module, self.optimizer, world, clip_norm=clip_norm, dtype=dtype, frozen=frozen
        )
        self.sampler = UpdateSampler(
            len(items), batch_size=batch_size, accumulation=gradient_accumulation, rank=world.rank, ranks=world.size
        )
        self.updates_per_epoch = len(self.sampler)
        updates = max_epochs * self.updates_per_epoch
        self.max_steps = updates if max_steps is None else min(updates, max_steps)
        self.average = WeightAverage(model, ema) if ema else None
        self.saving = Saving(
            self.inner.model,
            self.optimizer,
            self.updater.scaler,
            self.average,
            world,
            self.checkpoints,
            write_model,
            data=dict(data or {}),
            allow_changed_data=allow_changed_data,
        )
        self.state = RunState()
        self.stopped = False
        self.due = False  # a validation that waits for an update with finite numbers

    def _module(self, sharding: str, shard_units: Iterable[ShardUnit]) -> None:
        """`inner`: model and objective; `module`: the same over however many ranks."""
        self.inner = TrainingModule(self.model, self.objective)
        self.module: nn.Module = self.inner
        if self.world.size > 1 and sharding == "fsdp":
            # Not moved before: unit after unit goes to the device and keeps its shard there, never the whole model.
            shard(self.inner, self.world, shard_units)
            return
        self.model.to(self.world.device)
        if self.world.size > 1:
            gpus = [self.world.device.index] if self.world.device.type == "cuda" else None
            self.module = DistributedDataParallel(self.inner, device_ids=gpus, forward_sync_buffers=False)

    @property
    def step(self) -> int:
        """Updates that are done."""
        return self.state.step

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self.state.epoch

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self, *, resume: bool = False) -> dict[str, Any]:
        """Train to the end.

        Args:
            resume: continue from the run's last checkpoint, else from `resume_from`, if there is one.

        Returns:
            `step`, `epoch`, and the best score and checkpoint.

        Raises:
            KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, after a checkpoint was saved.
            ValueError: losses that stay without finite numbers, or data that are not those that the run began with.
        """
        last = self.checkpoints.find("last") or self.resume_from if resume else None
        if last is not None:
            self.load(last)
        with self.interruption.deferred(), self.stall.watching():
            self._tell("run_begins")
            try:
                self._train()
            finally:
                self._tell("run_ended")
                self.objective.close()
                self.history.close()
        best = self.checkpoints.find("best")
        return {
            "step": self.step,
            "epoch": self.epoch,
            self.best_metric: self.state.best_score,
            "checkpoint": str(best or self.checkpoints.find("last")),
        }

    def _train(self) -> None:
        self._validate_if_due()  # the run may have been interrupted just before
        loader = training_loader(
            self.items,
            self.sampler,
            self.collate,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=self.world.device.type == "cuda",
        )
        try:
            while self.epoch < self.max_epochs and not self._is_over():
                self._epoch(loader)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"step {self.step + 1}: {self.world.device} is out of memory: lower train.batch_size (and raise "
                "train.gradient_accumulation), or set train.gradient_checkpointing"
            ) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise ChildProcessError(
                f"step {self.step + 1}: a process that loads images died ({error}): is memory short? lower "
                "data.num_workers"
            ) from error
        finally:
            end_workers(loader)

    def _epoch(self, loader: Any) -> None:
        """The rest of an epoch, or of the run."""
        self.items.set_epoch(self.epoch)
        self.sampler.start = self.state.inner_step
        self._tell("epoch_begins")
        batches = iter(loader)
        while self.state.inner_step < self.updates_per_epoch:
            with self.stall.awaiting("the next batch of the loader (data.num_workers)"):
                update = next_update(batches)
            if isinstance(update, Exception):
                raise update
            interrupted = self._update(update)
            if interrupted:
                self.save()
                raise KeyboardInterrupt
            ended = self.state.inner_step == 0
            self._validate_if_due()
            if ended or self._is_over():
                break
        self._tell("epoch_ended")

    def _is_over(self) -> bool:
        return self.step >= self.max_steps or self.stopped

    def _update(self, batches: list[Any]) -> bool:
        """One update; whether any rank was interrupted."""
        self._tell("update_begins")
        with self.stall.awaiting("an update (rewards, losses, other ranks)"):
            rate = self.rate(self.step, self.max_steps)
            result = self.updater(batches, self.step, rate, self.interruption.noted)
        self._count_skipped(result.skipped, batches)
        if self.average is not None and not result.skipped:
            self.average.update()
        logs = {"skipped": 1.0} if result.skipped else result.logs
        for observer in self.observers:
            observer.update_ended(self, logs)
        self.state.advance(self.updates_per_epoch)
        return result.flagged

    def _count_skipped(self, skipped: bool, batches: list[Any]) -> None:
        """Nothing is learnt from numbers that are not finite, and a run that meets nothing else stops unsaved."""
        if not skipped:
            self.state.skipped_in_a_row = 0
            return
        self.state.skipped_in_a_row += 1
        ids = [str(one) for batch in batches for one in self.objective.names(batch)]
        LOGGER.warning("step %d: a loss or gradient is not finite; the update is skipped: %s", self.step + 1, ids)
        if self.state.skipped_in_a_row > self.max_skipped_updates:
            raise ValueError(
                f"{self.state.skipped_in_a_row} updates in a row without finite numbers, the last on "
                f"{', '.join(ids[:5])}: lower train.lr, look at these records, or use train.dtype=float32; "
                "checkpoints are left as they were"
            )

    def _tell(self, stage: str) -> None:
        for observer in self.observers:
            getattr(observer, stage)(self)

    # --- validation and checkpoints ----------------------------------------------------------------------------------

    def _validate_if_due(self) -> None:
        """Validate and save after an epoch or so many updates, and after the last one; never twice after the same.

        While updates are skipped it waits: nothing is saved or pruned on the way to the end of a run that went wrong.
        """
        if self.checkpoint_every == "epoch":
            due = self.state.inner_step == 0
        else:
            due = self.step % int(self.checkpoint_every) == 0
        self.due = (due or self.due or self.step >= self.max_steps) and self.state.validated_at != self.step
        if self.due and (not self.state.skipped_in_a_row or self.step >= self.max_steps):
            self.due = False
            self.validate_and_save()

    def validate_and_save(self) -> None:
        """Score the model, save it, and mark it as the best if it is."""
        for observer in self.observers:
            observer.paused()
        self.world.share_buffers(self.model)  # all ranks score the model that is saved
        with self.stall.awaiting("validation"), self.saving.averaged():
            scores = gathered(self.inner, self.validate) if self.validate is not None else {}
        improved = self.state.scored(self.best_metric, self.world.broadcast(scores))
        for observer in self.observers:
            observer.validated(self, self.state.scores)
        self._stop_if_patience_ended()
        self.save()
        if self.world.is_main:
            self._publish()
            self._report_validation(improved)
        self.world.barrier()
        for observer in self.observers:
            observer.resumed()

    def _report_validation(self, improved: bool) -> None:
        score = self.state.scores.get(f"val/{self.best_metric}")
        if score is not None:
            better = " (best)" if improved else ""
            LOGGER.info("step %d: %s %.2f%s", self.step, self.best_metric, 100 * score, better)

    def _publish(self) -> None:
        """Bring links and history in line with what the last checkpoint says; again after a run was killed here."""
        state = self.state
        if state.best_step is not None:
            self.checkpoints.link_best(state.best_step)
        self.checkpoints.prune()
        if state.scores and not self.history.has(state.validated_at, f"val/{self.best_metric}"):
            self.history.log(state.validated_at, state.epoch, state.scores)

    def _stop_if_patience_ended(self) -> None:
        if self.early_stop_patience is not None and self.state.validations_since_best >= self.early_stop_patience:
            LOGGER.info("no better %s in %d validations: stopping", self.best_metric, self.early_stop_patience)
            self.stopped = True

    def save(self) -> None:
        """Save a checkpoint of this moment; every rank takes part, rank 0 writes.

        Raises:
            ValueError: a weight is not a finite number; nothing is saved.
        """
        self.saving.save(self.state, [observer.state() for observer in self.observers])

    def load(self, checkpoint: Path) -> None:
        """Put everything but the model, which was built from the same checkpoint, back as it was."""
        self.state, observed = self.saving.load(checkpoint)
        if self.state.inner_step >= self.updates_per_epoch:  # fewer items than before
            self.state.epoch, self.state.inner_step = self.epoch + 1, 0
        if self.state.best_step is None:
            self.state.best_step = self.checkpoints.best_step()
        self._stop_if_patience_ended()
        if self.world.is_main:
            for observer, saved in zip(self.observers, observed, strict=False):
                observer.resume(saved)
            self.history.keep(self.step)
            self._publish()
        LOGGER.info("resumed from %s at step %d", checkpoint, self.step)
