"""What a trainer does between updates: it scores the model, saves it, and picks up a run where it was saved."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.checkpointing import CheckpointFolder, load_state, rng_state, set_rng_state
from trainers.distributed import World
from trainers.framework import PlainTrainer
from trainers.objective import TrainingModule
from trainers.progress import HISTORY_FILE, LOGGER, ProgressHook, append_history
from trainers.sharding import gathered, sharded_state, whole_state


class ValidatingTrainer(PlainTrainer):
    """A trainer that validates and saves after every epoch or so many updates; subclasses set what is declared here."""

    world: World
    inner: TrainingModule
    checkpoints: CheckpointFolder
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    write_model: Callable[[Path, Mapping[str, Tensor]], None]
    validate: Callable[[], dict[str, Any]] | None
    checkpoint_every: str | int
    best_metric: str
    early_stop_patience: int | None

    @property
    def max_iters(self) -> int:
        """Updates of the whole run."""
        raise NotImplementedError

    best_score: float | None = None
    validations_since_best = 0
    validated_at = 0  # the update after which the model was scored last

    def validate_if_due(self) -> None:
        """Validate and save after an epoch or so many updates, and after the last one; never twice after the same."""
        if self.checkpoint_every == "epoch":
            due = self._inner_iter == 0
        else:
            due = self._iter % int(self.checkpoint_every) == 0
        if self.validated_at != self._iter and (due or self._iter >= self.max_iters):
            self.validate_and_save()

    def validate_and_save(self) -> None:
        """Score the model, save it, and mark it as the best if it is."""
        clocks = [hook for hook in self.hooks if isinstance(hook, ProgressHook)]
        for clock in clocks:
            clock.pause_clock()
        self.world.share_buffers(self.model)  # all ranks caption with the model that is saved
        scores = gathered(self.inner, self.validate) if self.validate is not None else {}
        self.validated_at = self._iter
        self._metric_values = scores = self.world.broadcast(scores)
        score = scores.get(self.best_metric)
        improved = score is not None and (self.best_score is None or score > self.best_score)
        if improved:
            self.best_score = score
        self.validations_since_best = 0 if improved or score is None else self.validations_since_best + 1
        self._stop_if_patience_ended()
        checkpoint = self.save()
        if self.world.is_main and checkpoint is not None:
            if improved:
                self.checkpoints.link("best", checkpoint)
            self.checkpoints.prune()
            if score is not None:
                flat = {f"val/{k}": v for k, v in scores.items() if isinstance(v, float)}
                append_history(Path(self.work_dir) / HISTORY_FILE, {"step": self._iter, "epoch": self._epoch} | flat)
                LOGGER.info(
                    "step %d: %s %.2f%s", self._iter, self.best_metric, 100 * score, " (best)" if improved else ""
                )
        self.world.barrier()
        for clock in clocks:
            clock.restart_clock()

    def _stop_if_patience_ended(self) -> None:
        if self.early_stop_patience is not None and self.validations_since_best >= self.early_stop_patience:
            LOGGER.info("no better %s in %d validations: stopping", self.best_metric, self.validations_since_best)
            self._stop_training = True

    def save(self) -> Path | None:
        """Save a checkpoint of this moment; every rank takes part, rank 0 writes and returns its path."""
        state = {
            "step": self._iter,
            "epoch": self._epoch,
            "inner_step": self._inner_iter,
            "best_score": self.best_score,
            "validations_since_best": self.validations_since_best,
            "validated_at": self.validated_at,
            "optimizer": whole_state(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "rng": self.world.gather(rng_state()),
        }
        weights = whole_state(self.inner.model.state_dict())
        if not self.world.is_main:
            return None
        return self.checkpoints.save(self._iter, lambda folder: self.write_model(folder, weights), state)

    def load(self, checkpoint: Path) -> None:
        """Put everything but the model, which was built from the same checkpoint, back as it was."""
        state = load_state(checkpoint)
        if len(state["rng"]) != self.world.size:
            raise ValueError(
                f"{checkpoint}: was saved by {len(state['rng'])} processes and is resumed by {self.world.size}: "
                "resume with the same number"
            )
        self._iter, self._epoch, self._inner_iter = state["step"], state["epoch"], state["inner_step"]
        self.best_score = state["best_score"]
        self.validations_since_best = state["validations_since_best"]
        self.validated_at = state["validated_at"]
        self._stop_if_patience_ended()
        self.optimizer.load_state_dict(sharded_state(state["optimizer"], self.optimizer))
        self.scaler.load_state_dict(state["scaler"])
        set_rng_state(state["rng"][self.world.rank])
        LOGGER.info("resumed from %s at step %d", checkpoint, self._iter)
