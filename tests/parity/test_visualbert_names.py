"""VisualBERT's names, releases and printed numbers, and where transformers does something else than the original."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from models.comparison import agree
from models.visualbert import HEADS as HEADS_OF_TRANSFORMERS
from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.configuration import inferred_config
from models.visualbert.naming import TIED, original_name, to_original, to_transformers, transformers_name
from models.visualbert.published import compare_published
from models.wordpiece import load_wordpiece
from preprocessors.visualbert.pieces import WordPieces
from tests.conftest import SHARED
from tests.models.visualbert_nano import inputs, nano
from tests.parity.conftest import Golden
from tests.parity.visualbert_cases import HEADS, transformers_config


@pytest.mark.goldens("keymap*", system="visualbert", when=lambda content: "hugging_face_2021" in content)
def test_names_of_one_layer(golden: Golden) -> None:
    for theirs, ours in golden.json["example_one_layer"].items():
        # the map writes down where the last of two names ends
        assert transformers_name(theirs) in (ours, "cls.predictions.bias")
        if ours not in TIED:
            assert original_name(ours) == theirs


@pytest.mark.goldens("keymap*", system="visualbert", when=lambda content: "hugging_face_2021" in content)
def test_names_follow_the_published_map(golden: Golden) -> None:
    content = golden.json
    names = list(content["example_one_layer"]) + ["bert.classifier.weight", "bert.classifier.bias", "detector.x.weight"]
    for name in (*names, *(f"module.{name}" for name in names)):
        state = to_transformers({name: torch.zeros(1)})
        dropped = any(re.search(pattern, name) for pattern in content["drop"])
        expected = replaced(name, content["replace"])
        assert (expected in state) != dropped
        if not dropped:
            assert original_name(expected) == replaced(expected, content["inverse"])
    for name in ("cls.predictions.decoder.bias", "visual_bert.embeddings.position_ids"):
        assert any(re.search(pattern, name) for pattern in content["inverse_drop"])
        assert not {original_name(name), name} & to_original({name: torch.zeros(1)}).keys()


def replaced(name: str, pairs: list[list[str]]) -> str:
    for pattern, replacement in pairs:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.goldens("checkpoints*", system="visualbert", when=lambda content: "checkpoints" in content)
def test_every_release_at_full_size(golden: Golden) -> None:
    content = golden.json
    for release in content["checkpoints"]:
        head = HEADS[release["training_head_type"]]
        labels = {"num_labels": release["num_labels"]} if release["num_labels"] else {}
        config = VisualBERTConfig(
            head=head, visual_embedding_dim=release["visual_embedding_dim"], **content["bert"], **labels
        )
        with torch.device("meta"):
            ours = VisualBERTModel(config)
            theirs = getattr(transformers, release["transformers_class"])(transformers_config(config))
        state = ours.state_dict()
        original = to_original(state)

        assert HEADS_OF_TRANSFORMERS[head] == release["transformers_class"]
        assert len(original) == release["original_tensors"]
        assert len(state) == release["transformers_tensors"]
        assert sum(parameter.numel() for parameter in ours.parameters()) == release["parameters"]
        assert shapes(state) == shapes(theirs.state_dict())
        detector = {"detector.backbone.conv1.weight": torch.empty(1, device="meta")}
        assert shapes(to_transformers(original | detector)) == shapes(state)
        found = inferred_config(to_transformers(original))
        assert {name: getattr(found, name) for name in content["bert"]} == content["bert"]
        assert (found.head, found.visual_embedding_dim) == (head, release["visual_embedding_dim"])


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.goldens("published_numbers*", system="visualbert", when=lambda content: "models" in content)
def test_published_numbers_are_computed_by_their_recipe(golden: Golden) -> None:
    pieces = WordPieces.of(load_wordpiece(SHARED / "bert_vocab"))
    for entry in golden.json["models"]:
        model = small_release(entry)
        made = printed_by_transformers(model, entry, pieces)

        assert agree(compare_published(model, made, pieces.split), 1e-4)
        rows = compare_published(model, entry, pieces.split)
        assert not agree(rows, 1e-4)
        assert len(rows) == (len(entry["rows"]) + 2 if entry["kind"] == "pre" else 2)


def small_release(entry: dict[str, Any]) -> VisualBERTModel:
    """A model with a release's head, vocabulary and features, small and without its weights."""
    widths = {"vqa": 2048, "nlvr2": 1024, "vcr": 512}
    pretraining = entry["kind"] == "pre"
    head, width = ("pretraining", entry["visual_dim"]) if pretraining else (entry["kind"], widths[entry["kind"]])
    torch.manual_seed(3)
    labels: dict[str, Any] = {"num_labels": entry["logits"]["shape"][-1]} if head == "vqa" else {}
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    config = VisualBERTConfig(head=head, visual_embedding_dim=width, initializer_range=0.3, **sizes, **labels)
    return VisualBERTModel(config).eval()


@torch.no_grad()
def printed_by_transformers(model: VisualBERTModel, entry: dict[str, Any], pieces: WordPieces) -> dict[str, Any]:
    """The numbers of an entry, from transformers' own class and the recipe as it is written."""
    theirs = getattr(transformers, HEADS_OF_TRANSFORMERS[model.config.head])(transformers_config(model.config))
    theirs.load_state_dict(model.state_dict())
    welcome = "Welcome to use paddle paddle and paddlenlp!"
    texts: Any = {"pre": "The capital of France is {mask}.", "vcr": [[welcome, welcome], ["Use it.", "Like it."]]}
    padded = {"padding": "max_length", "max_length": 128, "return_tensors": "pt"}
    batch = dict(pieces.tokenizer(texts.get(entry["kind"], welcome), **padded))
    ones = torch.ones(1, 100, model.config.visual_embedding_dim)
    if entry["kind"] == "vcr":
        batch = {name: tensor[None] for name, tensor in batch.items()}
        ones = ones[None].expand(1, 2, -1, -1).contiguous()
    mask = torch.ones(ones.shape[:-1], dtype=torch.long)
    batch |= {"visual_embeds": ones, "visual_token_type_ids": mask, "visual_attention_mask": mask}
    if entry["kind"] == "pre":
        longer = {**padded, "max_length": 228}
        batch["labels"] = pieces.tokenizer("The capital of France is Paris.", **longer)["input_ids"]
        batch["sentence_image_labels"] = torch.tensor([1])
    elif entry["kind"] == "vqa":
        batch["labels"] = F.one_hot(torch.tensor([50]), entry["logits"]["shape"][-1]).float()
    else:
        batch["labels"] = torch.tensor([1 if entry["kind"] == "nlvr2" else 0])
    output = theirs.eval()(**batch)
    made = {"kind": entry["kind"], "loss": output.loss.item()}
    if entry["kind"] == "pre":
        words = output.prediction_logits[0]
        rows = {row: [words[int(row)][:3].tolist(), words[int(row)][-3:].tolist()] for row in entry["rows"]}
        return made | {"rows": rows, "seq_relationship": output.seq_relationship_logits[0].tolist()}
    logits = output.logits[0].tolist()
    return made | {
        "logits": {"first3": logits[:3], "last3": logits[-3:]} if entry["kind"] == "vqa" else {"values": logits}
    }


@pytest.mark.goldens("transformers_differences*", system="visualbert", when=lambda content: "transformers" in content)
def test_ours_does_what_the_original_does_where_transformers_does_not(golden: Golden) -> None:
    content = golden.json
    batch, words = inputs(types=False), torch.full((3, 7), -1)
    zeros, some = torch.zeros_like(batch["box_mask"]), torch.where(torch.arange(7) == 2, 5, -1).expand(3, 7)
    model = nano()

    assert content["default_visual_token_types"]["original_default"] == "zeros"
    assert torch.equal(model(**batch).logits, model(**batch, box_types=zeros).logits)
    # -1 is no label, labels are as long as the text, and a batch without any has a loss
    assert model(**batch, word_labels=some).loss.item() > 0
    assert content["all_labels_ignored_original"] == "nan"
    assert model(**batch, word_labels=words).loss.item() == 0
    # the second task alone; its label 1 says that the text belongs to the image
    logits = model(**batch).logits
    expected = F.cross_entropy(logits, torch.tensor([1, 1, 0])).item()
    assert model(**batch, labels=torch.tensor([1, 1, 0])).loss.item() == pytest.approx(expected)
    # alignment of four choices, and the path past the layers
    choices = inputs("vcr")
    assert nano("vcr")(**choices, alignment=torch.zeros(2, 4, 4, 1).long()).logits.isfinite().all()
    assert nano(bypass_transformer=True)(**batch).logits.isfinite().all()
    # text padded at its beginning is an error, not another word's state
    left = {"text_mask": batch["text_mask"].flip(1)}
    with pytest.raises(ValueError, match="padded at its beginning"):
        nano("vqa")(**(inputs("vqa") | left))
    # tables, padding and a hub file's table of positions
    tables = model.visual_bert.embeddings
    for table, text in (("visual_position", "position"), ("visual_token_type", "token_type")):
        theirs_equal = content["special_visual_initialize_of_a_new_model"][f"{table}_equals_{text}"]
        assert not theirs_equal
        weights = [getattr(tables, f"{name}_embeddings").weight for name in (table, text)]
        assert torch.equal(*weights)
    assert tables.word_embeddings.padding_idx == content["default_pad_token_id"]["bert_base_uncased"]
    for name in content["position_ids_key_of_the_hub_files"]["unexpected_keys"]:
        assert to_transformers({name: torch.arange(3)}) == {}
