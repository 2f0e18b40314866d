"""The training loop on ModelScope's `EpochBasedTrainer`.

An iteration is one optimizer update: it reads the micro-batches of the update, sums their losses, divides by the number
of tokens over all ranks and micro-batches, and steps. So one rank with twice the batch, two ranks, and two accumulated
micro-batches give the same update. ModelScope's hooks run at their usual stages; its checkpoint, optimizer and
learning-rate hooks are not used, because what they save cannot be resumed exactly.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from modelscope.trainers.builder import TRAINERS
from modelscope.trainers.hooks.hook import Hook
from modelscope.trainers.trainer import EpochBasedTrainer
from modelscope.utils.constant import ModeKeys, TrainerStages
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from models.ofa import OFAModel
from trainers.batches import Batch, TrainingItems, UpdateSampler, to_device, training_loader
from trainers.checkpointing import CheckpointFolder, load_state
from trainers.cross_entropy import CrossEntropy, TrainingModule
from trainers.distributed import World
from trainers.progress import LOGGER, ProgressHook, append_history
from trainers.schedule import learning_rate

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
CHECKPOINTS = "checkpoints"


@TRAINERS.register_module(module_name="ofa-captioning")
class OFATrainer(EpochBasedTrainer):
    """Trains an `OFAModel` on groups of captions.

    Args:
        model: the model to train, on any device.
        cfg_file: path of a ModelScope `configuration.json`; its folder is the run's.
        train_dataset: `trainers.batches.TrainingItems`.
        objective: what is minimised.
        write_model: fills a folder with a loadable model: `write_model(folder)`.
        validate: returns the validation scores of the model as it is; called on every rank, scores used from rank 0.
        world: this process among those that train together.
        others: keys of the section `train` of a configuration, with the same names and meanings.
    """

    def __init__(
        self,
        model: OFAModel,
        cfg_file: str,
        train_dataset: TrainingItems,
        objective: CrossEntropy,
        write_model: Callable[[Path], None],
        validate: Callable[[], dict[str, Any]] | None = None,
        world: World | None = None,
        *,
        max_epochs: int,
        max_steps: int | None = None,
        batch_size: int,
        num_workers: int = 0,
        gradient_accumulation: int = 1,
        lr: float,
        lr_end: float,
        warmup_proportion: float,
        schedule: str,
        weight_decay: float,
        adam_betas: tuple[float, float],
        adam_eps: float,
        clip_norm: float,
        dtype: str,
        freeze_resnet: bool = False,
        freeze_embeddings: bool = False,
        gradient_checkpointing: bool = False,
        checkpoint_every: str | int = "epoch",
        keep_checkpoints: int,
        best_metric: str,
        early_stop_patience: int | None = None,
        log_every: int,
        tensorboard: bool,
        seed: int,
        **kwargs: Any,
    ):
        self.world = world or World()
        self.objective = objective
        self.write_model = write_model
        self.validate = validate
        self.gradient_accumulation = gradient_accumulation
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_steps = max_steps
        self.rate = {
            "lr": lr, "lr_end": lr_end, "warmup_proportion": warmup_proportion, "schedule": schedule,
        }  # fmt: skip
        self.adamw = {"lr": lr, "betas": adam_betas, "eps": adam_eps}
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.freeze_resnet = freeze_resnet
        self.autocast_dtype = self._autocast_dtype(dtype)
        self.checkpoint_every = checkpoint_every
        self.best_metric = best_metric
        self.early_stop_patience = early_stop_patience
        self.log_every = log_every
        self.tensorboard = tensorboard and self.world.is_main
        self.best_score: float | None = None
        self.validations_since_best = 0
        super().__init__(
            model=model,
            cfg_file=cfg_file,
            train_dataset=train_dataset,
            seed=seed,
            max_epochs=max_epochs,
            work_dir=str(Path(cfg_file).parent),
            device=str(self.world.device),
            **kwargs,
        )
        self.checkpoints = CheckpointFolder(Path(self.work_dir) / CHECKPOINTS, keep_checkpoints)
        self._prepare_model(freeze_resnet, freeze_embeddings, gradient_checkpointing)

    # --- set-up ------------------------------------------------------------------------------------------------------

    def _autocast_dtype(self, dtype: str) -> torch.dtype | None:
        if dtype == "float16" and self.world.device.type != "cuda":
            raise ValueError('train.dtype = "float16" needs a GPU: use "bfloat16" or "float32" on a CPU')
        return AUTOCAST[dtype]

    def _prepare_model(self, freeze_resnet: bool, freeze_embeddings: bool, gradient_checkpointing: bool) -> None:
        self.model.to(self.world.device)
        self.model.encoder.embed_images.to(memory_format=torch.channels_last)
        if freeze_resnet:
            self.model.encoder.embed_images.requires_grad_(False)
        if freeze_embeddings:
            self.model.encoder.embed_tokens.requires_grad_(False)
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        module = TrainingModule(self.model, self.objective)
        if self.world.size > 1:
            gpus = [self.world.device.index] if self.world.device.type == "cuda" else None
            self.training_module: nn.Module = DistributedDataParallel(module, device_ids=gpus, broadcast_buffers=False)
        else:
            self.training_module = module

    def build_dataset(self, datasets: Any, *args: Any, **kwargs: Any) -> Any:
        """As given: our items need none of ModelScope's wrapping."""
        return datasets

    def get_preprocessors(self, preprocessor: Any) -> tuple[None, None]:
        """The data set applies its preprocessor itself, in the loader's workers."""
        return None, None

    def get_metrics(self) -> list:
        return []

    def print_cfg(self) -> None:
        """ModelScope prints the whole configuration to stdout; the run's folder holds it."""

    def print_hook_info(self) -> None:
        """Likewise the table of hooks."""

    def register_hook_from_cfg(self, hook_cfg: list) -> list:
        """Ours in place of ModelScope's defaults, which the base class adds to every configuration."""
        hooks: list[Hook] = []
        if self.world.is_main:
            hooks.append(ProgressHook(self.log_every))
        for hook in hooks:
            self.register_hook(hook)
        if self.tensorboard:
            folder = str(Path(self.work_dir) / "tensorboard")
            tensorboard = {"type": "TensorboardHook", "interval": self.log_every, "by_epoch": False, "out_dir": folder}
            hooks += super().register_hook_from_cfg([tensorboard])
        return hooks

    def get_train_dataloader(self) -> Any:
        self.sampler = UpdateSampler(
            len(self.train_dataset),
            batch_size=self.batch_size,
            accumulation=self.gradient_accumulation,
            rank=self.world.rank,
            ranks=self.world.size,
        )
        self._train_iters_per_epoch = len(self.sampler)
        return training_loader(
            self.train_dataset,
            self.sampler,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=self.world.device.type == "cuda",
        )

    def register_optimizers_hook(self) -> None:
        """Build the optimizer; `train_step` steps it."""
        matrices, vectors = [], []
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                (matrices if parameter.ndim > 1 else vectors).append(parameter)
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, fused=True, **self.adamw)
        self.lr_scheduler = None  # the rate is a pure function of the update, see `learning_rate`
        self.scaler = torch.amp.GradScaler(self.world.device.type, enabled=self.autocast_dtype == torch.float16)

    @property
    def max_iters(self) -> int:
        """Updates of the whole run."""
        updates = self._max_epochs * self._train_iters_per_epoch
        return updates if self.max_steps is None else min(updates, self.max_steps)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def train(self, *args: Any, resume: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Train to the end.

        Args:
            resume: continue from the run's last checkpoint if there is one.

        Returns:
            `step`, `epoch`, and the best score and checkpoint.

        Raises:
            KeyboardInterrupt: on Ctrl-C or SIGTERM, after a checkpoint was saved.
        """
        self._mode = ModeKeys.TRAIN
        self.train_dataloader = self.data_loader = self.get_train_dataloader()
        self.register_optimizers_hook()
        last = self.checkpoints.find("last") if resume else None
        if last is not None:
            self._load(last)
        with self._deferred_interrupts():
            self.train_loop(self.train_dataloader)
        best = self.checkpoints.find("best")
        return {
            "step": self._iter,
            "epoch": self._epoch,
            self.best_metric: self.best_score,
            "checkpoint": str(best or self.checkpoints.find("last")),
        }

    def train_loop(self, data_loader: Any) -> None:
        self.invoke_hook(TrainerStages.before_run)
        while self._epoch < self._max_epochs and self._iter < self.max_iters and not self._stop_training:
            self.train_dataset.set_epoch(self._epoch)
            self.sampler.start = self._inner_iter
            self.invoke_hook(TrainerStages.before_train_epoch)
            for batches in data_loader:
                self.invoke_hook(TrainerStages.before_train_iter)
                self.train_step(self.training_module, batches)
                self.invoke_hook(TrainerStages.after_train_iter)
                self._iter += 1
                self._inner_iter += 1
                if self.checkpoint_every != "epoch" and self._iter % int(self.checkpoint_every) == 0:
                    self.validate_and_save()
                if self.interrupted_anywhere:
                    self.save()
                    raise KeyboardInterrupt
                if self._iter >= self.max_iters or self._stop_training:
                    break
            ended = self._inner_iter >= self._train_iters_per_epoch
            if ended:
                self._epoch += 1
                self._inner_iter = 0
            self.invoke_hook(TrainerStages.after_train_epoch)
            if self._saved_at != self._iter and (self.checkpoint_every == "epoch" or self._iter >= self.max_iters):
                self.validate_and_save()
        self.invoke_hook(TrainerStages.after_run)

    def train_step(self, model: nn.Module, inputs: list[Batch]) -> None:
        """One update from its micro-batches; leaves what to log in `train_outputs`."""
        model.train()
        if self.freeze_resnet:
            self.model.encoder.embed_images.eval()  # frozen means its running statistics, too
        counts = [self.objective.count(batch, self._iter) for batch in inputs]
        total, interrupted = self.world.sum([sum(counts), self._interrupted])
        self.interrupted_anywhere = interrupted > 0  # decided together: no rank may wait for one that has left
        sums: dict[str, float] = {}
        for position, batch in enumerate(inputs):
            last = position == len(inputs) - 1
            with contextlib.nullcontext() if last else self._without_synchronisation(model), self.autocast():
                output = model(to_device(batch, self.world.device), self._iter)
                # Data-parallel wrappers average over ranks what is to be summed.
                loss = output.loss_sum * (self.world.size / total)
                self.scaler.scale(loss).backward()
            for name, value in output.sums.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        grad_norm = self._update()
        logged = dict(zip(sums, self.world.sum(list(sums.values())), strict=True))
        self.train_outputs = {name: value / total for name, value in logged.items()}
        self.train_outputs |= {"lr": self.optimizer.param_groups[0]["lr"], "grad_norm": grad_norm}
        self.log_buffer.update(self.train_outputs)

    def _update(self) -> float:
        """Clip, step, and clear the gradients; returns their norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self._iter, total=self.max_iters, **self.rate)
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.clip_norm or float("inf"))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.item()

    def autocast(self) -> contextlib.AbstractContextManager:
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, dtype=self.autocast_dtype)

    @staticmethod
    def _without_synchronisation(model: nn.Module) -> contextlib.AbstractContextManager:
        return model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext()

    @contextlib.contextmanager
    def _deferred_interrupts(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) is noted, to stop between two updates; the second one stops at once."""
        self._interrupted = False
        self.interrupted_anywhere = False
        self._saved_at = self._iter if self._iter else -1

        def note(number: int, frame: Any) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            LOGGER.warning("interrupted: saving a checkpoint after this update (again to stop at once)")

        try:
            former = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever runs us there handles signals
            former = {}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    # --- validation and checkpoints ----------------------------------------------------------------------------------

    def validate_and_save(self) -> None:
        """Score the model, save it, and mark it as the best if it is."""
        clocks = [hook for hook in self.hooks if isinstance(hook, ProgressHook)]
        for clock in clocks:
            clock.pause_clock()
        scores = self.validate() if self.validate is not None else {}
        self._metric_values = scores = self.world.broadcast(scores)
        score = scores.get(self.best_metric)
        improved = score is not None and (self.best_score is None or score > self.best_score)
        if improved:
            self.best_score = score
        self.validations_since_best = 0 if improved or score is None else self.validations_since_best + 1
        if self.early_stop_patience is not None and self.validations_since_best >= self.early_stop_patience:
            LOGGER.info("no better %s in %d validations: stopping", self.best_metric, self.validations_since_best)
            self._stop_training = True
        checkpoint = self.save()
        if self.world.is_main and checkpoint is not None:
            if improved:
                self.checkpoints.link("best", checkpoint)
            self.checkpoints.prune()
            if score is not None:
                flat = {f"val/{k}": v for k, v in scores.items() if isinstance(v, float)}
                append_history(Path(self.work_dir) / "history.jsonl", {"step": self._iter, "epoch": self._epoch} | flat)
                LOGGER.info(
                    "step %d: %s %.2f%s", self._iter, self.best_metric, 100 * score, " (best)" if improved else ""
                )
        self.world.barrier()
        for clock in clocks:
            clock.restart_clock()

    def save(self) -> Path | None:
        """Save a checkpoint of this moment; every rank takes part, rank 0 writes and returns its path."""
        state = {
            "step": self._iter,
            "epoch": self._epoch,
            "inner_step": self._inner_iter,
            "best_score": self.best_score,
            "validations_since_best": self.validations_since_best,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": self.world.gather(_rng_state()),
        }
        self._saved_at = self._iter
        return self.checkpoints.save(self._iter, self.write_model, state) if self.world.is_main else None

    def _load(self, checkpoint: Path) -> None:
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
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        _set_rng_state(state["rng"][self.world.rank])
        LOGGER.info("resumed from %s at step %d", checkpoint, self._iter)


def _rng_state() -> dict[str, torch.Tensor]:
    """The generators that training draws from (dropout); crops and flips have seeds of their own."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_rng_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
