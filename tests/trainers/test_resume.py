"""An interrupted run equals one that was not, bit for bit; and what a run refuses to be resumed as."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tasks.captioning import task as captioning
from tasks.training import run_training
from tests.conftest import ROOT
from tests.trainers.nano import (
    UPDATES,
    assert_equal,
    history,
    nano_config,
    nano_document,
    saved_weights,
    train,
)
from trainers.checkpointing import STATE_FILE
from trainers.history import History

STOCHASTIC = ("train.dropout=0.3", "train.drop_path=0.2", "data.flip=true", "train.rdrop_alpha=0.5")


@pytest.fixture(scope="module")
def whole(demo, tmp_path_factory):
    """A run of two epochs that nothing interrupted."""
    config = nano_config(demo, tmp_path_factory.mktemp("whole"), *STOCHASTIC)
    torch.manual_seed(11)
    train(config)
    return config


def assert_same_run(config, whole):
    assert history(config) == history(whole)
    assert history(config, "grad_norm") == history(whole, "grad_norm")
    assert [step for step, _ in history(config)] == list(range(1, 2 * UPDATES + 1))
    assert_equal(saved_weights(config), saved_weights(whole))


@pytest.mark.parametrize(("update", "workers"), [(3, 0), (3, 2), (UPDATES, 0), (UPDATES + 1, 2), (2 * UPDATES, 0)])
def test_interrupted_equals_uninterrupted(demo, tmp_path, whole, update, workers):
    config = nano_config(demo, tmp_path, *STOCHASTIC, f"data.num_workers={workers}")
    assert train(config, interrupt=update)._iter == update
    assert [step for step, _ in history(config)] == list(range(1, update + 1))
    torch.manual_seed(12345)  # whatever a new process starts with
    train(config, resume=True)
    assert_same_run(config, whole)


def test_interrupted_twice(demo, tmp_path, whole):
    config = nano_config(demo, tmp_path, *STOCHASTIC)
    train(config, interrupt=2)
    train(config, resume=True, interrupt=6)
    train(config, resume=True)
    assert_same_run(config, whole)


def test_killed_after_the_last_checkpoint(demo, tmp_path, whole):
    """What the history tells of updates after the checkpoint is forgotten, for they are gone through again."""
    config = nano_config(demo, tmp_path, *STOCHASTIC)
    train(config, interrupt=3)
    History(tmp_path / "history.jsonl").log(4, 0, {"loss": 99.0, "grad_norm": 0.0})
    train(config, resume=True)
    assert_same_run(config, whole)


def test_optimizer_and_accumulation_are_resumed(demo, tmp_path):
    """Two micro-batches an update, a drop of the worst tokens that sets in later, and a cosine."""
    sets = ["train.gradient_accumulation=2", "train.batch_size=3", "train.drop_worst_ratio=0.2"]
    sets += ["train.drop_worst_after=2", "train.schedule=cosine", "train.max_epochs=1"]
    uninterrupted = nano_config(demo, tmp_path / "a", *sets)
    train(uninterrupted)
    config = nano_config(demo, tmp_path / "b", *sets)
    train(config, interrupt=2)
    train(config, resume=True)
    assert history(config) == history(uninterrupted)
    assert history(config, "lr") == history(uninterrupted, "lr")
    assert_equal(saved_weights(config), saved_weights(uninterrupted))


# --- validation around an interruption -------------------------------------------------------------------------------


def with_validation(demo, work_dir, monkeypatch, scores, *sets):
    """A run whose n-th validation has the n-th of `scores`; interruptions do not count anew."""
    remaining = iter(scores)
    monkeypatch.setattr(captioning, "evaluate_captions", lambda *_, **__: {"CIDEr": next(remaining)})
    return nano_config(demo, work_dir, f"data.val={demo}/nano_val.json", *sets)


@pytest.mark.parametrize("update", [UPDATES, 2 * UPDATES])
def test_interruption_before_a_validation_does_not_lose_it(demo, tmp_path, monkeypatch, update):
    config = with_validation(demo, tmp_path, monkeypatch, [0.5, 0.25])
    train(config, interrupt=update)
    assert [step for step, _ in history(config, "val/CIDEr")] == [s for s in (UPDATES, 2 * UPDATES) if s < update]
    train(config, resume=True)
    assert history(config, "val/CIDEr") == [(UPDATES, 0.5), (2 * UPDATES, 0.25)]
    assert os.readlink(tmp_path / "checkpoints" / "best") == f"step-{UPDATES:06d}"
    assert os.readlink(tmp_path / "checkpoints" / "last") == f"step-{2 * UPDATES:06d}"


def test_resuming_a_finished_run_does_nothing(demo, tmp_path, monkeypatch):
    config = with_validation(demo, tmp_path, monkeypatch, [0.5, 0.25])
    first = run_training(config, resume=False)
    lines = (tmp_path / "history.jsonl").read_text()
    assert run_training(config, resume=True) == first  # a third validation would find no score
    assert (tmp_path / "history.jsonl").read_text() == lines
    assert first["CIDEr"] == 0.5


def test_resuming_a_run_that_stopped_early_does_nothing(demo, tmp_path, monkeypatch):
    sets = ("train.checkpoint_every=1", "train.early_stop_patience=1")
    config = with_validation(demo, tmp_path, monkeypatch, [0.5, 0.25], *sets)
    assert run_training(config, resume=False)["step"] == 2
    assert run_training(config, resume=True)["step"] == 2


def test_patience_counts_across_an_interruption(demo, tmp_path, monkeypatch):
    sets = ("train.checkpoint_every=1", "train.early_stop_patience=3")
    config = with_validation(demo, tmp_path, monkeypatch, [0.3, 0.5, 0.1, 0.2, 0.1, 0.9], *sets)
    train(config, interrupt=4)
    assert run_training(config, resume=True)["step"] == 5  # 0.5 after update 2, then three that are not better


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(demo, tmp_path):
    config = nano_config(demo, tmp_path / "run")
    train(config, interrupt=1)
    return config


def test_a_folder_with_a_run_needs_resume(stopped):
    before = saved_weights(stopped)
    with pytest.raises(ValueError, match=r"holds a run with checkpoints.*--resume.*--work_dir"):
        run_training(stopped, resume=False)
    assert_equal(saved_weights(stopped), before)


def test_resume_without_a_checkpoint_starts(demo, tmp_path):
    assert run_training(nano_config(demo, tmp_path, "train.max_steps=1"), resume=True)["step"] == 1


@pytest.mark.parametrize("change", ["train.lr=0.5", "seed=8", "train.batch_size=3", "style.tokenize_style=false"])
def test_resume_with_other_settings(demo, stopped, change):
    key, _, value = change.partition("=")
    with pytest.raises(ValueError, match=rf"--resume: {key} was .* and is now {value.title()}"):
        run_training(nano_config(demo, Path(stopped.work_dir), change), resume=True)


def test_resume_with_settings_that_do_not_matter(demo, stopped, tmp_path):
    free = ("train.log_every=2", "data.cache_images=true", "eval.beam_size=2", "train.keep_checkpoints=1")
    moved = tmp_path / "moved"
    Path(stopped.work_dir).rename(moved)
    assert run_training(nano_config(demo, moved, *free), resume=True)["step"] == 2 * UPDATES


def test_cached_images_are_the_same_images(demo, tmp_path, whole):
    config = nano_config(demo, tmp_path, *STOCHASTIC, "data.cache_images=true")
    train(config, interrupt=3)
    train(config, resume=True)
    assert_same_run(config, whole)


def test_resume_from_a_damaged_state(stopped):
    file = Path(stopped.work_dir) / "checkpoints" / "last" / STATE_FILE
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"step-000001/training_state\.pt: is damaged"):
        run_training(stopped, resume=True)


def test_resume_from_damaged_weights(stopped):
    file = Path(stopped.work_dir) / "checkpoints" / "last" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or truncated"):
        run_training(stopped, resume=True)


def test_resume_with_another_number_of_processes(stopped):
    file = Path(stopped.work_dir) / "checkpoints" / "last" / STATE_FILE
    state = torch.load(file, weights_only=True)
    torch.save(state | {"rng": state["rng"] * 2}, file)
    with pytest.raises(ValueError, match="saved by 2 processes and is resumed by 1"):
        run_training(stopped, resume=True)


def test_resume_with_a_damaged_configuration(stopped):
    (Path(stopped.work_dir) / "conf.json").write_text("{")
    with pytest.raises(ValueError, match=r"conf\.json.*not JSON"):
        run_training(stopped, resume=True)


# --- the command -----------------------------------------------------------------------------------------------------


def test_ctrl_c_saves_and_resume_continues(demo, tmp_path):
    """The command, stopped with SIGINT to the whole process group as a terminal does, workers among it."""
    document = nano_document(demo, tmp_path / "cli")
    document["train"] = document["train"] | {"max_epochs": 400, "tensorboard": True}
    document["data"] = document["data"] | {"num_workers": 1}
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps(document))
    command = [sys.executable, "finetune.py", "--conf", str(conf), "train"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        lines = tmp_path / "cli" / "history.jsonl"
        deadline = time.monotonic() + 120
        while not (lines.exists() and len(lines.read_text().splitlines()) >= 2):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert stderr.count("interrupted: saving a checkpoint after this update") == 1
    assert stderr.splitlines()[-1] == "finetune.py: interrupted"
    assert "Traceback" not in stderr
    steps = [json.loads(line)["step"] for line in lines.read_text().splitlines()]
    checkpoint = (tmp_path / "cli" / "checkpoints" / "last").resolve()
    assert checkpoint.name == f"step-{steps[-1]:06d}"  # it stopped right after the update that it was in
    assert list((tmp_path / "cli" / "tensorboard").glob("events.*"))
    config = nano_config(demo, tmp_path / "cli", "train.max_epochs=400", "train.tensorboard=true")
    trainer = train(config, resume=True, interrupt=steps[-1] + 2)
    assert [step for step, _ in history(config)] == list(range(1, trainer._iter + 1))
