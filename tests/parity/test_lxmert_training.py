"""LXMERT's and CATT's optimizer, schedules and short trainings against the original programs."""

import json
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from models.lxmert import LxmertForAnswers
from models.lxmert.naming import original_names
from models.wordpiece import load_wordpiece
from tests.conftest import SHARED
from tests.parity.conftest import Golden
from tests.parity.lxmert_cases import assert_close, boxes_for, feats_for, filled, sized_by
from tests.parity.test_lxmert import PARTS, pretraining_case
from trainers.answer_losses import binary_cross_entropy
from trainers.bertadam import BertAdam
from trainers.pretraining_losses import pretraining_parts, total
from trainers.schedules import SCHEDULES, Schedule, make_schedule

OPTIMIZER_TOLERANCE = 1e-6
TRAINING_TOLERANCE = 1e-4
#: The published "stair" is the line: see `tests/trainers/test_schedules.py` for what it is here.
PUBLISHED = {"warmup_stair": "warmup_linear"}


def clipped(parameters: Sequence[Tensor], most: float | None) -> float | None:
    return None if most is None else float(torch.nn.utils.clip_grad_norm_(parameters, most))


# --- the optimizer ---------------------------------------------------------------------------------------------------


def schedule_of(run: dict[str, Any]) -> Schedule | None:
    if "t_total" not in run:
        return None
    name = run.get("schedule", "warmup_linear")
    return make_schedule(PUBLISHED.get(name, name), warmup=run["warmup"], floor=floor_of(run, name))


def floor_of(run: dict[str, Any], name: str) -> float:
    """The published run's lowest rate is not written down: it follows from one of its rates."""
    if name != "warmup_linear_yx":
        return 0.0
    rates = [w for w, _ in run["lr_of_w_and_of_late_by_step"]]
    step = next(step for step in range(len(rates)) if step / run["t_total"] > run["warmup"])
    share = (step / run["t_total"] - run["warmup"]) / (1 - run["warmup"])
    return 1 - (1 - rates[step] / run["lr"]) / share


@pytest.mark.goldens("*_bertadam*", system="lxmert", when=lambda content: "runs" in content)
def test_bertadam(golden: Golden) -> None:
    arrays = {name: torch.from_numpy(array) for name, array in golden.arrays.items()}
    for name, run in golden.json["runs"].items():
        weights = {key: arrays[f"init_{key}"].clone().requires_grad_() for key in ("w", "b", "late", "idle")}
        settings = {"weight_decay": run["weight_decay"]} if "weight_decay" in run else {}
        optimizer = BertAdam(
            weights.values(), run["lr"], schedule=schedule_of(run), total_steps=run.get("t_total"), **settings
        )
        for step in range(run["steps"]):
            optimizer.zero_grad()
            loss = (((arrays["x"] @ weights["w"]).tanh() + weights["b"] - arrays["y"]) ** 2).sum()
            if step >= 4:
                loss = loss + (weights["late"] ** 2).sum()
            loss.backward()
            assert loss.item() == pytest.approx(run["losses"][step], abs=1e-5)
            norm = clipped(list(weights.values()), run["clip"])
            if norm is not None:
                assert norm == pytest.approx(run["grad_norm_before_clipping"][step], rel=1e-5)
            rates = dict(zip(weights, optimizer.next_rates(), strict=True))
            expected_w, expected_late = run["lr_of_w_and_of_late_by_step"][step]
            assert rates["w"] == pytest.approx(expected_w, abs=OPTIMIZER_TOLERANCE)
            if expected_late is not None:
                assert rates["late"] == pytest.approx(expected_late, abs=OPTIMIZER_TOLERANCE)
            optimizer.step()
            for key, weight in weights.items():
                assert_close(weight, golden.arrays[f"{name}_{key}"][step], OPTIMIZER_TOLERANCE)


@pytest.mark.goldens("*_schedules*", system="lxmert", when=lambda content: "factors" in content)
def test_schedules(golden: Golden) -> None:
    warmup = golden.json["warmup"]
    for title, factors in golden.json["factors"].items():
        name = title.partition(" ")[0]
        rates = re.search(r"--lr_min (\S+) and --lr (\S+)", title)
        floor = float(rates[1]) / float(rates[2]) if rates else golden.json["lr_min"] / golden.json["lr"]
        schedule = make_schedule(PUBLISHED.get(name, name), warmup=warmup, floor=floor)
        for progress, factor in zip(golden.json["progress"], factors, strict=True):
            if isinstance(factor, str):  # the original crashes
                assert name == "warmup_cosine"
                assert 0 <= schedule(progress) <= 1
            else:
                assert schedule(progress) == pytest.approx(factor, abs=OPTIMIZER_TOLERANCE), (title, progress)


@pytest.mark.goldens("*vqa_constant*", system="lxmert", when=lambda content: "epochs" in content)
def test_rates_of_vqa_constant(golden: Golden) -> None:
    rates = [used for used, *_ in golden.json["lr_used_group_lr_and_get_lr"]]
    schedule = make_schedule("vqa_constant", warmup=0.1, epochs=golden.json["epochs"])
    weight = torch.ones(1, requires_grad=True)
    optimizer = BertAdam([weight], golden.json["lr"], schedule=schedule, total_steps=len(rates))
    found = []
    for _ in rates:
        found += optimizer.next_rates()
        weight.grad = torch.ones(1)
        optimizer.step()
    assert found == pytest.approx(rates, abs=1e-9)


def test_every_schedule_has_a_name() -> None:
    assert {"warmup_linear", "warmup_constant", "warmup_cosine", "warmup_stair", "vqa_constant"} <= set(SCHEDULES)


# --- short trainings -------------------------------------------------------------------------------------------------


@pytest.mark.goldens("lxmert_pretrain*", "catt_*", system="lxmert", when=lambda content: "six_steps" in content)
def test_six_steps_of_pretraining(golden: Golden) -> None:
    model, inputs, labels = pretraining_case(golden)
    weights = list(model.parameters())
    steps = golden.json["six_steps"]
    schedule = make_schedule("warmup_linear", warmup=0.1)
    optimizer = BertAdam(weights, 1e-3, schedule=schedule, total_steps=len(steps["rows"]) - 1)
    for row, exact in zip(steps["rows"], steps["totals_in_float64"], strict=True):
        optimizer.zero_grad()
        parts = pretraining_parts(model, inputs, labels, box_losses="published")
        loss = total(parts)
        expected = dict(zip(steps["columns"], row, strict=True))
        assert loss.item() == pytest.approx(expected["total"], abs=TRAINING_TOLERANCE)
        assert loss.item() == pytest.approx(exact, abs=TRAINING_TOLERANCE)
        for title, name in PARTS.items():
            assert parts[name].mean.item() == pytest.approx(expected[title], abs=TRAINING_TOLERANCE)
        if expected["grad_norm_before_clipping"] is not None:
            loss.backward()
            assert clipped(weights, 1.0) == pytest.approx(expected["grad_norm_before_clipping"], rel=TRAINING_TOLERANCE)
            optimizer.step()


def words_of(golden: Golden) -> list[str]:
    """The vocabulary of a case that does not hold it itself: all cases of its size share one."""
    size = golden.json["config"]["vocab"]
    folders = (golden.path.parent, SHARED / "parity" / "lxmert")
    for file in chain.from_iterable(sorted(folder.glob("*.json")) for folder in folders):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and len(content.get("vocab", [])) == size:
            return content["vocab"]
    raise AssertionError(f"no case has a vocabulary of {size} entries")


class Questions:
    """The questions of a training case, and the features that go with them."""

    def __init__(self, golden: Golden):
        self.golden = golden
        self.tokenizer = load_wordpiece(words_of(golden))
        seeds = re.search(r"seed (\d+) train / (\d+) valid", golden.json["features"])
        assert seeds
        self.seeds = {"train": int(seeds[1]), "valid": int(seeds[2])}
        self.answers = golden.json["answers"]

    def inputs(self, split: str, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """What the model reads of these questions; boxes go through pixels as in the files."""
        given = self.golden.json["config"]
        text = self.tokenizer(
            [item["sent"] for item in items], max_length=20, truncation=True, padding=True, return_tensors="pt"
        )
        size = torch.tensor([50.0, 40.0, 50.0, 40.0])
        numbers = [self.seeds[split] + int(item["img_id"].rpartition("_")[2]) for item in items]
        return {
            "input_ids": text["input_ids"],
            "attention_mask": text["attention_mask"],
            "visual_feats": torch.stack([feats_for(seed, (given["boxes"], given["feat"])) for seed in numbers]),
            "visual_pos": torch.stack([boxes_for(seed, (given["boxes"],)) * size / size for seed in numbers]),
        }

    def scores(self, items: list[dict[str, Any]]) -> Tensor:
        target = torch.zeros(len(items), len(self.answers))
        for row, item in enumerate(items):
            for answer, score in item["label"].items():
                target[row, self.answers.index(answer)] = score
        return target


@pytest.mark.goldens("lxmert_train_*", system="lxmert", when=lambda content: "question_order" in content)
def test_a_fine_tuning(golden: Golden) -> None:
    case = golden.json
    questions = Questions(golden)
    model = filled(LxmertForAnswers(sized_by(golden, case["keys"])))
    by_id = {item["question_id"]: item for item in case["train"]}
    weights = list(model.parameters())
    schedule = make_schedule("warmup_linear", warmup=0.1)
    optimizer = BertAdam(weights, case["lr"], schedule=schedule, total_steps=len(case["question_order"]))
    first = model.answer_head.logit_fc[0].weight
    rates = [used for used, *_ in case["lr_used_group_lr_and_get_lr"]]
    for order, expected, rate in zip(case["question_order"], case["losses"], rates, strict=True):
        batch = [by_id[number] for number in order]
        optimizer.zero_grad()
        loss = binary_cross_entropy(model(**questions.inputs("train", batch)), questions.scores(batch))
        assert loss.item() == pytest.approx(expected, abs=TRAINING_TOLERANCE)
        loss.backward()
        clipped(weights, 5.0)
        position = next(i for i, weight in enumerate(weights) if weight is first)
        assert optimizer.next_rates()[position] == pytest.approx(rate, abs=OPTIMIZER_TOLERANCE)
        optimizer.step()
    with torch.no_grad():
        logits = model(**questions.inputs("valid", case["valid"]))
    assert_close(logits, golden.arrays["valid_logits"], TRAINING_TOLERANCE)
    chosen = [questions.answers[best] for best in logits.argmax(1)]
    answered = list(zip(chosen, case["valid"], strict=True))
    assert [{"answer": answer, "question_id": item["question_id"]} for answer, item in answered] == case["predictions"]
    got = sum(item["label"].get(answer, 0) for answer, item in answered)
    assert got / len(chosen) == pytest.approx(case["valid_score"])
    trained = dict(model.named_parameters())
    for ours, theirs in original_names(model).items():
        probe = golden.arrays.get(f"probe|{theirs}")
        if probe is not None:
            assert_close(trained[ours][tuple(slice(size) for size in probe.shape)], probe, TRAINING_TOLERANCE)
