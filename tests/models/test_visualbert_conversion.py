"""VisualBERT's checkpoints from form to form, to the bit, and files that are refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertConfig, BertForPreTraining

from models.visualbert import HEADS, VisualBERTConfig, VisualBERTModel
from models.visualbert.bert import load_bert
from models.visualbert.configuration import with_answers
from models.visualbert.conversion import convert, load_body, load_model, read_checkpoint, read_weights
from models.visualbert.naming import to_original, to_transformers
from tests.models.visualbert_nano import SIZES, inputs, nano

ALL = ["pretraining", "vqa", "nlvr2", "vcr"]
TWO_HEADS: dict[str, Any] = {"num_attention_heads": 2}  # 24 numbers wide: a BERT of 64 numbers a head has none
MARK = "code-ran"


class Evil:
    def __reduce__(self):
        return os.mkdir, (MARK,)


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    def bits(tensor: Tensor) -> Tensor:
        return tensor.contiguous().view(torch.uint8)

    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and torch.equal(bits(tensor), bits(other[name]))
        for name, tensor in one.items()
    )


def release(path: Path, head: str = "vqa", *, prefix: str = "", **changes) -> dict[str, Tensor]:
    """A `.th` file as the original saves it."""
    state = {prefix + name: tensor for name, tensor in to_original(nano(head, **changes).state_dict()).items()}
    torch.save(state, path)
    return state


@pytest.mark.parametrize("head", ALL)
def test_original_to_ours_to_transformers_and_back_is_the_same_bits(tmp_path, head):
    original = release(tmp_path / "a.th", head)

    convert(tmp_path / "a.th", tmp_path / "ours", **TWO_HEADS)
    convert(tmp_path / "ours", tmp_path / "theirs", to="transformers")
    convert(tmp_path / "theirs", tmp_path / "back", to="original")

    assert same_bits(torch.load(tmp_path / "back" / "model.th"), original)
    config = read_checkpoint(tmp_path / "back")[1]
    assert config.head == head
    assert config.num_attention_heads == 2
    assert load_model(tmp_path / "back").config.to_dict() == load_model(tmp_path / "ours").config.to_dict()


@pytest.mark.parametrize("to", ["stylecap", "transformers"])
@pytest.mark.parametrize("head", ALL)
def test_transformers_reads_what_is_written(tmp_path, head, to):
    release(tmp_path / "a.th", head)
    convert(tmp_path / "a.th", tmp_path / "out", to=to, **TWO_HEADS)

    model, info = getattr(transformers, HEADS[head]).from_pretrained(tmp_path / "out", output_loading_info=True)

    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same_bits(dict(model.state_dict()), dict(nano(head).state_dict()))
    assert model.config.pad_token_id == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text()).get("head") == (
        head if to == "stylecap" else None
    )


def test_a_directory_of_2021(tmp_path):
    """A `.bin` file with a table of positions, and a configuration that pads with 1 and says no head."""
    model = nano("vqa")
    state = dict(model.state_dict()) | {"visual_bert.embeddings.position_ids": torch.arange(20)[None]}
    torch.save(state, tmp_path / "pytorch_model.bin")
    fields = {name: value for name, value in model.config.to_dict().items() if name != "head"}
    fields |= {"pad_token_id": 1, "architectures": ["VisualBertForQuestionAnswering"]}
    (tmp_path / "config.json").write_text(json.dumps(fields))

    loaded = load_model(tmp_path)

    assert loaded.config.head == "vqa"
    assert loaded.config.pad_token_id == 0
    assert torch.equal(loaded(**inputs("vqa")).logits, model(**inputs("vqa")).logits)


def test_a_parallel_models_names_and_a_detector_are_understood(tmp_path):
    state = release(tmp_path / "a.th", "vcr", prefix="module.")
    torch.save(state | {"module.detector.backbone.weight": torch.ones(2)}, tmp_path / "b.th")

    assert same_bits(read_checkpoint(tmp_path / "b.th")[0], dict(nano("vcr").state_dict()))


def test_bypass_and_its_layer_are_inferred(tmp_path):
    release(tmp_path / "a.th", "pretraining", bypass_transformer=True)

    model = load_model(tmp_path / "a.th", **TWO_HEADS)

    assert model.config.bypass_transformer
    assert model(**inputs()).logits.isfinite().all()


def test_a_file_of_a_whole_training_state(tmp_path):
    torch.save({"model": to_original(nano("vqa").state_dict()), "epoch": 3}, tmp_path / "a.th")

    assert read_checkpoint(tmp_path / "a.th", **TWO_HEADS)[1].num_labels == 5


def test_one_release_at_full_size_to_the_bit(tmp_path):
    """Every number of every tensor is another bit pattern: 110 million of them."""
    with torch.device("meta"):
        shapes = to_original(VisualBERTModel(VisualBERTConfig(head="nlvr2", visual_embedding_dim=1024)).state_dict())
    start, state = 0, {}
    for name, tensor in shapes.items():
        state[name] = torch.arange(start, start + tensor.numel(), dtype=torch.int32).view(torch.float32)
        state[name] = state[name].view(tensor.shape)
        start += tensor.numel()
    torch.save(state, tmp_path / "nlvr2_fine_tuned.th")

    config = convert(tmp_path / "nlvr2_fine_tuned.th", tmp_path / "ours")
    back = to_original(read_weights(tmp_path / "ours"))

    assert start == 110_665_730
    assert (config.head, config.num_attention_heads, config.visual_embedding_dim) == ("nlvr2", 12, 1024)
    assert same_bits(back, state)


def test_half_precision_stays(tmp_path):
    state = {name: tensor.half() for name, tensor in to_original(nano("vqa").state_dict()).items()}
    torch.save(state, tmp_path / "a.th")

    convert(tmp_path / "a.th", tmp_path / "ours", **TWO_HEADS)

    assert same_bits(load_file(tmp_path / "ours" / "model.safetensors"), to_transformers(state))
    assert load_model(tmp_path / "ours").cls.weight.dtype == torch.float32


# --- another head, BERT, answers -------------------------------------------------------------------------------------


def test_another_head_starts_from_the_body(tmp_path):
    release(tmp_path / "a.th", "pretraining")
    model = nano("vqa", initializer_range=0.1)
    before = model.cls.weight.clone()

    kept = load_body(model, tmp_path / "a.th")

    assert kept == ["cls.weight", "cls.bias"]
    assert torch.equal(model.cls.weight, before)
    other = nano("pretraining").visual_bert.state_dict()
    assert same_bits(dict(model.visual_bert.state_dict()), dict(other))


def test_a_body_of_another_size_is_named(tmp_path):
    release(tmp_path / "a.th", "pretraining")

    with pytest.raises(ValueError, match=r"do not fit.*visual_projection\.weight \[24, 6\] instead of \[24, 9\]"):
        load_body(nano("vqa", visual_embedding_dim=9), tmp_path / "a.th")


@pytest.mark.parametrize("old", [False, True])
def test_a_bert_fills_all_but_the_projection(tmp_path, old):
    torch.manual_seed(4)
    fields = {name: value for name, value in SIZES.items() if name != "visual_embedding_dim"}
    bert = BertForPreTraining(BertConfig(**fields))
    state = dict(bert.state_dict())
    if old:
        new = (".weight", ".bias")
        state = {
            name.replace(new[0], ".gamma").replace(new[1], ".beta") if "LayerNorm" in name else name: tensor
            for name, tensor in state.items()
        }
    torch.save(state, tmp_path / "pytorch_model.bin")
    model = nano("pretraining")

    kept = load_bert(model, tmp_path)

    assert kept == [f"visual_bert.embeddings.visual_projection.{part}" for part in ("weight", "bias")]
    embeddings = model.visual_bert.embeddings
    assert torch.equal(embeddings.visual_position_embeddings.weight, bert.bert.embeddings.position_embeddings.weight)
    assert torch.equal(embeddings.LayerNorm.weight, bert.bert.embeddings.LayerNorm.weight)
    assert torch.equal(model.cls.predictions.transform.dense.weight, bert.cls.predictions.transform.dense.weight)
    assert model.cls.predictions.decoder.weight is embeddings.word_embeddings.weight
    batch = inputs()
    words = {"input_ids": batch["input_ids"], "attention_mask": batch["text_mask"]}
    assert bert(**words, token_type_ids=batch["segment_ids"]).prediction_logits.isfinite().all()
    with pytest.raises(ValueError, match="is no BERT of this model's size"):
        load_bert(nano("vqa", hidden_size=12), tmp_path)


def test_answers_must_be_as_many_as_outputs(tmp_path):
    release(tmp_path / "a.th", "vqa")
    answers = ["<unk>", "yes", "no", "2", "red"]

    model = load_model(tmp_path / "a.th", answers=answers, **TWO_HEADS)

    assert model.config.answers == answers
    with pytest.raises(ValueError, match="the answer list has 4 entries, but the model's head has 5 answers"):
        load_model(tmp_path / "a.th", answers=answers[:4], **TWO_HEADS)
    with pytest.raises(ValueError, match="the model's head has no answers"):
        with_answers(nano("nlvr2").config, ["a", "b"])


def test_answers_are_kept_by_a_checkpoint(tmp_path):
    release(tmp_path / "a.th", "vqa")
    answers = ["<unk>", "yes", "no", "2", "red"]
    names = dict(enumerate(answers))

    convert(tmp_path / "a.th", tmp_path / "ours", id2label=names, **TWO_HEADS)

    assert load_model(tmp_path / "ours").config.answers == answers
    assert nano("vqa").config.answers is None


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_in_it_is_refused(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    state = release(tmp_path / "a.th")
    torch.save(state | {"extra": Evil()}, tmp_path / "a.th", _use_new_zipfile_serialization=zipped)

    with pytest.raises(ValueError, match=r"a\.th is not read.*could run code"):
        convert(tmp_path / "a.th", tmp_path / "out")

    assert not Path(MARK).exists()
    assert not (tmp_path / "out").exists()


def test_checkpoints_of_other_systems_are_refused(tmp_path):
    lxmert = {"bert.encoder.x_layers.0.visual_attention.att.query.weight": torch.ones(2, 2)}
    torch.save(lxmert, tmp_path / "lxmert.pth")
    folder = tmp_path / "bert"
    folder.mkdir()
    torch.save(dict(nano().state_dict()), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))

    with pytest.raises(ValueError, match=r"lxmert\.pth: these are not the weights of a VisualBERT"):
        load_model(tmp_path / "lxmert.pth")
    with pytest.raises(ValueError, match="describes 'bert', not a model of type \"visual_bert\""):
        load_model(folder)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda state: state.pop("bert.bert.pooler.dense.bias"), r"missing: visual_bert\.pooler\.dense\.bias"),
        (lambda state: state.update({"bert.bert.other": torch.ones(1)}), r"unexpected: visual_bert\.other"),
        (
            lambda state: state.update({"bert.classifier.bias": torch.ones(7)}),
            r"of another shape: cls\.bias \[7\] instead of \[5\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, spoil, reason):
    state = release(tmp_path / "a.th")
    spoil(state)
    torch.save(state, tmp_path / "a.th")

    with pytest.raises(ValueError, match=reason):
        convert(tmp_path / "a.th", tmp_path / "out", **TWO_HEADS)


def test_tied_weights_that_differ_are_refused(tmp_path):
    state = release(tmp_path / "a.th", "pretraining")
    state["bert.cls.predictions.decoder.weight"] = state["bert.cls.predictions.decoder.weight"] + 1
    torch.save(state, tmp_path / "a.th")

    with pytest.raises(ValueError, match="are one tensor in VisualBERT, but differ here"):
        load_model(tmp_path / "a.th")


def test_other_mistakes_are_named(tmp_path):
    release(tmp_path / "a.th")
    (tmp_path / "empty").mkdir()
    torch.save([1, 2], tmp_path / "list.th")
    (tmp_path / "half.safetensors").write_bytes(b"\x00" * 20)

    with pytest.raises(ValueError, match="empty has no file of weights"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ValueError, match="cannot read"):
        convert(tmp_path / "b.th", tmp_path / "out")
    with pytest.raises(ValueError, match="holds no named tensors"):
        convert(tmp_path / "list.th", tmp_path / "out")
    with pytest.raises(ValueError, match="is damaged"):
        convert(tmp_path / "half.safetensors", tmp_path / "out")
    with pytest.raises(ValueError, match="cannot convert to 'paddle'"):
        convert(tmp_path / "a.th", tmp_path / "out", to="paddle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exists: name a directory that does not"):
        convert(tmp_path / "a.th", tmp_path / "empty", **TWO_HEADS)
