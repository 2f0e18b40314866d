"""LXMERT's and CATT's weights: names, files of the original and of transformers, starts from BERT, moved heads."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LxmertConfig as TransformersConfig
from transformers import LxmertForPreTraining, LxmertForQuestionAnswering
from transformers import LxmertModel as TransformersModel

from models.lxmert import LxmertConfig, LxmertForAnswers, LxmertForPretraining, LxmertModel
from models.lxmert.answers import joint_answers, normalise_answer
from models.lxmert.checkpoints import load_model, read_weights
from models.lxmert.modeling import LxmertBase
from models.lxmert.naming import original_names, original_state
from models.lxmert.starting import start_from_bert, start_from_lxmert
from tests.parity.conftest import Golden
from tests.parity.lxmert_cases import assert_close, config_of, feats_for, filled, sized_by, tensors
from tests.parity.test_lxmert import pretraining, pretraining_case

SMALL: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "l_layers": 2,
    "x_layers": 2,
    "r_layers": 1,
    "visual_feat_dim": 5,
    "num_object_labels": 4,
    "num_attr_labels": 3,
    "num_qa_labels": 6,
    "max_position_embeddings": 10,
}


def small(**fields: Any) -> LxmertConfig:
    return LxmertConfig(**(SMALL | fields))


def _theirs(fields: dict[str, Any]) -> TransformersConfig:
    return TransformersConfig(**fields)


def renamed(name: str, pairs: list[list[str]]) -> str:
    for pattern, replacement in pairs:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.goldens("keymap*", system="lxmert", when=lambda content: "pretraining_to_task" in content)
def test_names_are_those_of_the_map(golden: Golden) -> None:
    maps = golden.json
    whole, task, encoder = LxmertForPretraining(small()), LxmertForAnswers(small()), LxmertModel(small())
    cases: list[tuple[LxmertBase, str]] = [
        (whole, "pretraining_to_LxmertForPreTraining"),
        (task, "task_to_LxmertForQuestionAnswering"),
    ]
    for model, key in cases:
        for prefix in ("", "module."):
            for ours, theirs in original_names(model).items():
                # the map of tasks expects `module.` inside names, as the original's data-parallel encoder has it
                given = theirs.replace("model.", f"model.{prefix}", 1) if model is task else prefix + theirs
                assert renamed(given, maps[key]) == ours
    # without its heads, a pre-training checkpoint is the encoder's; with the head of answers, that of a task
    drop = re.compile(maps["pretraining_to_LxmertModel_drop"])
    kept = [renamed(name, maps["pretraining_to_LxmertModel"]) for name in original_names(whole).values()]
    assert {name for name in kept if not drop.search(name)} == set(encoder.state_dict())
    as_task = {renamed(name, maps["pretraining_to_task"]) for name in original_names(whole).values()}
    assert set(original_names(task).values()) <= as_task
    # the names that transformers reads
    assert set(whole.state_dict()) == set(LxmertForPreTraining(_theirs(SMALL)).state_dict())
    assert set(task.state_dict()) == set(LxmertForQuestionAnswering(_theirs(SMALL)).state_dict())
    assert set(encoder.state_dict()) == set(TransformersModel(_theirs(SMALL)).state_dict())


@pytest.mark.goldens("keymap*", system="lxmert", when=lambda content: "pretraining_to_task" in content)
def test_berts_names_and_catts(golden: Golden) -> None:
    pairs = golden.json["catt_ft_same_attention_to_bert"]
    causal, plain = LxmertForPretraining(small(causal_attention="ft_same")), LxmertForPretraining(small())
    theirs = {renamed(name, pairs) for name in original_names(causal).values()}
    joins = [f"fc_{side}.{part}" for side in ("lang", "visn") for part in ("weight", "bias")]
    added = {f"bert.encoder.{name}" for name in ["MV", "ML", *joins]}
    assert theirs - set(original_names(plain).values()) == added
    assert renamed("bert.embeddings.LayerNorm.gamma", golden.json["bert_to_pretraining"]).endswith("weight")


@pretraining
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_files_of_the_original_are_read_and_written_back(golden: Golden, wrapper: str, tmp_path: Path) -> None:
    model, inputs, _ = pretraining_case(golden)
    state = {wrapper + name: tensor for name, tensor in original_state(model).items()}
    # CATT's snapshots hold the optimizer, too
    content = {"state_dict": state, "optimizer": {}} if model.config.is_causal else state
    torch.save(content, tmp_path / "Epoch20_LXRT.pth")
    given = {"num_attention_heads": model.config.num_attention_heads, "cross_type": model.config.cross_type}
    loaded = load_model(tmp_path / "Epoch20_LXRT.pth", overrides=given)
    assert isinstance(loaded, LxmertForPretraining)
    for field in ("causal_attention", "ft_large", "dictionary_words", "dictionary_boxes", "num_qa_labels", "l_layers"):
        if model.config.is_causal or not field.startswith("dictionary"):
            assert getattr(loaded.config, field) == getattr(model.config, field)
    assert {name: list(t.shape) for name, t in original_state(loaded).items()} == golden.json["keys"]
    with torch.no_grad():
        assert_close(loaded(**inputs).answers, golden.arrays["answer_logits"])


@pytest.mark.goldens("lxmert_transformers*", system="lxmert", when=lambda content: "result" in content)
def test_transformers_computes_the_same_but_for_a_row_without_boxes(golden: Golden) -> None:
    config = config_of(golden)
    given = golden.json["config"]
    ours = filled(LxmertModel(config))
    theirs = TransformersModel(_theirs(_shared_fields(config))).eval()
    found = theirs.load_state_dict(ours.state_dict())
    assert list(found.missing_keys) == golden.json["result"]["missing"]
    assert list(found.unexpected_keys) == golden.json["result"]["unexpected"]
    generator = torch.Generator().manual_seed(given["seed"])
    ids = torch.randint(1, given["vocab"], (given["batch"], given["len"]), generator=generator)
    words = torch.ones_like(ids)
    words[1:, given["len"] // 2 :] = 0
    boxes = torch.rand(given["batch"], given["boxes"], generator=generator).gt(0.4).long()
    boxes[:, 0] = 1
    boxes[-1] = 0
    feats = feats_for(given["seed"], (given["batch"], given["boxes"], given["feat"]))
    places = torch.rand(given["batch"], given["boxes"], 4, generator=generator)
    with torch.no_grad():
        one = ours(ids, feats, places, words, boxes, skip_padding=False)
        other = theirs(ids, feats, places, attention_mask=words, visual_attention_mask=boxes)
    for name in ("language", "vision", "pooled"):
        difference = (getattr(one, name) - getattr(other, f"{name}_output")).abs().flatten(1).amax(1)
        assert difference[:-1].max() < 1e-5
        assert difference[-1] > 1e-3  # theirs sees nothing there, the original everything


def _shared_fields(config: LxmertConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in TransformersConfig().to_dict() if name in config.to_dict()}


@pytest.mark.goldens("*_defects_and_bert_init*", system="lxmert", when=lambda content: "bert_init" in content)
def test_a_bert_fills_what_it_fills_in_the_original_and_all_that_is_lost_there(golden: Golden, tmp_path: Path) -> None:
    for kind, expected in golden.json["bert_init"].items():
        model = LxmertForPretraining(config_of(golden, causal_attention="none" if kind == "bert" else kind))
        bert = {name: bert_tensor(name, golden) for name in golden.json["bert_checkpoint_keys"]}
        torch.save(bert, tmp_path / "pytorch_model.bin")
        start = start_from_bert(model, tmp_path)
        names = original_names(model)
        filled_names = {names[name] for name in [*start.loaded, *start.copied]}
        assert set(expected["loaded"]) <= filled_names
        assert set(expected["language_side_not_loaded"]) <= filled_names
        assert not {names[name] for name in start.fresh if ".layer." in name}
        state = original_state(model)
        for name, tensor in bert.items():
            same = re.sub("gamma$", "weight", re.sub("beta$", "bias", name))
            same = same if same in state else same.replace(".attention.self.", ".attention.att.")
            if same in state:
                assert torch.equal(state[same], tensor), name
        for name, beside in start.copied.items():
            assert torch.equal(model.state_dict()[name], model.state_dict()[beside])


def bert_tensor(name: str, golden: Golden) -> Tensor:
    """A weight of a BERT of the case's sizes."""
    given = golden.json["config"]
    hidden, inter, vocab = given["hidden"], given["inter"], given["vocab"]
    sizes: dict[str, tuple[int, ...]] = {
        r"word_embeddings\.weight|decoder\.weight": (vocab, hidden),
        r"position_embeddings\.weight": (given.get("positions", 24), hidden),
        r"token_type_embeddings\.weight|seq_relationship\.weight": (2, hidden),
        r"seq_relationship\.bias": (2,),
        r"predictions\.bias": (vocab,),
        r"intermediate\.dense\.weight": (inter, hidden),
        r"intermediate\.dense\.bias": (inter,),
        r"\d\.output\.dense\.weight": (hidden, inter),
        r"(dense|query|key|value)\.weight": (hidden, hidden),
        r"(gamma|beta|bias)": (hidden,),
    }
    shape = next(shape for pattern, shape in sizes.items() if re.search(f"(?:{pattern})$", name))
    # the output layer for words has the weights of their embeddings
    seed = 0 if shape == (vocab, hidden) else len(name)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.goldens("*_defects_and_bert_init*", system="lxmert", when=lambda content: "observed" in content)
def test_dictionaries_start_in_the_originals_range(golden: Golden) -> None:
    observed = golden.json["observed"].get("dictionary initialisation")
    if observed is None:  # LXMERT has none
        assert not LxmertModel(config_of(golden)).config.is_causal
        return
    encoder = LxmertModel(config_of(golden, causal_attention="ft_same")).encoder
    for name, facts in observed.items():
        dictionary = getattr(encoder, name).detach()
        assert list(dictionary.shape) == facts["shape"]
        assert dictionary.min() >= 0
        assert dictionary.max() < 0.01
        assert dictionary.mean().item() == pytest.approx(facts["mean"], abs=2e-4)


# --- answers ---------------------------------------------------------------------------------------------------------

transfer = pytest.mark.goldens("*_answer_transfer*", system="lxmert", when=lambda content: "convert_ans" in content)


@transfer
def test_answers_are_normalised(golden: Golden) -> None:
    for answer, expected in golden.json["convert_ans"].items():
        assert normalise_answer(answer) == expected, answer


@transfer
def test_lists_of_the_question_sets(golden: Golden) -> None:
    entries = golden.json["all_ans_json"]
    assert joint_answers(entries) == golden.json["joint_answers"]
    for sources, expected in golden.json["tables_by_qa_sets"].items():
        assert joint_answers(entries, sources.split(",")) == expected


@transfer
def test_an_answer_head_moves_to_another_list(golden: Golden, tmp_path: Path) -> None:
    joint, answers = golden.json["joint_answers"], golden.json["label2ans"]
    config = config_of(golden)
    source = filled(LxmertForPretraining(config))
    state = original_state(source)
    for title, expected in golden.json["result"].items():
        prefix = title if title.endswith(".") else ""
        torch.save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "model_LXRT.pth")
        model = LxmertForAnswers(LxmertConfig(**(_shared(config) | {"num_qa_labels": len(answers)})))
        start = start_from_lxmert(model, tmp_path / "model_LXRT.pth", answers=answers, source_answers=joint)
        last = model.answer_head.logit_fc[3]
        assert_close(last.weight, golden.arrays["weight"], 0)
        assert_close(last.bias, golden.arrays["bias"], 0)
        rows = expected["row_of_each_task_answer"]
        assert start.answers == ([a for a in answers if rows[a] != "zero"], [a for a in answers if rows[a] == "zero"])
        own, given = model.answer_head.state_dict(), source.answer_head.state_dict()
        assert all(torch.equal(own[name], given[name]) for name in own if not name.startswith("logit_fc.3"))
        encoder = source.lxmert.state_dict()
        assert all(torch.equal(tensor, encoder[name]) for name, tensor in model.lxmert.state_dict().items())
        assert not start.fresh


def _shared(config: LxmertConfig) -> dict[str, Any]:
    """What two configurations with the same encoder have in common."""
    causal = ("causal_attention", "cross_type", "ft_large", "dictionary_words", "dictionary_boxes")
    return {name: getattr(config, name) for name in (*SMALL, *causal)}


@pretraining
def test_lxmert_starts_causal_attention_as_itself(golden: Golden, tmp_path: Path) -> None:
    """Of the cases, those without dictionaries: a CATT that starts from LXMERT first computes what LXMERT does."""
    model, inputs, _ = pretraining_case(golden)
    if model.config.is_causal:
        state = read_weights_of(model, tmp_path)
        assert "lxmert.encoder.ML" in state
        return
    torch.save(original_state(model), tmp_path / "model_LXRT.pth")
    for kind in ("ft_same", "ft", "ft_fixed"):
        causal = LxmertForPretraining(LxmertConfig(**(_shared(model.config) | {"causal_attention": kind}))).eval()
        start = start_from_lxmert(causal, tmp_path / "model_LXRT.pth")
        with torch.no_grad():
            assert_close(causal(**inputs).answers, golden.arrays["answer_logits"])
        assert {name.rpartition("encoder.")[2] for name in start.fresh} >= {"MV", "ML"}


def read_weights_of(model: LxmertBase, folder: Path) -> dict[str, Tensor]:
    torch.save(original_state(model), folder / "weights.pth")
    return read_weights(folder / "weights.pth")


@pytest.mark.goldens("*heads*", system="lxmert", when=lambda content: "vqa_keys" in content)
def test_transformers_answers_with_our_weights(golden: Golden, tmp_path: Path) -> None:
    model = filled(LxmertForAnswers(sized_by(golden, golden.json["vqa_keys"])))
    torch.save(original_state(model), tmp_path / "BEST.pth")
    heads = {"num_attention_heads": model.config.num_attention_heads}
    assert isinstance(load_model(tmp_path / "BEST.pth", overrides=heads), LxmertForAnswers)
    if model.config.is_causal:
        return
    theirs = LxmertForQuestionAnswering(_theirs(_shared_fields(model.config))).eval()
    theirs.load_state_dict(model.state_dict())
    data = tensors(golden)
    with torch.no_grad():
        scores = theirs(data["input_ids"], data["feats"], data["boxes"], data["input_mask"]).question_answering_score
    assert_close(scores, golden.arrays["vqa_logits"])
