"""LXMERT's network: what is skipped changes nothing, what is idle, dictionaries, and inputs that do not fit."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LxmertConfig as TransformersConfig
from transformers import LxmertForQuestionAnswering

from models.lxmert import LxmertConfig, LxmertForAnswers, LxmertForPairs, LxmertForPretraining, LxmertModel
from models.lxmert.dictionaries import cluster_dictionaries, watched_dictionaries
from models.lxmert.idle import freeze_idle, idle_parameters, trained_parameters
from models.lxmert.modeling import LxmertBase
from tests.models.small_lxmert import KINDS, config, inputs, lively

CAUSAL = [(kind, cross) for kind in KINDS[1:] for cross in ("g2g", "g2l")]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


# --- padding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "cross"), [("none", "g2g"), *CAUSAL])
def test_answers_need_neither_padding_nor_the_last_states_of_boxes(kind: str, cross: str) -> None:
    model = lively(LxmertForAnswers(config(causal_attention=kind, cross_type=cross)))
    batch = inputs()
    whole = model.lxmert(**batch, skip_padding=False)
    close(model.lxmert(**batch).pooled, whole.pooled)
    close(model(**batch), model.answer_head(whole.pooled))
    # boxes that are masked are left out, columns of nothing but padding cut
    visible = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]])
    some = model.lxmert(**batch, visual_attention_mask=visible, skip_padding=False)
    close(model(**batch, visual_attention_mask=visible), model.answer_head(some.pooled))
    longer = {
        name: torch.nn.functional.pad(x, (0, 3)) for name, x in batch.items() if name in ("input_ids", "attention_mask")
    }
    close(model(**(batch | longer)), model(**batch))


@pytest.mark.parametrize(("kind", "cross"), [("none", "g2g"), *CAUSAL])
def test_a_row_whose_boxes_are_all_masked_sees_them_all(kind: str, cross: str) -> None:
    model = lively(LxmertForAnswers(config(causal_attention=kind, cross_type=cross)))
    batch = inputs()
    hidden = torch.ones(3, 4)
    hidden[1] = 0
    close(model(**batch, visual_attention_mask=hidden), model(**batch))
    encoded = model.lxmert(**batch, visual_attention_mask=hidden)
    close(encoded.vision, model.lxmert(**batch).vision)


@pytest.mark.parametrize(("kind", "cross"), [("none", "g2g"), *CAUSAL])
def test_gradients_are_those_of_the_whole_computation(kind: str, cross: str) -> None:
    model = lively(LxmertForAnswers(config(causal_attention=kind, cross_type=cross)))
    batch = inputs()
    model(**batch).square().sum().backward()
    short = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    model.answer_head(model.lxmert(**batch, skip_padding=False).pooled).square().sum().backward()
    for name, parameter in model.named_parameters():
        found = short[name]
        if found is None:
            assert parameter.grad is None or not parameter.grad.any(), name
        else:
            assert parameter.grad is not None
            torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-5)


def test_a_pair_is_two_images_with_the_same_sentence() -> None:
    model = lively(LxmertForPairs(config()))
    batch = inputs(images=2)
    each = [
        model.lxmert(
            batch["input_ids"], batch["visual_feats"][:, side], batch["visual_pos"][:, side], batch["attention_mask"]
        ).pooled
        for side in (0, 1)
    ]
    close(model(**batch), model.pair_head(torch.cat(each, 1)))


@pytest.mark.parametrize("boxes", [36, 64, 100])
def test_any_number_of_boxes(boxes: int) -> None:
    assert LxmertForPairs(config(causal_attention="ft_same"))(**inputs(images=2, boxes=boxes)).shape == (3, 2)


def test_none_is_lxmert_exactly() -> None:
    batch = inputs()
    names = TransformersConfig().to_dict().keys() - {"dtype"}
    fields: dict[str, Any] = {name: getattr(config(), name) for name in names}
    theirs = LxmertForQuestionAnswering(TransformersConfig(**fields)).eval()
    ours = LxmertForAnswers(config(causal_attention="none")).eval()
    ours.load_state_dict(lively(theirs).state_dict(), strict=True)
    found = theirs(batch["input_ids"], batch["visual_feats"], batch["visual_pos"], batch["attention_mask"])
    close(ours(**batch), found.question_answering_score)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind: str) -> None:
    model = lively(LxmertForAnswers(config(causal_attention=kind)))
    batch = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**batch)
        model.train()(**batch).float().sum().backward()
    torch.testing.assert_close(found.float(), model.eval()(**batch), rtol=0.1, atol=0.1)
    assert torch.isfinite(model.lxmert.pooler.dense.weight.grad).all()  # type: ignore[arg-type]


def test_training_draws_dropout_and_evaluation_does_not() -> None:
    model = LxmertForAnswers(config(causal_attention="ft_same"))
    batch = inputs()
    assert not torch.equal(model.train()(**batch), model(**batch))
    assert torch.equal(model.eval()(**batch), model(**batch))


# --- what gets no gradient -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ft_large", [False, True])
@pytest.mark.parametrize(("kind", "cross"), [("none", "g2g"), *CAUSAL])
@pytest.mark.parametrize("model_class", [LxmertForAnswers, LxmertForPairs, LxmertForPretraining])
def test_idle_parameters_are_those_without_a_gradient(
    model_class: type[LxmertBase], kind: str, cross: str, ft_large: bool
) -> None:
    fields: dict[str, Any] = {"causal_attention": kind, "cross_type": cross}
    model = model_class(config(**fields, ft_large=ft_large and kind.startswith("ft") and kind != "ft_same", x_layers=3))
    batch = inputs(images=2 if model_class is LxmertForPairs else 1)
    state = torch.random.get_rng_state()
    idle = idle_parameters(model.train())
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    found = model(**batch)
    outputs = [found] if isinstance(found, Tensor) else [*found[:3], *found.boxes.values()]
    torch.stack([output.sum() for output in outputs]).sum().backward()
    assert idle == [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert set(trained_parameters(model)) == {name for name, _ in model.named_parameters()} - set(idle)


def test_the_published_branch_is_idle_and_the_fixed_one_is_not() -> None:
    def branches(kind: str) -> set[str]:
        model = LxmertForPretraining(config(causal_attention=kind, x_layers=3))
        return {name.split(".")[3] for name in idle_parameters(model) if ".M_" in name}

    assert branches("ft") == {"0", "1"}
    assert branches("ft_fixed") == set()


def test_idle_parameters_can_be_frozen() -> None:
    model = LxmertForAnswers(config(causal_attention="ft"))
    idle = freeze_idle(model)
    assert idle == [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    model(**inputs()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_heads_without_a_loss_are_idle() -> None:
    model = LxmertForPretraining(config())
    idle = idle_parameters(model, heads=("words", "matched", "obj"))
    parts = {name.partition(".")[0] for name in idle}
    assert parts == {"obj_predict_head", "answer_head"}
    assert {name for name in idle if "decoder_dict" in name} == {
        f"obj_predict_head.decoder_dict.{head}.{part}" for head in ("attr", "feat") for part in ("weight", "bias")
    }


# --- dictionaries ----------------------------------------------------------------------------------------------------


def test_dictionaries_start_uniform_or_as_centres() -> None:
    model = LxmertModel(config(causal_attention="ft"))
    for dictionary in (model.encoder.MV, model.encoder.ML):
        assert dictionary.min() >= 0
        assert dictionary.max() < 0.01
    corners = torch.rand(7, 5)
    seen = corners[[row % 7 for row in range(60)]].view(3, 1, 20, 5)
    images = [(image, torch.zeros(1, 20, 4)) for image in seen]
    cluster_dictionaries(model, images)
    model.eval()
    expected = model.encoder.visn_fc(corners, torch.zeros(7, 4))
    distances = torch.cdist(expected, model.encoder.MV[0]).amin(1)
    assert distances.max() < 1e-4  # seven different regions, seven entries
    embedded = model.embeddings.word_embeddings.weight
    assert model.encoder.ML.std() < embedded.std() * 1.5


def test_clusters_are_the_same_for_the_same_seed_and_words_may_be_counted() -> None:
    images = [(torch.rand(2, 30, 5), torch.rand(2, 30, 4))]
    models = [LxmertModel(config(causal_attention="ft_same")) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        cluster_dictionaries(model, images, torch.arange(40) % 15 + 5, seed=4)
    assert torch.equal(models[0].encoder.MV, models[1].encoder.MV)
    assert torch.equal(models[0].encoder.ML, models[1].encoder.ML)


def test_what_cannot_be_clustered() -> None:
    with pytest.raises(ValueError, match='causal_attention is "none"'):
        cluster_dictionaries(LxmertModel(config()), [])
    model = LxmertModel(config(causal_attention="ft_same"))
    with pytest.raises(ValueError, match="no region was given"):
        cluster_dictionaries(model, [])
    with pytest.raises(ValueError, match="boxes: 3 samples cannot make 7 entries.*dictionary_boxes"):
        cluster_dictionaries(model, [(torch.rand(1, 3, 5), torch.rand(1, 3, 4))])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_entropy_of_what_is_looked_up(kind: str) -> None:
    model = lively(LxmertForPretraining(config(causal_attention=kind)))
    with torch.no_grad():
        for dictionary in (model.lxmert.encoder.MV, model.lxmert.encoder.ML):
            dictionary.fill_(0.5)  # all entries alike
    with watched_dictionaries(model) as found:
        model(**inputs())
        model(**inputs())
    assert found.means() == pytest.approx(found.uniform)
    with torch.no_grad():
        model.lxmert.encoder.ML[0, 0] *= 60
    with watched_dictionaries(model) as found:
        model(**inputs())
    assert found.means()["words"] < found.uniform["words"] - 0.01
    assert found.means()["boxes"] == pytest.approx(found.uniform["boxes"])
    model(**inputs())
    assert found.counts["words"] == 2 * int(inputs()["attention_mask"].sum())  # two heads; nothing outside the block


@pytest.mark.parametrize(("kind", "layer"), [("ft_same", "layer 1"), ("ft", "layer 2")])
def test_the_entropy_of_each_question(kind: str, layer: str) -> None:
    model = lively(LxmertForAnswers(config(causal_attention=kind))).eval()
    boxes = {"visual_attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])}
    with torch.no_grad():
        model.lxmert.encoder.ML.fill_(0.5)
        model.lxmert.encoder.MV[0, 0] *= 60
        with watched_dictionaries(model) as found:
            model(**inputs(), **boxes)
    notes = found.notes(3)
    assert all(note["words"] == {layer: {"nats": round(math.log(6), 4), "share": 1.0}} for note in notes)
    # alone, every question says the same as beside the others
    for row, note in enumerate(notes):
        one = {name: value[row : row + 1] for name, value in (inputs() | boxes).items()}
        with torch.no_grad(), watched_dictionaries(model) as alone:
            model(**one)
        assert alone.notes(1)[0]["boxes"][layer] == pytest.approx(note["boxes"][layer], abs=2e-4)
        assert alone.means()["boxes"] == pytest.approx(note["boxes"][layer]["nats"], abs=2e-4)
    assert len({note["boxes"][layer]["nats"] for note in notes}) == 3


def test_the_pictures_of_a_pair_count_alike() -> None:
    model = lively(LxmertForPairs(config(causal_attention="ft_same"))).eval()
    with torch.no_grad():
        model.lxmert.encoder.MV[0, 0] *= 60
        with watched_dictionaries(model) as found:
            model(**inputs(images=2))
    note = found.notes(3)[1]
    assert note["boxes"]["layer 1"]["nats"] == pytest.approx(found.each["boxes"][1][2:4].mean().item(), abs=1e-4)
    assert note["boxes"]["layer 1"]["share"] < 1


# --- inputs that do not fit ------------------------------------------------------------------------------------------


def test_a_sentence_that_is_longer_than_the_positions() -> None:
    with pytest.raises(ValueError, match="11 word pieces is longer than the model's 10 positions: truncate"):
        LxmertForAnswers(config())(**inputs(words=11))


def test_features_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"\[3, 4, 6\] must be \[examples, boxes, 5\].*visual_feat_dim to 6"):
        LxmertForAnswers(config())(**inputs(width=6))


def test_a_pair_with_one_image_missing() -> None:
    batch = inputs(images=2)
    one = {name: batch[name][:, :1] for name in ("visual_feats", "visual_pos")}
    with pytest.raises(ValueError, match="left and of its right image"):
        LxmertForPairs(config())(**(batch | one))
    with pytest.raises(ValueError, match="left and of its right image"):
        LxmertForPairs(config())(**inputs())


def test_sentences_images_and_masks_that_do_not_belong_together() -> None:
    model, batch = LxmertForAnswers(config()), inputs()
    two = {name: batch[name][:2] for name in ("visual_feats", "visual_pos")}
    with pytest.raises(ValueError, match="3 questions and 2 images"):
        model(**(batch | two))
    with pytest.raises(ValueError, match="3 sentences and 2 images"):
        model.lxmert(**(batch | two))
    with pytest.raises(ValueError, match="attention_mask .* does not fit"):
        model(**(batch | {"attention_mask": torch.ones(3, 2)}))
    with pytest.raises(ValueError, match="visual_attention_mask .* does not fit"):
        model(**batch, visual_attention_mask=torch.ones(3, 5))
    with pytest.raises(ValueError, match="visual_pos .* must hold 4 numbers"):
        model(**(batch | {"visual_pos": torch.rand(3, 4, 6)}))
    with pytest.raises(ValueError, match=r"input_ids \[0, 7\] hold no word"):
        model(**{name: tensor[:0] for name, tensor in batch.items()})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"causal_attention": "yes"}, "causal_attention is 'yes': choose one of none, ft_same, ft, ft_fixed"),
        ({"cross_type": "l2l"}, "cross_type is 'l2l': choose one of g2g, g2l"),
        ({"ft_large": True}, 'ft_large belongs to causal_attention "ft"'),
        ({"num_attention_heads": 3}, "hidden_size 8 is not divisible"),
        ({"x_layers": 0}, "x_layers is 0: at least 1"),
        ({"causal_attention": "ft", "dictionary_words": 0}, "dictionary_words is 0"),
    ],
)
def test_configurations_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        config(**fields)


def test_the_published_sizes_are_the_defaults() -> None:
    assert LxmertConfig().visual_loss_normalizer == 1 / 0.15
    assert (LxmertConfig().dictionary_words, LxmertConfig().dictionary_boxes) == (500, 500)
