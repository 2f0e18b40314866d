"""Style maps, look-ups, prompts and the starting vectors of style tokens."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.ofa.styles import StyleMap, initial_style_embeddings, style_words
from models.ofa.tokenization import OFATokenizer
from preprocessors.prompts import Prompt

STYLES = ["Humorous", "Sweet", "Old-fashioned", "Money_Minded"]


@pytest.fixture
def style_map():
    return StyleMap.from_styles(STYLES)


def test_style_k_is_code_k(style_map):
    assert style_map.tokens == {
        "Humorous": "<code_0>",
        "Sweet": "<code_1>",
        "Old-fashioned": "<code_2>",
        "Money_Minded": "<code_3>",
    }
    assert style_map.unknown == "<code_4>"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).map(str.strip).filter(bool), min_size=1, unique=True))
def test_every_style_finds_itself_after_a_round_trip(tmp_path_factory, styles):
    path = tmp_path_factory.mktemp("map") / "style_map.json"
    style_map = StyleMap.from_styles(styles)
    style_map.to_json(path)
    restored = StyleMap.from_json(path)
    assert restored == style_map
    assert restored.fingerprint == style_map.fingerprint
    assert [restored.lookup(style) for style in styles] == styles


def test_tokens_do_not_depend_on_the_order_of_a_file(style_map, tmp_path):
    style_map.to_json(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    content["styles"] = dict(reversed(content["styles"].items()))
    (tmp_path / "a.json").write_text(json.dumps(content))
    restored = StyleMap.from_json(tmp_path / "a.json")
    assert restored.tokens == style_map.tokens
    assert restored.fingerprint == style_map.fingerprint


def test_a_style_more_gets_the_first_code_that_nothing_has(style_map):
    grown = style_map.with_style(" Calm ")
    assert grown.tokens == {**style_map.tokens, "Calm": "<code_5>"}
    assert grown.unknown == style_map.unknown
    assert StyleMap({"A": "<code_0>", "B": "<code_7>"}, "<code_8>").with_style("C").tokens["C"] == "<code_1>"
    for name, message in (("SWEET ", "'Sweet' already"), ("", "no name"), ("a\nb", "no name")):
        with pytest.raises(ValueError, match=message):
            style_map.with_style(name)


def test_fingerprint_changes_with_names_and_tokens(style_map):
    others = [
        StyleMap.from_styles([*STYLES, "Calm"]),
        StyleMap.from_styles(list(reversed(STYLES))),
        StyleMap.from_styles(["humorous", *STYLES[1:]]),
        StyleMap(style_map.tokens, "<code_9>"),
    ]
    assert len({style_map.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_a_plain_object_is_read_too(tmp_path):
    (tmp_path / "plain.json").write_text('{"Sweet": "<code_7>", "Calm": "<code_2>"}')
    style_map = StyleMap.from_json(tmp_path / "plain.json")
    assert style_map.tokens == {"Sweet": "<code_7>", "Calm": "<code_2>"}
    assert style_map.unknown == "<code_8>"


@pytest.mark.parametrize(
    ("asked", "found"), [("Sweet", "Sweet"), ("sweet", "Sweet"), (" OLD-fashioned ", "Old-fashioned")]
)
def test_lookup_forgives_case(style_map, asked, found):
    assert style_map.lookup(asked) == found


def test_names_that_differ_in_case_only_need_the_exact_name():
    style_map = StyleMap.from_styles(["Calm", "calm"])
    assert (style_map.lookup("Calm"), style_map.lookup("calm")) == ("Calm", "calm")
    with pytest.raises(ValueError, match="Calm, calm"):
        style_map.lookup("CALM")


def test_unknown_styles_get_the_closest_names(style_map):
    with pytest.raises(ValueError, match=r"unknown style 'Humourous': did you mean Humorous\?"):
        style_map.lookup("Humourous")
    with pytest.raises(ValueError, match="there are Humorous, Sweet"):
        style_map.lookup("qqqq")


@pytest.mark.parametrize("styles", [[], ["Sweet", "Sweet"], ["Sweet", " Sweet"], ["Sweet", "  "]])
def test_style_lists_that_cannot_be(styles):
    with pytest.raises(ValueError, match="style"):
        StyleMap.from_styles(styles)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"Sweet": 3}',
        '{"Sweet": "<code_x>"}',
        '{"Sweet": "<code_1>", "Calm": "<code_1>"}',
        '{"styles": {"Sweet": "<code_1>"}, "unknown": "<code_1>"}',
        '{"styles": [], "unknown": "<code_1>"}',
        '{"styles": ["Sweet"], "unknown": "<code_1>"}',
    ],
)
def test_broken_map_files_are_named(tmp_path, content):
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(ValueError, match=r"broken\.json"):
        StyleMap.from_json(tmp_path / "broken.json")
    with pytest.raises(ValueError, match=r"absent\.json"):
        StyleMap.from_json(tmp_path / "absent.json")


def test_prompts(style_map):
    template = " what does the image describe? write a {} reply."
    tokens = Prompt(template, tokenize_style=True, style_map=style_map, unknown_style="error")
    words = Prompt(template, tokenize_style=False, style_map=style_map, unknown_style="error")
    assert tokens.text("sweet") == " what does the image describe? write a <code_1> reply."
    assert words.text("Money_Minded") == " what does the image describe? write a money minded reply."
    assert tokens.fill("<mask>") == " what does the image describe? write a <mask> reply."
    for prompt in (tokens, words):
        with pytest.raises(ValueError, match="Sweet"):
            prompt.text("swet")


def test_an_unknown_style_may_become_the_reserved_token(style_map):
    prompt = Prompt("{}", tokenize_style=True, style_map=style_map, unknown_style="token")
    assert (prompt.text("Grumpy"), prompt.text("sweet")) == ("<code_4>", "<code_1>")


@pytest.mark.parametrize("template", ["write a reply", "{} and {}", "", "{0}", "{style}"])
def test_templates_without_one_slot_are_refused(style_map, template):
    with pytest.raises(ValueError, match=r"exactly one \{\}"):
        Prompt(template, tokenize_style=True, style_map=style_map, unknown_style="error")


def test_unknown_style_is_error_or_token(style_map):
    with pytest.raises(ValueError, match="ignore"):
        Prompt("{}", tokenize_style=True, style_map=style_map, unknown_style="ignore")  # type: ignore[arg-type]


def test_style_words():
    assert [style_words(style) for style in ("Sweet", " Money_Minded", "Old-fashioned")] == [
        "sweet",
        "money minded",
        "old-fashioned",
    ]


def test_style_tokens_start_from_the_mean_of_their_words():
    tokenizer = OFATokenizer.train(["a sweet day", "money money sweet"] * 3, vocab_size=300, num_codes=3)
    style_map = StyleMap.from_styles(["Sweet", "Sweet Money"])
    weight = torch.arange(len(tokenizer) * 2, dtype=torch.float32).reshape(-1, 2).requires_grad_()
    (sweet,), (money,) = tokenizer.encode_text(" sweet"), tokenizer.encode_text(" money")
    vectors = initial_style_embeddings(weight, style_map, tokenizer)
    first = len(tokenizer) - 3
    assert sorted(vectors) == [first, first + 1, first + 2]
    # row i of the table is (2i, 2i + 1)
    assert vectors[first].tolist() == [2.0 * sweet, 2.0 * sweet + 1]
    assert vectors[first + 1].tolist() == [float(sweet + money), sweet + money + 1.0]
    assert vectors[first + 2].tolist() == [(vectors[first][i] + vectors[first + 1][i]).item() / 2 for i in (0, 1)]
    assert not vectors[first].requires_grad


def test_a_vocabulary_with_too_few_codes_is_refused(style_map):
    tokenizer = OFATokenizer.train(["a b"], vocab_size=300, num_codes=4)
    with pytest.raises(ValueError, match="4 codes"):
        style_map.token_ids(tokenizer)
    enough = OFATokenizer.train(["a b"], vocab_size=300, num_codes=5)
    ids = style_map.token_ids(enough)
    assert [enough.convert_ids_to_tokens(ids[style]) for style in STYLES] == list(style_map.tokens.values())
