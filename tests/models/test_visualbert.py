"""VisualBERT's network: what it reads, what it skips, how it starts, and what is wrong with inputs."""

from typing import Any

import pytest
import torch

from models.ofa.dropout import Dropout
from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.encoding import Packing
from models.visualbert.losses import label_loss, soft_target_loss
from models.visualbert.modeling import masked_positions
from tests.models.visualbert_nano import SIZES, for_theirs, inputs, nano, theirs
from tests.waits import Waits

HEADS = ["pretraining", "vqa", "nlvr2", "vcr"]


@pytest.mark.parametrize("head", HEADS)
def test_logits_are_those_of_transformers(head):
    model, batch = nano(head), inputs(head)

    with torch.no_grad():
        ours, expected = model(**batch).logits, theirs(model)(**for_theirs(batch))

    logits = expected.seq_relationship_logits if head == "pretraining" else expected.logits
    assert torch.allclose(ours, logits, atol=1e-5)


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_what_is_read_is_what_all_positions_have(head, bypass):
    model, batch = nano(head, bypass_transformer=bypass), inputs(head)

    everything = model.everything(**batch)

    assert torch.allclose(model(**batch).logits, everything["logits"], atol=1e-5)
    if head == "pretraining":
        labels = torch.full_like(batch["input_ids"], -1)
        labels[0, 2], labels[2, 1], labels[2, 3] = 7, 9, 0
        output = model(**batch, word_labels=labels)
        assert output.word_logits is not None
        assert output.word_labels is not None
        expected = everything["word_logits"][[0, 2, 2], [2, 1, 3]]
        assert torch.allclose(output.word_logits, expected, atol=1e-5)
        assert output.word_labels.tolist() == [7, 9, 0]


@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing(head):
    model, batch = nano(head), inputs(head)
    longer = {
        name: torch.nn.functional.pad(tensor, (0, 0, 0, 3) if name == "features" else (0, 3), value=1)
        for name, tensor in batch.items()
        if name != "box_types"
    }
    longer["text_mask"][..., -3:], longer["box_mask"][..., -3:] = 0, 0
    batch.pop("box_types")

    assert torch.allclose(model(**longer).logits, model(**batch).logits, atol=1e-5)


def test_gradients_are_those_of_every_position():
    batch = inputs("pretraining")
    labels = torch.full_like(batch["input_ids"], -1)
    labels[0, 1], labels[1, 2] = 5, 6
    model = nano("pretraining")
    model(**batch, word_labels=labels, labels=torch.tensor([1, 0, 1])).loss.backward()
    other = theirs(model)
    padded = torch.nn.functional.pad(labels, (0, 4), value=-1)
    asked = padded.where(padded >= 0, torch.tensor(-100))
    other(**for_theirs(batch), labels=asked, sentence_image_labels=torch.tensor([1, 0, 1])).loss.backward()

    expected = {name: parameter.grad for name, parameter in other.named_parameters()}
    for name, parameter in model.named_parameters():
        ours, gradient = parameter.grad, expected[name]
        assert ours is not None
        assert gradient is not None
        assert torch.allclose(ours, gradient, atol=1e-5), name


def test_visual_types_are_zero_unless_given():
    model, batch = nano(), inputs(types=False)
    zeros = torch.zeros_like(batch["box_mask"])

    assert torch.equal(model(**batch).logits, model(**batch, box_types=zeros).logits)
    assert not torch.allclose(model(**batch).logits, model(**batch, box_types=zeros + 1).logits)


def test_a_new_model_starts_visual_tables_from_the_words():
    embeddings = nano().visual_bert.embeddings

    assert torch.equal(embeddings.visual_position_embeddings.weight, embeddings.position_embeddings.weight)
    assert torch.equal(embeddings.visual_token_type_embeddings.weight, embeddings.token_type_embeddings.weight)
    assert embeddings.word_embeddings.padding_idx == 0


def test_words_are_predicted_with_their_embeddings():
    model = nano()

    assert model.cls.predictions.decoder.weight is model.visual_bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias


@pytest.mark.parametrize("ignored", [-1, -100])
def test_without_a_masked_word_the_loss_is_zero_and_has_a_gradient(ignored):
    model, batch = nano(), inputs()
    labels = torch.full_like(batch["input_ids"], ignored)

    output = model(**batch, word_labels=labels)
    output.loss.backward()

    assert output.loss.item() == 0
    assert output.word_logits.shape == (0, 60)


def test_one_loss_is_enough():
    model, batch = nano(), inputs()
    labels = torch.full_like(batch["input_ids"], -1)
    labels[:, 1] = 3

    words = model(**batch, word_labels=labels)
    matches = model(**batch, labels=torch.tensor([1, 0, -1]))
    both = model(**batch, word_labels=labels, labels=torch.tensor([1, 0, -1]))

    assert set(words.losses) == {"masked_words"}
    assert set(matches.losses) == {"matches"}
    assert both.loss.item() == pytest.approx(words.loss.item() + matches.loss.item(), abs=1e-5)
    assert model(**batch).loss is None


def test_regions_of_one_image_are_projected_once_for_all_choices():
    model, batch = nano("vcr"), inputs("vcr")
    shapes = []
    model.visual_bert.embeddings.visual_projection.register_forward_hook(lambda *args: shapes.append(args[2].shape))

    model(**batch)

    assert shapes == [(2, 4, 24)]


def test_aligned_regions_have_the_mean_of_their_words_positions():
    model, batch = nano(), inputs()
    alignment = torch.full((3, 5, 2), -1)  # one row more than there are regions
    alignment[0, 1] = torch.tensor([2, 3])
    alignment[1, 0, 0] = 4

    ours = model.everything(**batch, alignment=alignment)["sequence"]
    body: Any = theirs(model).visual_bert

    expected = body(**for_theirs(batch), image_text_alignment=alignment).last_hidden_state
    assert torch.allclose(ours, expected, atol=1e-5)
    assert not torch.allclose(ours, model.everything(**batch)["sequence"], atol=1e-3)


def test_an_answer_is_read_where_it_is_asked():
    model, batch = nano("vqa"), inputs("vqa")
    lengths = batch["text_mask"].sum(1)

    assert torch.equal(model(**batch).logits, model(**batch, answer_positions=lengths - 2).logits)
    assert not torch.allclose(model(**batch).logits, model(**batch, answer_positions=lengths - 3).logits)


def test_a_row_without_anything_to_attend_to_has_a_value():
    model, batch = nano("nlvr2"), inputs("nlvr2")
    batch["text_mask"][1], batch["box_mask"][1] = 0, 0

    assert model(**batch).logits.isfinite().all()


@pytest.mark.parametrize("head", HEADS)
def test_training_computes_the_same_but_for_what_is_dropped(head, monkeypatch):
    batch, expected = inputs(head), nano(head)(**inputs(head)).logits

    assert not torch.allclose(nano(head).train()(**batch).logits, expected, atol=1e-3)
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x)
    assert torch.allclose(nano(head).train()(**batch).logits, expected, atol=1e-5)


def test_bfloat16_trains():
    model, batch = nano().train(), inputs()
    labels = torch.full_like(batch["input_ids"], -1)
    labels[:, 1] = 3

    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch, word_labels=labels, labels=torch.tensor([1, 0, 1])).loss
    loss.backward()

    assert loss.isfinite()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_losses_by_hand():
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])

    assert label_loss(logits, torch.tensor([0, -1])).item() == pytest.approx(0.693147, abs=1e-5)
    targets = torch.tensor([[1.0, 0.3], [0.0, 0.0]])
    kl = (1 * 0.693147 + 0.3 * (-1.203973 + 0.693147)) / 2
    assert soft_target_loss(logits, targets).item() == pytest.approx(kl, abs=1e-5)
    bce = (2 * 0.693147 + 2.126928 + 0.693147) / 2
    assert soft_target_loss(logits, targets, kind="bce").item() == pytest.approx(bce, abs=1e-5)
    with pytest.raises(ValueError, match="'mse' is unknown"):
        soft_target_loss(logits, targets, kind="mse")


def test_masked_positions_stand_in_front():
    labels = torch.tensor([[-1, 5, -1, 0], [-1, -1, -1, -1], [-1, -1, 3, -1]])

    positions, masked = masked_positions(labels)

    assert positions.tolist() == [[1, 3], [0, 0], [2, 0]]
    assert masked.tolist() == [[True, True], [False, False], [True, False]]


def test_packing_keeps_what_is_real_or_read():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    x = torch.arange(6.0).view(2, 3, 1) + 1

    packing = Packing.of(mask, torch.tensor([[0], [2]]))

    assert packing.pack(x).flatten().tolist() == [1, 2, 4, 6]
    assert packing.unpack(packing.pack(x)).flatten().tolist() == [1, 2, 0, 4, 0, 6]


# --- bad input -------------------------------------------------------------------------------------------------------


def changed(head: str, **changes):
    return inputs(head) | changes


@pytest.mark.parametrize(
    ("head", "changes", "reason"),
    [
        ("vqa", {"features": torch.zeros(3, 4, 5)}, r"features are \[3, 4, 5\], but the model takes \[3, regions, 6\]"),
        ("vqa", {"features": torch.zeros(2, 4, 6)}, r"features are \[2, 4, 6\]"),
        ("vqa", {"box_mask": torch.ones(3, 5)}, r"box_mask is \[3, 5\], but features need \[3, 4\]"),
        ("vqa", {"segment_ids": torch.zeros(3, 8)}, r"segment_ids is \[3, 8\], but input_ids need \[3, 7\]"),
        (
            "vqa",
            {"answer_positions": torch.tensor([7, 1, 1])},
            "row 0 reads its answer at position 7, outside its text",
        ),
        ("vqa", {"answer_positions": torch.tensor([1, 1, -1])}, "row 2 reads its answer at position -1, outside"),
        (
            "vqa",
            {"text_mask": torch.eye(7, dtype=torch.long)[:1].expand(3, 7)},
            "at position -1, outside its text of 1",
        ),
        ("vqa", {"text_mask": 1 - torch.eye(7, dtype=torch.long)[:1].expand(3, 7)}, "padded at its beginning"),
        ("vqa", {"labels": torch.zeros(3, 4)}, "use the answer list that the head was made for"),
        ("pretraining", {"alignment": torch.full((3, 4, 1), 7)}, "word piece 7, beyond the text of 7 word pieces"),
        ("pretraining", {"alignment": torch.zeros(3, 3, 1).long()}, r"alignment is \[3, 3, 1\], but the batch needs"),
        ("vcr", {"alignment": torch.zeros(2, 4, 1).long()}, r"the batch needs \[2, 4, 4, 'words'\]"),
        ("vcr", {"input_ids": torch.zeros(2, 7).long()}, "head 'vcr' takes .rows, choices, words."),
    ],
)
def test_inputs_that_do_not_fit_are_named(head, changes, reason):
    with pytest.raises(ValueError, match=reason):
        nano(head)(**changed(head, **changes))


def test_a_text_longer_than_the_position_table_is_named():
    batch = inputs("nlvr2")
    longer = {name: torch.ones(3, 21).long() for name in ("input_ids", "text_mask", "segment_ids")}

    with pytest.raises(ValueError, match="a text has 21 word pieces, but the model has 20 positions"):
        nano("nlvr2")(**(batch | longer))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"head": "gqa"}, "head 'gqa' is unknown"), ({"num_attention_heads": 5}, "24 is not divisible")],
)
def test_configurations_that_cannot_be_are_named(changes, reason):
    with pytest.raises(Exception, match=reason):
        VisualBERTModel(VisualBERTConfig(**(SIZES | changes)))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("head", "most"), [("pretraining", 1), ("nlvr2", 1), ("vqa", 2), ("vcr", 2)])
def test_a_pass_looks_once_for_padding_and_once_for_where_answers_are_read(head, most, whole):
    """On an accelerator every look waits. Where nothing is padded, whether the places that are read stand beside the
    padding has to be asked once more."""
    model, batch = nano(head), inputs(head)
    if whole:
        batch |= {name: torch.ones_like(batch[name]) for name in ("text_mask", "box_mask")}
    with torch.no_grad(), Waits() as waits:
        model(**batch)
    assert waits.found.count("nonzero") == 1
    assert len(waits.found) <= most + whole
