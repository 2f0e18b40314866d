"""The WordPiece loader: ids of known texts, all kinds of sources, vocabularies of other models."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import BertTokenizer

from models.wordpiece import check_vocabulary, entries_of, load_wordpiece, make_wordpiece, save_wordpiece
from tests.conftest import SHARED, needs_shared

FOLDER = SHARED / "bert_vocab"
ENTRIES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "##s", "?"]


@cache
def known() -> dict[str, Any]:
    return json.loads((FOLDER / "tokens.json").read_text(encoding="utf-8"))


@cache
def public() -> BertTokenizer:
    return load_wordpiece(FOLDER / "vocab.txt")


@needs_shared
def test_ids_and_tokens_of_the_known_texts() -> None:
    tokenizer = public()
    for case in known()["texts"]:
        ids = tokenizer(case["text"])["input_ids"]
        assert ids == case["ids"], case["text"]
        assert tokenizer.convert_ids_to_tokens(ids) == case["tokens"]
    for case in known()["pairs"]:
        encoded = tokenizer(*case["text"])
        assert encoded["input_ids"] == case["ids"]
        assert encoded["token_type_ids"] == case["token_type_ids"]


@needs_shared
def test_special_tokens_are_where_the_public_vocabulary_has_them() -> None:
    ids = {name: getattr(public(), f"{name}_token_id") for name in known()["special"]}
    assert ids == known()["special"]
    check_vocabulary(public(), 30522)


def test_a_list_a_file_and_a_directory_give_the_same_ids(tmp_path: Path) -> None:
    from_list = load_wordpiece(ENTRIES)
    assert from_list("A dogs?")["input_ids"] == [2, 5, 6, 7, 8, 3]
    save_wordpiece(from_list, tmp_path)
    for source in (tmp_path, str(tmp_path / "vocab.txt")):
        assert entries_of(load_wordpiece(source)) == ENTRIES
    (tmp_path / "windows.txt").write_bytes("\r\n".join(ENTRIES).encode())
    assert entries_of(load_wordpiece(tmp_path / "windows.txt")) == ENTRIES


def test_a_tokenizer_json_of_transformers_is_read(tmp_path: Path) -> None:
    load_wordpiece(ENTRIES).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink(missing_ok=True)
    assert entries_of(load_wordpiece(tmp_path)) == ENTRIES


def test_case_is_kept_where_the_directory_or_the_caller_says_so(tmp_path: Path) -> None:
    entries = [*ENTRIES, "A"]
    assert load_wordpiece(entries, lower_case=False)("A")["input_ids"] == [2, 9, 3]
    save_wordpiece(load_wordpiece(entries, lower_case=False), tmp_path)
    assert load_wordpiece(tmp_path)("A")["input_ids"] == [2, 9, 3]
    assert load_wordpiece(tmp_path, lower_case=True)("A")["input_ids"] == [2, 5, 3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "<s>\n<pad>\n</s>\nthe\n", "another model: it lacks \\[PAD\\].*bert-base-uncased"),
        ("vocab.txt", "\n".join([*ENTRIES, "dog"]), "'dog' stands in lines \\[7, 10\\]"),
        ("vocab.json", json.dumps({"<s>": 0}), "another model"),
        ("tokenizer.json", json.dumps({"model": {"type": "BPE", "vocab": {}}}), "another model \\(BPE\\)"),
        ("tokenizer.json", "{", "not valid JSON"),
        ("tokenizer.json", "[]", "holds a list"),
        (
            "tokenizer.json",
            json.dumps({"model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "[UNK]": 2}}}),
            "not numbered from 0",
        ),
    ],
)
def test_what_is_no_wordpiece_vocabulary_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_wordpiece(tmp_path / name)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the vocabulary .*nowhere.txt.*name a vocab.txt"):
        load_wordpiece(tmp_path / "nowhere.txt")
    with pytest.raises(ValueError, match="neither vocab.txt nor tokenizer.json"):
        load_wordpiece(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"\x80\xff\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_wordpiece(tmp_path / "weights.bin")


def test_a_vocabulary_of_another_size_than_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="has 9 entries, but the model embeds 30522 words"):
        check_vocabulary(load_wordpiece(ENTRIES), 30522)


def test_a_vocabulary_is_made_of_texts() -> None:
    entries = make_wordpiece(["What colour is the ball?", "is the BALL red?", "ball"], 60)
    tokenizer = load_wordpiece(entries)
    assert tokenizer.tokenize("Is the ball red?") == ["is", "the", "ball", "red", "?"]
    assert tokenizer.tokenize("tall") == ["t", "##a", "##l", "##l"]
    assert tokenizer.tokenize("ball2") == ["[UNK]"]  # no digit was there
    few = make_wordpiece(["ball ball the"], 20)
    assert few[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert few[-2:] == ["ball", "the"]
    assert make_wordpiece(["ball ball the"], 18)[-1] == "ball"
