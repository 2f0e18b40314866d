"""Two models on one batch: rows of differences, whatever the models."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from models.comparison import Difference, agree, compare_models, compare_outputs, outputs_of, table
from models.visualbert.example import example_batch
from models.visualbert.published import compare_published
from tests.models.nano import nano_model, prompt_batch
from tests.models.visualbert_nano import for_theirs, inputs, nano, theirs


@dataclass
class Output:
    logits: Tensor
    inner: dict[str, Tensor]
    loss: Tensor | None = None


class Pair(NamedTuple):
    first: Tensor
    rest: Any


class Shifted(nn.Module):
    """Adds numbers to what it gets."""

    def __init__(self, by: float):
        super().__init__()
        self.by = by
        self.seen_training: bool | None = None

    def forward(self, x: Tensor) -> Output:
        self.seen_training = self.training
        return Output(x + torch.tensor([0.0, self.by]), {"twice": 2 * x})


def test_the_largest_and_the_mean_difference_of_each_output():
    a, b = Shifted(0.0).train(), Shifted(0.5)

    rows = compare_models(a, b, {"x": torch.ones(3, 2)})

    assert rows == [Difference("logits", (3, 2), 0.5, 0.25), Difference("inner.twice", (3, 2), 0.0, 0.0)]
    assert agree(rows, 0.5)
    assert not agree(rows, 0.4)
    assert a.training
    assert a.seen_training is False


def test_a_table_a_line_an_output():
    lines = table([Difference("logits", (3, 2), 0.5, 0.25), Difference("loss", (), 0, 0)]).splitlines()

    assert [line.split() for line in lines] == [
        ["output", "shape", "largest", "mean"],
        ["logits", "3", "×", "2", "5.00e-01", "2.50e-01"],
        ["loss", "number", "0.00e+00", "0.00e+00"],
    ]


def test_what_is_no_number_agrees_with_itself_only():
    values = torch.tensor([math.nan, math.inf, 1.0])

    assert agree(compare_outputs({"a": values}, {"a": values.clone()}), 0)
    assert not agree(compare_outputs({"a": values}, {"a": torch.tensor([1.0, math.inf, 1.0])}), 1e9)
    assert not agree(compare_outputs({"a": values[1:]}, {"a": torch.ones(2)}), 1e9)


def test_models_that_cannot_be_compared_are_named():
    with pytest.raises(ValueError, match="no output in common: a and b"):
        compare_outputs({"a": torch.ones(1)}, {"b": torch.ones(1)})
    with pytest.raises(ValueError, match=r"a is \[2\] in one model and \[3\] in the other"):
        compare_outputs({"a": torch.ones(2)}, {"a": torch.ones(3)})


@pytest.mark.parametrize("head", ["vqa", "nlvr2", "vcr"])
def test_visualbert_and_transformers(head):
    model, batch = nano(head), inputs(head)

    rows = compare_models(model, theirs(model), batch, run_b=lambda other, given: other(**for_theirs(given)))

    assert [row.output for row in rows] == ["logits"]
    assert agree(rows, 1e-5)


@pytest.mark.parametrize("head", ["pretraining", "vqa", "nlvr2", "vcr"])
def test_a_made_batch_shows_one_weight_that_differs(head):
    model, other = nano(head), nano(head)
    with torch.no_grad():
        dict(other.named_parameters())["visual_bert.encoder.layer.0.output.dense.bias"][3] += 0.1
    batch = example_batch(model.config)

    def everything(compared, given):
        return compared.everything(**given)

    rows = compare_models(model, other, batch, run_a=everything, run_b=everything)

    assert [row.output for row in rows if row.output != "word_logits"] == ["sequence", "pooled", "logits"]
    assert all(row.largest > 1e-4 for row in rows)
    assert agree(compare_models(model, model, batch, run_a=everything, run_b=everything), 0)
    assert torch.equal(example_batch(model.config)["features"], batch["features"])


def test_ofa_is_compared_by_the_same_function():
    batch = prompt_batch()
    batch["decoder_input_ids"] = batch["input_ids"]

    same = compare_models(nano_model(20), nano_model(20), batch)
    other = compare_models(nano_model(20), nano_model(20, seed=1), batch)

    assert "logits" in [row.output for row in same]
    assert agree(same, 0)
    assert not agree(other, 1e-3)


def test_outputs_have_the_path_to_them_as_names():
    class Nested(nn.Module):
        def forward(self, x: Tensor):
            return Pair(x, [x, {"a": (x, None)}])

    found = outputs_of(Nested(), {"x": torch.ones(1)})

    assert list(found) == ["first", "rest.0", "rest.1.a.0"]


def test_published_numbers_of_another_head_are_refused():
    with pytest.raises(ValueError, match="those of head 'vcr', but the model's is 'vqa'"):
        compare_published(nano("vqa"), {"kind": "vcr", "loss": 0.0}, lambda text: [5])
