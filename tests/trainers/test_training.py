"""Whole runs of a nano model: updates that divide at will, frozen parts, checkpoints and validation."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from modelscope.trainers.builder import TRAINERS
from modelscope.trainers.trainer import EpochBasedTrainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tasks import training
from tasks.captioning import build
from tasks.captioning import task as captioning
from tasks.captioning.trainer import StylishOFATrainer
from tasks.training import prepare, run_training
from tests.trainers.nano import (
    DIVISIBLE,
    UPDATES,
    assert_close,
    assert_equal,
    first_batch,
    history,
    nano_config,
    saved_weights,
    train,
)
from trainers.distributed import World

THREE = "train.max_steps=3"


def step(trainer: Any, batch: Any) -> dict[str, torch.Tensor]:
    """The gradients of one micro-batch, without the update that would clear them."""
    trainer.loop.module.train()
    trainer.loop.module(batch, 0).loss_sum.backward()
    return {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}


# --- the loss --------------------------------------------------------------------------------------------------------


# An update proportional to its gradient: plain Adam turns the rounding noise of gradients that are zero into full
# steps, and five updates later the losses of two processors differ in the third digit.
PROPORTIONAL = ["train.adam_eps=1", "train.warmup_proportion=0"]
RECORDED = {
    # Batch statistics of six tiny images amplify rounding, too: with a tower that learns, three updates are repeatable.
    "frozen tower": (
        ["train.max_steps=5", "train.lr=3", "train.freeze_resnet=true"],
        [6.28815, 5.46308, 4.64854, 4.42463, 4.22034],
    ),
    "whole model": (["train.max_steps=3", "train.lr=1"], [6.35137, 6.03383, 5.71734]),
}


@pytest.mark.parametrize("trained", RECORDED)
def test_the_loss_falls_and_is_the_same_as_ever(demo, tmp_path, trained):
    """Recorded losses per token of a seeded run; 5.7 is ln 300, the model knows nothing. They change only with the
    model's start, dropout, the data or the arithmetic, and are the same on every processor (seen: AVX-512, AVX2 and
    SSE, 1e-4 apart at most)."""
    sets, recorded = RECORDED[trained]
    config = nano_config(demo, tmp_path, *PROPORTIONAL, *sets)
    train(config)
    assert [loss for _, loss in history(config)] == pytest.approx(recorded, abs=5e-4)


def test_accumulated_micro_batches_equal_one_batch(demo, tmp_path):
    whole = nano_config(demo, tmp_path / "whole", *DIVISIBLE, THREE, "train.batch_size=8")
    parts = nano_config(
        demo, tmp_path / "parts", *DIVISIBLE, THREE, "train.batch_size=4", "train.gradient_accumulation=2"
    )
    start = prepare(whole, World(), False).model.state_dict()
    train(whole)
    train(parts)
    assert [loss for _, loss in history(parts)] == pytest.approx([loss for _, loss in history(whole)], abs=2e-5)
    assert_close(saved_weights(parts), saved_weights(whole), atol=2e-5)
    moved = max((saved_weights(whole)[name] - start[name]).abs().max().item() for name in saved_weights(whole))
    assert moved > 0.05  # the comparison is not one of models that stood still


def test_autocast_keeps_weights_in_float32(demo, tmp_path):
    config = nano_config(demo, tmp_path, "train.max_steps=2", "train.dtype=bfloat16")
    train(config)
    assert {tensor.dtype for tensor in saved_weights(config).values() if tensor.is_floating_point()} == {torch.float32}
    in_float = nano_config(demo, tmp_path / "float32", "train.max_steps=2")
    train(in_float)
    assert history(config)[0][1] == pytest.approx(history(in_float)[0][1], abs=0.02)
    assert history(config)[0] != history(in_float)[0]


def test_clipping_bounds_the_update(demo, tmp_path):
    """With an update proportional to its gradient: the same direction, shorter by the norm."""
    sets = [*DIVISIBLE, "train.max_steps=1", "train.weight_decay=0"]
    moves = {}
    for clip in (0, 0.01):
        config = nano_config(demo, tmp_path / str(clip), *sets, f"train.clip_norm={clip}")
        start = prepare(config, World(), False).model.encoder.layer_norm.bias.detach().clone()
        train(config)
        moves[clip] = saved_weights(config)["encoder.layer_norm.bias"] - start
        norm = history(config, "grad_norm")[0][1]
    assert norm > 0.1
    torch.testing.assert_close(moves[0.01], moves[0] * (0.01 / norm), rtol=0.1, atol=1e-6)


# --- what is not trained ---------------------------------------------------------------------------------------------


def changed(config: Any) -> set[str]:
    """Names of what two updates changed."""
    start = {name: value.clone() for name, value in prepare(config, World(), False).model.state_dict().items()}
    train(config)
    return {name for name, value in saved_weights(config).items() if not torch.equal(value, start[name])}


def test_freeze_resnet_keeps_weights_and_statistics(demo, tmp_path):
    names = changed(nano_config(demo, tmp_path, "train.max_steps=2", "train.freeze_resnet=true"))
    assert not [name for name in names if name.startswith("encoder.embed_images.")]
    assert {"encoder.image_proj.weight", "encoder.embed_tokens.weight"} <= names


def test_without_freezing_everything_but_the_image_codes_learns(demo, tmp_path):
    config = nano_config(demo, tmp_path, "train.max_steps=2")
    left = saved_names(config) - changed(config)
    unused = (
        "decoder.embed_image_positions",
        "decoder.image_pos_ln",
        "decoder.code_layernorm",
        "decoder.image_rel_pos",
    )
    assert [name for name in left if not name.startswith(unused) and not name.endswith(("_bucket", "_idx"))] == []


def saved_names(config: Any) -> set[str]:
    return set(prepare(config, World(), False).model.state_dict()) - {
        "decoder.embed_tokens.weight",
        "decoder.output_projection.weight",
    }


def test_freeze_embeddings(demo, tmp_path):
    names = changed(nano_config(demo, tmp_path, "train.max_steps=2", "train.freeze_embeddings=true"))
    assert not [name for name in names if "embed_tokens" in name or "output_projection" in name]
    assert "encoder.embed_images.conv1.weight" in names


def test_gradient_checkpointing_gives_the_same_gradients(demo, tmp_path):
    gradients, batch = [], None
    for number, setting in enumerate(("false", "true")):
        sets = (f"train.gradient_checkpointing={setting}", "train.dropout=0.3", "train.drop_path=0.3")
        trainer = prepare(nano_config(demo, tmp_path / str(number), *sets), World(), False)
        batch = batch or first_batch(trainer)
        assert trainer.model.encoder.gradient_checkpointing is (setting == "true")
        torch.manual_seed(5)
        gradients.append(step(trainer, batch))
    assert_close(gradients[1], gradients[0], atol=1e-5)


# --- checkpoints and validation --------------------------------------------------------------------------------------


@pytest.fixture
def scored(demo, monkeypatch):
    """Makes a run whose n-th validation has the n-th of some scores."""

    def make(work_dir, scores, *sets):
        remaining = iter(scores)
        monkeypatch.setattr(captioning, "evaluate_captions", lambda *_, **__: {"CIDEr": next(remaining)})
        return nano_config(demo, work_dir, f"data.val={demo}/nano_val.json", *sets)

    return make


def checkpoints(config: Any) -> dict[str, str]:
    """Every entry of the folder and, for a link, what it points at."""
    root = Path(config.work_dir) / "checkpoints"
    return {path.name: os.readlink(path) if path.is_symlink() else "" for path in root.iterdir()}


def numbered(*steps: int) -> dict[str, str]:
    return {f"step-{number:06d}": "" for number in steps}


def test_best_follows_the_metric_and_old_checkpoints_go(tmp_path, scored):
    config = scored(tmp_path, [0.2, 0.5, 0.4, 0.5, 0.1], "train.checkpoint_every=1", "train.max_steps=5")
    result = run_training(config, resume=False)
    assert checkpoints(config) == numbered(2, 4, 5) | {"best": "step-000002", "last": "step-000005"}
    assert result == {
        "step": 5,
        "epoch": 1,
        "CIDEr": 0.5,
        "checkpoint": str((tmp_path / "checkpoints" / "step-000002").resolve()),
    }
    assert history(config, "val/CIDEr") == [(1, 0.2), (2, 0.5), (3, 0.4), (4, 0.5), (5, 0.1)]


def test_early_stopping(tmp_path, scored):
    sets = ("train.checkpoint_every=1", "train.early_stop_patience=2", "train.keep_checkpoints=1")
    config = scored(tmp_path, [0.1, 0.3, 0.3, 0.2, 0.9], *sets)
    assert run_training(config, resume=False)["step"] == 4
    assert checkpoints(config) == numbered(2, 4) | {"best": "step-000002", "last": "step-000004"}


@pytest.mark.parametrize(
    ("sets", "validated"),
    [
        ((), [UPDATES, 2 * UPDATES]),
        (("train.max_steps=6",), [UPDATES, 6]),
        (("train.checkpoint_every=3",), [3, 6, 8]),
        (("train.checkpoint_every=4",), [4, 8]),
        (("train.checkpoint_every=100", "train.max_epochs=1"), [4]),
    ],
)
def test_when_a_run_validates(tmp_path, scored, sets, validated):
    """After every epoch or so many updates, and after the last update; never twice after the same."""
    config = scored(tmp_path, [0.1] * len(validated), *sets)
    assert run_training(config, resume=False)["step"] == validated[-1]
    assert [update for update, _ in history(config, "val/CIDEr")] == validated


def test_validation_scores_captions_of_every_request(demo, tmp_path):
    """Without a stand-in: captions of the model as it is, scored by the real metrics, training left as it was."""
    sets = (THREE, "train.checkpoint_every=1", "train.dropout=0.3")
    config = nano_config(demo, tmp_path / "a", *sets, f"data.val={demo}/nano_val.json")
    trainer = train(config)
    assert len(history(config, "val/CIDEr")) == len(history(config, "val/BLEU-4")) == 3
    assert trainer.loop.state.best_score == max(score for _, score in history(config, "val/CIDEr"))
    without = nano_config(demo, tmp_path / "b", *sets)
    train(without)
    assert history(without) == history(config)  # validation draws no random number and leaves no mode behind
    assert_equal(saved_weights(without), saved_weights(config))


def test_no_space_left_keeps_the_old_checkpoint(demo, tmp_path, monkeypatch):
    real = build.write_checkpoint
    calls: list[Path] = []

    def full_the_second_time(folder: Path, *args: Any, **kwargs: Any) -> None:
        calls.append(folder)
        real(folder, *args, **kwargs)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_checkpoint", full_the_second_time)
    config = nano_config(demo, tmp_path, "train.checkpoint_every=1")
    with pytest.raises(OSError, match="No space left on device"):
        run_training(config, resume=False)
    assert checkpoints(config) == numbered(1) | {"last": "step-000001"}
    assert run_training(config, resume=True)["step"] == 2 * UPDATES


# --- the framework ---------------------------------------------------------------------------------------------------


def test_the_trainer_is_built_by_modelscope(demo, tmp_path, monkeypatch):
    asked = []
    real = training.build_trainer

    def spy(name: str, arguments: dict[str, Any]) -> Any:
        asked.append(name)
        return real(name, arguments)

    monkeypatch.setattr(training, "build_trainer", spy)
    trainer = prepare(nano_config(demo, tmp_path), World(), False)
    assert asked == ["ofa-stylish-captioning"]
    assert type(trainer) is StylishOFATrainer is TRAINERS.get("ofa-stylish-captioning")
    assert isinstance(trainer, EpochBasedTrainer)
    assert isinstance(trainer, TRAINERS.get("ofa-captioning"))


def test_tensorboard_tells_what_the_history_tells(demo, tmp_path, capsys):
    config = nano_config(demo, tmp_path, "train.max_steps=4", "train.log_every=2", "train.tensorboard=true")
    train(config)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in shown] == [2, 4]
    assert [loss for _, loss in shown] == pytest.approx([loss for _, loss in history(config)], rel=1e-4)
    assert capsys.readouterr().out == ""


def test_all_ranks_shuffle_alike_and_drop_out_differently(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.loop.DistributedDataParallel", lambda module, **_: module)
    monkeypatch.setattr(World, "broadcast", lambda self, value: value)
    monkeypatch.setattr(World, "barrier", lambda self: None)
    monkeypatch.setattr(World, "is_main", True)  # there is nobody to ask
    monkeypatch.setattr("tasks.captioning.task.checked", lambda config, split, world: split)  # nor to share work with
    config = nano_config(demo, tmp_path)
    masks, orders, pixels = [], [], []
    for rank in range(2):
        trainer = prepare(config, World(rank, 2), False)
        masks.append(torch.rand(50))
        items = trainer.loop.items
        orders.append([items[i]["requests"][0]["image_id"] for i in range(len(items))])
        pixels.append(items[3]["patch_image"])
    assert orders[0] == orders[1]
    assert torch.equal(pixels[0], pixels[1])
    assert not torch.equal(masks[0], masks[1])
