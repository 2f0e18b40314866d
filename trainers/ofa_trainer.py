"""The training loop on ModelScope's `EpochBasedTrainer`.

An iteration is one optimizer update: it reads the micro-batches of the update, sums their losses, divides by the number
of tokens over all ranks and micro-batches, and steps. So one rank with twice the batch, two ranks, and two accumulated
micro-batches give the same update. ModelScope's hooks run at their usual stages; its checkpoint, optimizer and
learning-rate hooks are not used, because what they save cannot be resumed exactly.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from modelscope.trainers.builder import TRAINERS
from modelscope.trainers.hooks.hook import Hook
from modelscope.utils.constant import ModeKeys, TrainerStages
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from models.ofa import OFAModel
from trainers.batches import Batch, TrainingItems, UpdateSampler, to_device, training_loader
from trainers.checkpointing import CHECKPOINTS, CheckpointFolder
from trainers.distributed import World
from trainers.interruption import Interruption
from trainers.objective import Objective, TrainingModule
from trainers.optimizer import adamw
from trainers.progress import ProgressHook
from trainers.schedule import learning_rate
from trainers.sharding import gathered, shard
from trainers.validation import ValidatingTrainer

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@TRAINERS.register_module(module_name="ofa-captioning")
class OFATrainer(ValidatingTrainer):
    """Trains an `OFAModel` on groups of captions.

    Args:
        model: the model to train, on any device.
        cfg_file: path of a ModelScope `configuration.json`; its folder is the run's.
        train_dataset: `trainers.batches.TrainingItems`.
        objective: what is minimised.
        run_hooks: ModelScope hooks of this run, beside those of every run; on the main process only.
        write_model: fills a folder with a loadable model of the weights given: `write_model(folder, weights)`.
        validate: returns the validation scores of the model as it is; called on every rank, scores used from rank 0.
        world: this process among those that train together.
        seed: of dropout, to which each rank adds its own number.
        others: keys of the section `train` of a configuration, with the same names and meanings.
    """

    def __init__(
        self,
        model: OFAModel,
        cfg_file: str,
        train_dataset: TrainingItems,
        objective: Objective,
        write_model: Callable[[Path, Mapping[str, Tensor]], None],
        validate: Callable[[], dict[str, Any]] | None = None,
        world: World | None = None,
        run_hooks: Sequence[Hook] = (),
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
        sharding: str = "none",
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
        self.run_hooks = run_hooks
        self.write_model = write_model
        self.validate = validate
        self.gradient_accumulation = gradient_accumulation
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_steps = max_steps
        self.rate: dict[str, Any] = {
            "lr": lr, "lr_end": lr_end, "warmup_proportion": warmup_proportion, "schedule": schedule,
        }  # fmt: skip
        self.adamw: dict[str, Any] = {"lr": lr, "betas": adam_betas, "eps": adam_eps, "weight_decay": weight_decay}
        self.clip_norm = clip_norm
        self.freeze_resnet = freeze_resnet
        self.autocast_dtype = self._autocast_dtype(dtype)
        self.checkpoint_every = checkpoint_every
        self.best_metric = best_metric
        self.early_stop_patience = early_stop_patience
        self.log_every = log_every
        self.tensorboard = tensorboard and self.world.is_main
        self.interruption = Interruption()
        self.interrupted_anywhere = False
        super().__init__(
            model=model,
            cfg_file=cfg_file,
            train_dataset=train_dataset,
            seed=(seed + self.world.rank) % 2**32,  # of dropout, the one thing in which ranks are to differ
            max_epochs=max_epochs,
            work_dir=str(Path(cfg_file).parent),
            device=str(self.world.device),
            **kwargs,
        )
        self.checkpoints = CheckpointFolder(Path(self.work_dir) / CHECKPOINTS, keep_checkpoints)
        self._prepare_model(freeze_resnet, freeze_embeddings, gradient_checkpointing)
        self._wrap(sharding)

    # --- set-up ------------------------------------------------------------------------------------------------------

    def _autocast_dtype(self, dtype: str) -> torch.dtype | None:
        if dtype == "float16" and self.world.device.type != "cuda":
            raise ValueError('train.dtype = "float16" needs a GPU: use "bfloat16" or "float32" on a CPU')
        return AUTOCAST[dtype]

    def _prepare_model(self, freeze_resnet: bool, freeze_embeddings: bool, gradient_checkpointing: bool) -> None:
        self.model.to(self.world.device)
        if freeze_resnet:
            self.model.encoder.embed_images.requires_grad_(False)
        if freeze_embeddings:
            self.model.encoder.embed_tokens.requires_grad_(False)
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def _wrap(self, sharding: str) -> None:
        """Make `training_module` of the model and its objective: what is trained, over however many ranks."""
        self.inner = TrainingModule(self.model, self.objective)
        self.training_module: nn.Module = self.inner
        if self.world.size > 1 and sharding == "fsdp":
            shard(self.inner, self.world)
            return
        # Shards are flat pieces: they know no other order of axes.
        self.model.encoder.embed_images.to(memory_format=torch.channels_last)
        if self.world.size > 1:
            gpus = [self.world.device.index] if self.world.device.type == "cuda" else None
            self.training_module = DistributedDataParallel(self.inner, device_ids=gpus, forward_sync_buffers=False)

    def register_hook_from_cfg(self, hook_cfg: list) -> list:
        """Ours in place of ModelScope's defaults, which the base class adds to every configuration."""
        hooks: list[Hook] = []
        if self.world.is_main:
            hooks += [ProgressHook(self.log_every), *self.run_hooks]
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
        self.optimizer = adamw(self.model, **self.adamw)
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
            self.load(last)
        with self.interruption.deferred():
            self.invoke_hook(TrainerStages.before_run)
            try:
                self.train_loop(self.train_dataloader)
            finally:
                self.invoke_hook(TrainerStages.after_run)
                self.objective.close()
                self.train_dataloader = self.data_loader = None  # ends the loader's workers
        best = self.checkpoints.find("best")
        return {
            "step": self._iter,
            "epoch": self._epoch,
            self.best_metric: self.best_score,
            "checkpoint": str(best or self.checkpoints.find("last")),
        }

    def train_loop(self, data_loader: Any) -> None:
        self.validate_if_due()  # the run may have been interrupted just before
        while self._epoch < self._max_epochs and self._iter < self.max_iters and not self._stop_training:
            self.train_dataset.set_epoch(self._epoch)
            self.sampler.start = self._inner_iter
            self.invoke_hook(TrainerStages.before_train_epoch)
            for batches in data_loader:
                self.invoke_hook(TrainerStages.before_train_iter)
                self.train_step(self.training_module, batches)
                self.invoke_hook(TrainerStages.after_train_iter)
                self._advance()
                if self.interrupted_anywhere:
                    self.save()
                    raise KeyboardInterrupt
                self.validate_if_due()
                if self._iter >= self.max_iters or self._stop_training:
                    break
            self.invoke_hook(TrainerStages.after_train_epoch)

    def _advance(self) -> None:
        """Count an update; the position that is saved is that of the next one."""
        self._iter += 1
        self._inner_iter: int = self._inner_iter + 1
        if self._inner_iter == self._train_iters_per_epoch:
            self._epoch += 1
            self._inner_iter = 0

    def train_step(self, model: nn.Module, inputs: list[Batch]) -> None:
        """One update from its micro-batches; leaves what to log in `train_outputs`."""
        self.objective.set_mode(self.model)
        if self.freeze_resnet:
            self.model.encoder.embed_images.eval()  # frozen means its running statistics, too
        counts = [self.objective.count(batch, self._iter) for batch in inputs]
        total, interrupted = self.world.sum([sum(counts), self.interruption.noted])
        self.interrupted_anywhere = interrupted > 0  # decided together: no rank may wait for one that has left
        logs: dict[str, tuple[float, float]] = {}
        seconds = 0.0
        for position, batch in enumerate(self._prepared(inputs)):
            last = position == len(inputs) - 1
            started = time.perf_counter()
            with contextlib.nullcontext() if last else self._without_synchronisation(model), self.autocast():
                output = model(batch, self._iter)
                # Data-parallel wrappers average over ranks what is to be summed.
                loss = output.loss_sum * (self.world.size / total)
                self.scaler.scale(loss).backward()
            seconds += time.perf_counter() - started
            for name, (value, units) in output.logs.items():
                former = logs.get(name, (0.0, 0.0))
                logs[name] = (former[0] + float(value), former[1] + units)
        grad_norm = self._update()
        sums = self.world.sum([number for log in logs.values() for number in log])
        pairs = zip(logs, sums[::2], sums[1::2], strict=True)
        self.train_outputs = {name: value / units for name, value, units in pairs if units}
        self.train_outputs["backward_s"] = seconds
        self.train_outputs |= {"lr": self.optimizer.param_groups[0]["lr"], "grad_norm": grad_norm}
        self.log_buffer.update(self.train_outputs)

    def _prepared(self, inputs: list[Batch]) -> Iterator[Batch]:
        """Micro-batches on the device as the objective wants them, one ahead: what it started for one (the scoring of
        candidates) goes on while it prepares the next."""
        ahead: Batch | None = None
        for batch in inputs:
            with self.autocast():
                on_device = to_device(batch, self.world.device)
                prepared = gathered(self.inner, partial(self.objective.prepare, self.model, on_device))
            if ahead is not None:
                yield ahead
            ahead = prepared
        assert ahead is not None, "an update has a micro-batch"
        yield ahead

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
        return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()

    def autocast(self) -> contextlib.AbstractContextManager:
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, dtype=self.autocast_dtype)

    @staticmethod
    def _without_synchronisation(model: nn.Module) -> contextlib.AbstractContextManager:
        return model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext()
