"""Groups of parameters: what decays, and what has a rate of its own."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.trainers.nano import nano_config, train
from trainers.optimizer import adamw

SETTINGS: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.3}


def test_vectors_do_not_decay():
    model = nn.Linear(2, 3)
    matrices, vectors = adamw(model, **SETTINGS).param_groups
    assert (matrices["params"], matrices["weight_decay"]) == ([model.weight], 0.3)
    assert (vectors["params"], vectors["weight_decay"]) == ([model.bias], 0.0)
    assert "lr_scale" not in matrices


def test_a_part_has_a_rate_of_its_own():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    groups = adamw(model, **SETTINGS, own_rates=[(model[0], 0.5)]).param_groups
    assert [group["params"] for group in groups] == [
        [model[1].weight],
        [model[1].bias],
        [model[0].weight],
        [model[0].bias],
    ]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.3, 0.0]
    assert [group.get("lr_scale", 1.0) for group in groups] == [1.0, 1.0, 0.5, 0.5]


def test_the_tower_of_a_run_learns_at_its_own_rate(demo: Path, tmp_path: Path):
    config = nano_config(demo, tmp_path, "train.max_steps=2", "train.tower_lr=1e-5")
    trainer = train(config)
    tower = {id(parameter) for parameter in trainer.model.encoder.embed_images.parameters()}
    rates = {}
    for group in trainer.loop.optimizer.param_groups:
        (of_tower,) = {id(parameter) in tower for parameter in group["params"]}
        rates[of_tower] = group["lr"]
    assert rates[True] == pytest.approx(rates[False] * 1e-5 / config.train.lr)
