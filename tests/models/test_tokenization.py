"""OFA's tokenizer: equality with the reference, round trips, files, and what a user can get wrong."""

import json
import pickle
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ofa.tokenization import MIN_TRAINED_SIZE, OFATokenizer
from tests.conftest import SHARED, needs_shared

CAPTIONS = ["a dog runs on the beach", "a dog and a cat", "the cat sleeps on the beach", "Oh , what a sweet dog !"] * 5
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # every text but lone surrogates


@pytest.fixture(scope="module")
def public() -> OFATokenizer:
    return OFATokenizer.from_pretrained(SHARED / "ofa_vocab")


@pytest.fixture(scope="module")
def trained() -> OFATokenizer:
    return OFATokenizer.train(CAPTIONS, vocab_size=300, num_codes=6)


@needs_shared
def test_every_reference_case_is_equal(public):
    reference = json.loads((SHARED / "parity" / "tokens.json").read_text())
    assert len(public) == reference["vocab_size"] == 59457
    assert len(reference["cases"]) > 200
    for case in reference["cases"]:
        assert public.encode_text(case["text"]) == case["ids"], case["text"]
        assert public.decode(case["ids"], skip_special_tokens=True) == case["decoded"], case["text"]
    texts = [case["text"] for case in reference["cases"]]
    assert public.encode_batch(texts) == [case["ids"] for case in reference["cases"]]


@needs_shared
def test_public_ids(public):
    ids = public.convert_tokens_to_ids
    assert [ids(t) for t in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")] == [0, 1, 2, 3, 50264]
    assert (ids("<code_0>"), ids("<code_8191>"), ids("<bin_0>"), ids("<bin_999>")) == (50265, 58456, 58457, 59456)
    assert public("a dog")["input_ids"] == [0, 102, 2335, 2]


@needs_shared
def test_a_vocabulary_that_already_holds_codes_keeps_their_ids(public):
    vocab = {token: index for token, index in public.get_vocab().items() if index < 50265}
    codes = {f"<code_{i}>": 50265 + i for i in range(4)}
    tokenizer = OFATokenizer(vocab | codes, [], num_bins=2)
    assert (tokenizer.num_codes, tokenizer.num_bins, len(tokenizer)) == (4, 2, 50271)
    assert tokenizer.convert_tokens_to_ids("<code_3>") == 50268
    assert tokenizer.encode_text("<code_3>") == [50268]


def test_trained_layout(trained):
    ids = trained.convert_tokens_to_ids
    assert [ids(t) for t in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert (trained.bos_token_id, trained.pad_token_id, trained.eos_token_id, trained.unk_token_id) == (0, 1, 2, 3)
    codes = [ids(trained.code_token(k)) for k in range(6)]
    assert codes == list(range(len(trained) - 6, len(trained)))
    assert trained.mask_token_id == codes[0] - 1
    assert trained.encode_text(" dog") != trained.encode_text("dog")
    assert len(trained.encode_text(" beach")) == 1  # frequent words are one entry
    assert trained.num_bins == 0


def test_vocabulary_size_counts_everything_but_the_codes():
    tokenizer = OFATokenizer.train(CAPTIONS, vocab_size=270, num_codes=4)
    assert len(tokenizer) == 270 + 4


def test_training_depends_on_the_captions_only(trained):
    shuffled = list(CAPTIONS)
    random.Random(3).shuffle(shuffled)
    again = OFATokenizer.train(iter(shuffled), vocab_size=300, num_codes=6)
    assert again.get_vocab() == trained.get_vocab()
    assert again.encode_text("the sweet cat sleeps") == trained.encode_text("the sweet cat sleeps")


@settings(max_examples=200)
@given(text=TEXTS)
def test_any_text_survives_a_trained_vocabulary(trained, text):
    ids = trained.encode_text(text)
    assert trained.decode(ids, clean_up_tokenization_spaces=False) == text
    assert trained.encode_batch([text, "a dog"]) == [ids, trained.encode_text("a dog")]


@settings(max_examples=50)
@given(text=TEXTS, length=st.integers(0, 5))
def test_max_length_keeps_the_first_ids(trained, text, length):
    assert trained.encode_text(text, max_length=length) == trained.encode_text(text)[:length]


def test_decoding_writes_codes_apart_and_cleans_up(trained):
    ids = trained.encode_text("a <code_2>dog <mask> .")
    assert trained.decode(ids) == "a  <code_2> dog<mask>."
    assert trained.decode(ids, skip_special_tokens=True) == "a  <code_2> dog."
    assert trained.decode([ids, []]) == ["a  <code_2> dog<mask>.", ""]


def test_a_call_of_transformers_leaves_nothing_behind(trained):
    expected = trained.encode_text("a dog runs on the beach")
    trained(["a dog runs on the beach", "a"], padding=True, truncation=True, max_length=4)
    assert trained.encode_text("a dog runs on the beach") == expected
    assert trained.encode_batch(["a", "a dog runs on the beach"])[1] == expected


@pytest.mark.parametrize("copy", ["files", "pickle"])
def test_saved_tokenizer_gives_the_same_ids(trained, tmp_path, copy):
    if copy == "files":
        names = sorted(Path(path).name for path in trained.save_pretrained(tmp_path / "new"))
        assert names == sorted(path.name for path in (tmp_path / "new").iterdir())
        assert names == ["merges.txt", "tokenizer_config.json", "vocab.json"]
        restored = OFATokenizer.from_pretrained(tmp_path / "new")
    else:
        restored = pickle.loads(pickle.dumps(trained))
    assert restored.get_vocab() == trained.get_vocab()
    assert (restored.num_codes, restored.num_bins) == (6, 0)
    text = "a sweet <code_3> dog <mask> 日本"
    assert restored.encode_text(text) == trained.encode_text(text)
    assert restored.decode(restored.encode_text(text)) == trained.decode(trained.encode_text(text))


def test_errors_say_what_and_where(trained, tmp_path):
    with pytest.raises(ValueError, match=r"vocab\.json"):
        OFATokenizer.from_pretrained(tmp_path / "absent")
    trained.save_pretrained(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(ValueError, match=r"merges\.txt, line 2"):
        OFATokenizer.from_pretrained(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nqq qq\n")
    with pytest.raises(ValueError, match=str(tmp_path)):
        OFATokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text('{"<s>": 0, "<pad>":')
    with pytest.raises(ValueError, match=r"vocab\.json is not valid JSON"):
        OFATokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="each once"):
        OFATokenizer({"<s>": 0, "<pad>": 2}, [])
    with pytest.raises(ValueError, match="<pad> must have id 1"):
        OFATokenizer({"<s>": 0, "</s>": 1}, [])
    with pytest.raises(ValueError, match="no <code_6>: this vocabulary holds 6"):
        trained.code_token(6)
    with pytest.raises(ValueError, match="outside this vocabulary"):
        trained.decode([len(trained)])
    with pytest.raises(ValueError, match="Unicode"):
        trained.encode_text("\ud800")
    with pytest.raises(ValueError, match=str(MIN_TRAINED_SIZE)):
        OFATokenizer.train(CAPTIONS, vocab_size=MIN_TRAINED_SIZE - 1)
    with pytest.raises(ValueError, match="no captions"):
        OFATokenizer.train([""], vocab_size=300)
