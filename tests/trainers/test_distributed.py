"""Two processes equal one with twice the batch."""

import json
import shutil
import socket
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


TWO_RANKS = [["--standalone", "--nproc_per_node", "2"]]
LAUNCHES = {
    "one agent with two ranks": (TWO_RANKS, []),
    "two agents with a rank each": ([["--nnodes", "2", "--nproc_per_node", "1", "--rdzv-backend", "c10d"]] * 2, []),
    "parameters sharded over two ranks": (TWO_RANKS, ["train.sharding=fsdp"]),
}


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
@pytest.mark.parametrize("launch", LAUNCHES)
def test_two_ranks_equal_one_with_twice_the_batch(demo, tmp_path, launch):
    """The command under torchrun, with validation on both ranks, against one process here."""
    sets = [*DIVISIBLE, "train.max_steps=3", "train.checkpoint_every=2", f"data.val={demo}/nano_val.json"]
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps(nano_document(demo, tmp_path / "two")))
    command = ["finetune.py", "--conf", str(conf), "train", "--batch_size", "4"]
    agents, more = LAUNCHES[launch]
    for item in [*sets, *more]:
        command += ["--set", item]
    meeting = f"localhost:{free_port()}"
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", *options),
                *(("--rdzv-endpoint", meeting, "--rdzv-id", "nano") if len(agents) > 1 else ()),
                *command,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for options in agents
    ]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
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


def launch_two(demo, folder, *sets: str, resume: bool = False) -> None:
    conf = folder.with_suffix(".json")
    conf.write_text(json.dumps(nano_document(demo, folder)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *TWO_RANKS[0],
        "finetune.py",
        "--conf",
        str(conf),
        "train",
    ]
    command += [part for item in sets for part in ("--set", item)] + ["--resume"] * resume
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
@pytest.mark.parametrize("order", [("none", "fsdp"), ("fsdp", "none")])
def test_a_run_may_change_between_sharded_and_whole(demo, tmp_path, order):
    """Two updates one way and two the other end where four of one process do: the checkpoint's form is the same, that
    of averaged weights among it."""
    sets = [
        *DIVISIBLE,
        "train.ema=0.9",
        "train.max_steps=4",
        "train.checkpoint_every=2",
        f"data.val={demo}/nano_val.json",
    ]
    two = tmp_path / "two"
    launch_two(demo, two, *sets, "train.batch_size=4", f"train.sharding={order[0]}")
    shutil.rmtree(two / "checkpoints" / "step-000004")
    (two / "checkpoints" / "last").unlink()
    (two / "checkpoints" / "last").symlink_to("step-000002")
    launch_two(demo, two, *sets, "train.batch_size=4", f"train.sharding={order[1]}", resume=True)
    one = nano_config(demo, tmp_path / "one", *sets, "train.batch_size=8")
    train(one)
    assert_close(saved_weights(nano_config(demo, two)), saved_weights(one), atol=2e-5)
