"""Step 1 with style-MLM and style matching, as runs of a nano model."""

import pytest
import torch

from tasks.training import prepare
from tests.trainers.nano import (
    DIVISIBLE,
    assert_close,
    assert_equal,
    first_batch,
    history,
    nano_config,
    saved_weights,
    train,
)
from trainers.distributed import World

TASKS = ("style_mlm.mask_style_weight=1", "style_mlm.mask_caption_weight=0.5", "style_matching.weight=0.25")


def test_each_task_is_logged_and_learnt(demo, tmp_path):
    config = nano_config(demo, tmp_path, *TASKS, "train.max_epochs=12", "train.lr=3e-3")
    train(config)
    for name in ("loss/mask_style", "loss/mask_caption", "loss/matching", "nll"):
        losses = [loss for _, loss in history(config, name)]
        assert len(losses) == 48
        assert losses[-1] < 0.6 * losses[0], name
    loss, parts = history(config)[0][1], [history(config, f"loss/{name}")[0][1] for name in ("mask_style", "matching")]
    assert loss > max(parts)  # the captions' loss, and the answers' on top of it


def test_tasks_of_weight_0_are_not_asked(demo, tmp_path):
    batch = first_batch(prepare(nano_config(demo, tmp_path), World(), False))
    assert "task" not in batch
    assert batch["input_ids"].shape[0] == 12  # 6 images in two styles, and no other prompts


def test_pictures_are_the_same_with_and_without_tasks(demo, tmp_path):
    batches = []
    for name, sets in (("off", ()), ("on", TASKS)):
        trainer = prepare(nano_config(demo, tmp_path / name, "data.flip=true", *sets), World(), False)
        batches.append(first_batch(trainer))
    off, on = batches
    assert torch.equal(off["patch_images"], on["patch_images"])
    assert on["task"].bincount().tolist() == [12, 6, 6, 6]


def test_interrupted_equals_uninterrupted_with_tasks(demo, tmp_path):
    whole, parts = (nano_config(demo, tmp_path / name, *TASKS) for name in ("whole", "parts"))
    train(whole)
    train(parts, interrupt=3)
    train(parts, resume=True)
    assert history(parts) == history(whole)
    assert_equal(saved_weights(parts), saved_weights(whole))


def test_two_micro_batches_equal_one_with_tasks(demo, tmp_path):
    sets = [*DIVISIBLE, *TASKS, "train.max_steps=3"]
    one = nano_config(demo, tmp_path / "one", *sets)
    two = nano_config(demo, tmp_path / "two", *sets, "train.batch_size=3", "train.gradient_accumulation=2")
    train(one)
    train(two)
    for name in ("loss", "loss/mask_style", "loss/mask_caption", "loss/matching", "grad_norm"):
        expected = [value for _, value in history(one, name)]
        assert [value for _, value in history(two, name)] == pytest.approx(expected, abs=3e-5), name
    assert_close(saved_weights(two), saved_weights(one), atol=2e-5)


def test_step_2_asks_nothing(demo, tmp_path):
    step1 = nano_config(demo, tmp_path / "step1", *TASKS, "train.max_steps=1")
    train(step1)
    checkpoint = tmp_path / "step1" / "checkpoints" / "last"
    config = nano_config(
        demo, tmp_path / "step2", *TASKS, "train.objective=scst", f"model.checkpoint={checkpoint}",
        "model.vocabulary=null", "model.config={}", "scst.max_len_b=3",
    )  # fmt: skip
    assert prepare(config, World(), False).loop.items.preprocessor.tasks is None
