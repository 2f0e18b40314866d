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


SHARED = (*TASKS, "style.place=decoder", "style_mlm.place=decoder")


def test_each_task_is_learnt_in_the_decoder(demo, tmp_path):
    # One token is learnt of a style's question, and some dozen of a caption.
    weight = "style_mlm.mask_style_weight=5"
    config = nano_config(demo, tmp_path, *SHARED, weight, "train.max_epochs=12", "train.lr=3e-3")
    train(config)
    for name in ("loss/mask_style", "loss/mask_caption", "loss/matching", "nll"):
        losses = [loss for _, loss in history(config, name)]
        assert losses[-1] < 0.9 * losses[0], name


def test_questions_that_share_a_pass_equal_questions_with_a_pass_each(demo, tmp_path):
    """The loss and every gradient, against the same questions with a row of the encoder for each: nothing random."""
    trainer = prepare(nano_config(demo, tmp_path, *SHARED, *DIVISIBLE), World(), False)
    objective, model, batch = trainer.loop.objective, trainer.loop.model.eval(), first_batch(trainer)
    prompts, captions = batch["input_ids"].shape[0], batch["target"].shape[0]
    assert (prompts, captions) == (6, 6 * (2 + 3))
    rows = batch["encoder_index"]
    alone = batch | {
        "input_ids": batch["input_ids"][rows],
        "image_index": batch["image_index"][rows],
        "encoder_index": torch.arange(captions),
        "even": True,
    }
    found = []
    for each in (batch, alone):
        model.zero_grad()
        output = objective(model, each, 0)
        (output.loss_sum / objective.count(each, 0)).backward()
        gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
        found.append((output.loss_sum.item(), gradients, {name: float(v) for name, (v, _) in output.logs.items()}))
    (shared_loss, shared, shared_logs), (alone_loss, separate, alone_logs) = found
    assert shared_loss == pytest.approx(alone_loss, rel=1e-5)
    assert shared_logs == pytest.approx(alone_logs, rel=1e-4)
    assert_close(shared, separate, atol=1e-5)
    assert max(float(gradient.abs().max()) for gradient in shared.values()) > 1e-3


def test_interrupted_equals_uninterrupted_in_the_decoder(demo, tmp_path):
    whole, parts = (nano_config(demo, tmp_path / name, *SHARED) for name in ("whole", "parts"))
    train(whole)
    train(parts, interrupt=3)
    train(parts, resume=True)
    assert history(parts) == history(whole)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["style_mlm.place=decoder"], r'style_mlm\.place = "decoder" shares'),
        (["style_mlm.style_token_alone=true", "style.tokenize_style=false"], r"style_mlm\.style_token_alone"),
    ],
)
def test_settings_that_cannot_be(demo, tmp_path, sets, words):
    with pytest.raises(ValueError, match=words):
        nano_config(demo, tmp_path, *sets)


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
