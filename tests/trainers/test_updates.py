"""What an update asks of a device: its numbers, once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from preprocessors.collate import collate as join
from tasks.answering.objective import Answering
from tests.models.nano import PAD, nano_model
from tests.trainers.toy import Squares, collate, toy
from tests.waits import Waits
from trainers.cross_entropy import CrossEntropy


class Waiting(Waits):
    """Numbers taken out of tensors by `tolist` as well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        plain = torch.Tensor.tolist

        def counted(tensor: torch.Tensor) -> Any:
            self.found.append("tolist")
            return plain(tensor)

        monkeypatch.setattr(torch.Tensor, "tolist", counted)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_an_update_reads_its_numbers_once_whatever_it_accumulates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulation: int
) -> None:
    loop = toy(tmp_path, gradient_accumulation=accumulation, batch_size=2)
    batches = [collate([torch.randn(3), torch.randn(3)]) for _ in range(accumulation)]
    monkeypatch.setattr(loop.optimizer, "step", lambda *_: None)  # on a CPU AdamW reads its own counts
    with Waiting(monkeypatch) as waits:
        result = loop.updater([dict(batch) for batch in batches], 0, 0.1, False)
    assert waits.found == ["tolist"]
    assert not result.skipped


def test_what_is_logged_is_the_sum_over_micro_batches_by_their_units(tmp_path: Path) -> None:
    loop = toy(tmp_path, gradient_accumulation=2)
    first, second = torch.full((2, 3), 2.0), torch.full((1, 3), 1.0)
    loop.model.requires_grad_(True)
    with torch.no_grad():
        for parameter in loop.model.parameters():
            parameter.zero_()

    class Plain(Squares):
        def __call__(self, model: nn.Module, batch: dict, step: int) -> Any:
            output = super().__call__(model.eval(), batch, step)
            return type(output)(
                output.loss_sum, {"seen": (batch["x"].sum(), len(batch["x"])), "host": (torch.tensor(7), 2)}
            )

    loop.inner.objective = Plain()
    logs = loop.updater([{"x": first}, {"x": second}], 0, 0.1, False).logs
    assert logs["seen"] == (12.0 + 3.0) / 3
    assert logs["host"] == 14.0 / 4


def test_step_1_asks_the_device_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The places of tokens come with the batch; an update then reads losses once."""
    model = nano_model(40)
    item = {
        "patch_image": torch.zeros(3, 32, 32),
        "patch_mask": True,
        "prompts": [torch.tensor([0, 5, 2])],
        "captions": [(0, torch.tensor([7, 2])), (0, torch.tensor([8, 9, 2]))],
        "starts": [0, 0],
        "requests": [{}, {}],
    }
    batch = join([item])
    objective = CrossEntropy(pad=PAD, label_smoothing=0.1)
    with Waiting(monkeypatch) as waits:
        output = objective(model, batch, 0)
        output.loss_sum.backward()
    assert waits.found == []
    without = {name: value for name, value in batch.items() if name not in ("target_index", "padded")}
    assert objective(model, without, 0).loss_sum.item() == pytest.approx(output.loss_sum.item(), rel=1e-6)


@pytest.mark.parametrize("loss", ["bce", "mce", "cross-entropy"])
def test_answers_ask_the_device_for_nothing(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    """How many questions have a known answer comes with the batch."""
    logits = torch.randn(3, 4, requires_grad=True, generator=torch.Generator().manual_seed(1))
    scores = torch.tensor([[0.0, 1.0, 0.3, 0.0], [0.0] * 4, [0.6, 0.0, 0.0, 0.0]])
    objective = Answering(loss, lambda model, batch: logits)
    with Waiting(monkeypatch) as waits:
        output = objective(None, {"scores": scores, "answered": 2}, 0)
    assert waits.found == []
    found = objective(None, {"scores": scores}, 0)
    assert found.loss_sum.item() == pytest.approx(output.loss_sum.item())
    assert found.logs["loss"][1] == output.logs["loss"][1] == (3 if loss == "bce" else 2)
