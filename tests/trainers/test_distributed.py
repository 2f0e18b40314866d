"""Two processes equal one with twice the batch."""

import json
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from tests.trainers.nano import DIVISIBLE, assert_close, history, nano_config, nano_document, saved_weights, train
from trainers.distributed import World


def test_one_process_needs_no_group():
    world = World()
    assert world.is_main
    assert world.sum([1.5, 2]) == [1.5, 2]
    assert world.gather("x") == ["x"]
    assert world.broadcast({"a": 1}) == {"a": 1}
    world.barrier()
    world.share_buffers(torch.nn.BatchNorm2d(2))
    assert not World(rank=1, size=2).is_main


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_ranks_equal_one_with_twice_the_batch(demo, tmp_path):
    """The command under torchrun, with validation on both ranks, against one process here."""
    sets = [*DIVISIBLE, "train.max_steps=3", "train.checkpoint_every=2", f"data.val={demo}/nano_val.json"]
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps(nano_document(demo, tmp_path / "two")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "finetune.py"]
    command += ["--conf", str(conf), "train", "--batch_size", "4"]
    for item in sets:
        command += ["--set", item]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    two = nano_config(demo, tmp_path / "two")
    one = nano_config(demo, tmp_path / "one", *sets, "train.batch_size=8")
    train(one)
    for value in ("loss", "nll", "grad_norm", "lr", "val/CIDEr"):
        assert [step for step, _ in history(two, value)] == [step for step, _ in history(one, value)]
        expected = [number for _, number in history(one, value)]
        assert [number for _, number in history(two, value)] == pytest.approx(expected, abs=3e-5)
    assert_close(saved_weights(two), saved_weights(one), atol=2e-5)
    state = torch.load(tmp_path / "two" / "checkpoints" / "last" / "training_state.pt", weights_only=True)
    assert len(state["rng"]) == 2
    assert not torch.equal(state["rng"][0]["cpu"], state["rng"][1]["cpu"])  # each rank drops out on its own
