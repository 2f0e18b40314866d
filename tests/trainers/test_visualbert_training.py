"""Clipping, groups and the number of updates of VisualBERT's published training."""

import pytest
import torch

from tests.models.visualbert_nano import nano
from trainers.visualbert import PUBLISHED_LEFT_OUT, clip_each, parameter_groups, published_updates


def test_every_tensor_is_clipped_on_its_own():
    parameters = [torch.zeros(2), torch.zeros(2), torch.zeros(3)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])

    norms = clip_each(parameters, 1.0)

    assert [norm.item() for norm in norms] == pytest.approx([5.0, 0.5])
    assert parameters[0].grad.tolist() == pytest.approx([0.6, 0.8], abs=1e-6)
    assert parameters[1].grad.tolist() == pytest.approx([0.3, 0.4])
    assert parameters[2].grad is None
    assert clip_each([torch.zeros(1)], 1.0) == []


def test_biases_and_norms_do_not_decay_and_the_pooler_is_left_out():
    model = nano("nlvr2")
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    decaying, others = (
        {names[id(parameter)] for parameter in group["params"]}
        for group in parameter_groups(model, weight_decay=0.01, left_out=PUBLISHED_LEFT_OUT)
    )

    assert "cls.weight" in decaying
    assert {"cls.bias", "visual_bert.embeddings.LayerNorm.weight"} <= others
    left = set(names.values()) - decaying - others
    assert left == {"visual_bert.pooler.dense.weight", "visual_bert.pooler.dense.bias"}
    everything = parameter_groups(model, weight_decay=0.01)
    assert sum(len(group["params"]) for group in everything) == len(names)
    assert [group["weight_decay"] for group in everything] == [0.01, 0.0]


def test_whole_updates_are_counted():
    assert published_updates(100, 30, 2) == 6
    assert published_updates(100, 10, 2, accumulation=3) == 6
