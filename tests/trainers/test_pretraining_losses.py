"""Losses of pre-training: what counts, what does not, and labels that are not there."""

import pytest
import torch
from torch import Tensor

from models.lxmert import LxmertForPretraining
from tests.models.small_lxmert import config, inputs, lively
from trainers.pretraining_losses import Labels, class_part, feature_part, pretraining_parts, total


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_parts_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 0.0]])
    part = class_part(logits, torch.tensor([1, 0, -1]))
    assert (part.total.item(), part.count.item()) == (pytest.approx(0.693147), 2)
    # smooth L1 of 0.5 and 2 is 0.125 and 1.5, their mean 0.8125; one of 10 boxes weighs
    part = feature_part(torch.tensor([[0.5, 2.0], [9.0, 9.0]]), torch.zeros(2, 2), torch.tensor([1.0, 0.0]), 10, 4.0)
    assert part.mean.item() == pytest.approx(0.8125 * 4 / 10)


def labels_of(batch: dict[str, Tensor], **given: Tensor) -> Labels:
    words = torch.full_like(batch["input_ids"], -1)
    words[0, 1] = 7
    masked = torch.zeros(3, 4)
    masked[1, 2] = 1
    known = {
        "words": words,
        "matched": torch.tensor([1, 0, 1]),
        "answers": torch.tensor([-1, 2, 0]),
        "masked": masked,
        "objects": torch.tensor([[0, 1, 2, 3]] * 3),
        "object_confidence": torch.rand(3, 4),
        "features": torch.rand(3, 4, 5),
    }
    return Labels(**(known | given))


def test_masked_boxes_alone_teach_unless_the_published_fault_is_asked_for() -> None:
    model = lively(LxmertForPretraining(config()))
    batch = inputs()
    labels = labels_of(batch)
    logits = model(**batch).boxes["obj"].view(3, 4, 4)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels.objects, reduction="none")  # type: ignore[arg-type]
    masked = pretraining_parts(model, batch, labels, box_losses="masked")
    close(masked["objects"].mean, losses[1, 2] / 12 / 0.15)
    published = pretraining_parts(model, batch, labels, box_losses="published")
    assert labels.object_confidence is not None
    close(published["objects"].mean, (losses * labels.object_confidence).mean() / 0.15)
    close(masked["features"].mean, published["features"].mean)
    assert "attributes" not in masked


def test_no_label_at_all_is_0_and_has_gradients_of_0() -> None:
    model = LxmertForPretraining(config())
    batch = inputs()
    nothing = Labels(
        words=torch.full_like(batch["input_ids"], -1),
        answers=torch.full((3,), -1),
        masked=torch.zeros(3, 4),
        objects=torch.full((3, 4), -1),
        features=torch.rand(3, 4, 5),
    )
    loss = total(pretraining_parts(model, batch, nothing, box_losses="masked"))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_labels_that_need_more() -> None:
    model, batch = LxmertForPretraining(config()), inputs()
    labels = labels_of(batch)
    with pytest.raises(ValueError, match="objects need the detector's confidences"):
        pretraining_parts(model, batch, labels._replace(object_confidence=None), box_losses="published")
    with pytest.raises(ValueError, match="features need `masked`"):
        pretraining_parts(model, batch, Labels(features=torch.rand(3, 4, 5)), box_losses="published")
