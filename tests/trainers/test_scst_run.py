"""Runs of step 2 from a nano checkpoint of step 1, whole: data, rewards, threads, checkpoints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from config import Config, parse_config
from rewards.calculator import RewardCalculator
from tests.conftest import ROOT
from tests.trainers.nano import DIVISIBLE, assert_close, assert_equal, history, nano_document, saved_weights, train

UPDATES = 4  # an epoch of 24 images, six at a time


@pytest.fixture(scope="module")
def step1(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that writes words, if not yet captions."""
    folder = tmp_path_factory.mktemp("step1")
    train(parse_config(nano_document(demo, folder), sets=["train.lr=5e-3", "train.max_epochs=6"]))
    return folder / "checkpoints" / "last"


def scst_document(demo: Path, work_dir: Path, step1: Path) -> dict[str, Any]:
    document = nano_document(demo, work_dir)
    document["model"] = {"checkpoint": str(step1)}
    document["train"] = document["train"] | {"objective": "scst", "lr": 1e-4, "max_epochs": 1}
    document["scst"] = {"num_candidates": 3, "max_len_b": 8}
    return document


def scst_config(demo: Path, work_dir: Path, step1: Path, *sets: str) -> Config:
    return parse_config(scst_document(demo, work_dir, step1), sets=sets)


def test_step_2_logs_what_its_candidates_are_and_what_they_cost(demo, step1, tmp_path):
    rewards = '{"cider-d": 1.0, "bleu-4": 0.0, "rouge-l": 0.0, "ending": 0.1, "repetition": 0.1, "style": 0.2}'
    config = scst_config(demo, tmp_path, step1, f"scst.rewards={rewards}", "scst.baseline=greedy")
    train(config)
    for name in (
        *("reward", "reward_std", "reward/greedy", "reward/cider-d", "reward/bleu-4", "reward_std/style"),
        *("style_accuracy", "advantage_std", "zero_spread", "length", "ended", "duplicates", "entropy"),
        *("sample_s", "reward_s", "backward_s", "loss", "lr", "grad_norm"),
    ):
        assert [step for step, _ in history(config, name)] == list(range(1, UPDATES + 1)), name
    assert all(0 <= share <= 1 for _, share in history(config, "ended"))
    assert all(0 < length <= 8 for _, length in history(config, "length"))


def test_rewards_rise_on_what_is_trained(demo, step1, tmp_path):
    sets = ["train.max_epochs=12", "train.lr=1e-3", "scst.num_candidates=8", "scst.normalise_advantages=batch"]
    config = scst_config(demo, tmp_path, step1, *sets)
    train(config)
    rewards = [value for _, value in history(config, "reward")]
    quarter = len(rewards) // 4
    assert sum(rewards[-quarter:]) > 1.3 * sum(rewards[:quarter])


def test_an_interrupted_run_equals_an_uninterrupted_one(demo, step1, tmp_path):
    whole = scst_config(demo, tmp_path / "whole", step1, "scst.kl_weight=0.1")
    train(whole)
    parts = scst_config(demo, tmp_path / "parts", step1, "scst.kl_weight=0.1")
    train(parts, interrupt=2)
    train(parts, resume=True)
    assert history(parts) == history(whole)
    assert_equal(saved_weights(parts), saved_weights(whole))


def test_two_micro_batches_equal_one(demo, step1, tmp_path):
    """With candidates that are not drawn, so that both see the same."""
    sets = [*DIVISIBLE, "scst.candidates=beam", "train.max_steps=2"]
    one = scst_config(demo, tmp_path / "one", step1, *sets)
    two = scst_config(demo, tmp_path / "two", step1, *sets, "train.batch_size=3", "train.gradient_accumulation=2")
    train(one)
    train(two)
    for name in ("loss", "reward", "length", "grad_norm"):
        expected = [value for _, value in history(one, name)]
        assert [value for _, value in history(two, name)] == pytest.approx(expected, abs=1e-4), name
    assert_close(saved_weights(two), saved_weights(one), atol=1e-4)


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_ranks_equal_one_with_twice_the_batch(demo, step1, tmp_path, sharding):
    """With sharded parameters, too, though each rank searches for its candidates as long as it likes."""
    sets = [*DIVISIBLE, "scst.candidates=beam", "train.max_steps=2"]
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps(scst_document(demo, tmp_path / "two", step1)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "finetune.py"]
    command += ["--conf", str(conf), "train", "--batch_size", "3"]
    for item in [*sets, f"train.sharding={sharding}"]:
        command += ["--set", item]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    two = scst_config(demo, tmp_path / "two", step1)
    one = scst_config(demo, tmp_path / "one", step1, *sets)
    train(one)
    for name in ("loss", "reward", "grad_norm"):
        expected = [value for _, value in history(one, name)]
        assert [value for _, value in history(two, name)] == pytest.approx(expected, abs=1e-4), name
    assert_close(saved_weights(two), saved_weights(one), atol=1e-4)


def test_a_failing_reward_stops_the_run_and_leaves_the_checkpoint_whole(demo, step1, tmp_path, monkeypatch):
    config = scst_config(demo, tmp_path, step1, "train.checkpoint_every=2")
    submit, calls = RewardCalculator.submit, []

    def fails_at_the_third(self, *args):
        calls.append(1)
        if len(calls) == 3:
            self.rewards["cider-d"] = broken
        return submit(self, *args)

    def broken(batch):
        raise RuntimeError("a reward of somebody's own")

    monkeypatch.setattr(RewardCalculator, "submit", fails_at_the_third)
    with pytest.raises(RuntimeError, match="somebody's own") as raised:
        train(config)
    assert "broken" in [entry.name for entry in raised.traceback]
    monkeypatch.setattr(RewardCalculator, "submit", submit)
    assert (tmp_path / "checkpoints" / "last").resolve().name == "step-000002"
    train(config, resume=True)
    assert [step for step, _ in history(config)] == [1, 2, 3, 4]


def test_step_2_needs_a_checkpoint_of_step_1(demo, step1, tmp_path):
    document = scst_document(demo, tmp_path, step1)
    with pytest.raises(ValueError, match=r"model\.checkpoint"):
        parse_config(document | {"model": nano_document(demo, tmp_path)["model"]})
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in step1.iterdir():
        if file.name != "style_map.json":
            (plain / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"style_map\.json: step 2 starts from a checkpoint of step 1"):
        train(scst_config(demo, tmp_path / "a", plain))


def test_another_style_map_is_refused(demo, step1, tmp_path):
    other = json.loads((step1 / "style_map.json").read_text())
    text = json.dumps(other).replace("<code_0>", "<code_9>").replace("<code_1>", "<code_0>").replace("_9>", "_1>")
    file = tmp_path / "map.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"has the token .* in style\.style_map and .*checkpoint brings its own"):
        train(scst_config(demo, tmp_path / "run", step1, f"style.style_map={file}"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("scst.num_candidates=1", r"scst\.num_candidates = 1"),
        ("scst.baseline=gredy", r"scst\.baseline.*greedy"),
        ('scst.rewards={"cider-d": 0}', r"no weight other than 0"),
        ('scst.rewards={"cider-d": "much"}', r"weight of cider-d is \"much\""),
    ],
)
def test_contradictions_are_found_before_anything_is_read(demo, step1, tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        scst_config(demo, tmp_path, step1, setting)


def test_an_unknown_reward_is_named_with_its_neighbours(demo, step1, tmp_path):
    with pytest.raises(ValueError, match=r"scst\.rewards.*cidr.*cider-d"):
        train(scst_config(demo, tmp_path, step1, 'scst.rewards={"cidr": 1.0}'))


def test_a_run_of_the_family_with_a_reward_of_ones_own_shows_its_samples(demo, step1, tmp_path):
    reward = tmp_path / "mine.py"
    reward.write_text(
        "def score(batch):\n    return [[float(len(one.text)) for one in group] for group in batch.candidates]"
    )
    name = f"file:{reward}:score"
    config = scst_config(
        demo,
        tmp_path / "run",
        step1,
        f'scst.rewards={{"cider-d": 1.0, "{name}": 0.01}}',
        *(
            "scst.baseline=group_mean",
            "scst.normalise_advantages=group",
            "scst.reduction=batch",
            "scst.samples_every=2",
        ),
        *("scst.updates_per_rollout=2", "scst.clip_high=0.28", "scst.mask_truncated=true", "scst.entropy_weight=0.01"),
        *("scst.temperature=0.9", "scst.top_p=0.95"),
    )
    train(config)
    assert all(0 <= share <= 1 for _, share in history(config, "clipped"))
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert sorted({row["step"] for row in rows}) == [1, 2, 4]
    assert all(row["rewards"][name] == len(row["caption"]) for row in rows)


def test_what_the_other_styles_have_as_well_counts_less(demo, step1, tmp_path):
    """Off it changes nothing; on, the reward and so the weights."""
    sets = {"default": "", "off": "scst.shared_ngram_weight=1", "on": "scst.shared_ngram_weight=0.3"}
    runs = {name: scst_config(demo, tmp_path / name, step1, *filter(None, [one])) for name, one in sets.items()}
    for config in runs.values():
        train(config)
    assert history(runs["off"]) == history(runs["default"])
    assert_equal(saved_weights(runs["off"]), saved_weights(runs["default"]))
    assert history(runs["on"], "reward/cider-d")[0] != history(runs["off"], "reward/cider-d")[0]


def test_it_needs_images_in_several_styles_and_the_reward(demo, step1, tmp_path):
    document = scst_document(demo, tmp_path, step1)
    rows = json.loads((demo / "nano_train.json").read_text())
    file = tmp_path / "one_style.json"
    file.write_text(json.dumps([row for row in rows if row["personality"] == "Factual"]))
    document["data"]["train"] = str(file)
    with pytest.raises(ValueError, match="in several styles, and split train has none such: set it to 1"):
        train(parse_config(document, sets=["scst.shared_ngram_weight=0.5"]))
    with pytest.raises(
        ValueError, match=r"scst.shared_ngram_weight = 0.5 is of the reward cider-d, which scst.rewards"
    ):
        parse_config(document, sets=["scst.shared_ngram_weight=0.5", 'scst.rewards={"style": 1}'])
    with pytest.raises(ValueError, match=r"scst.shared_ngram_weight = 1.5"):
        parse_config(document, sets=["scst.shared_ngram_weight=1.5"])
