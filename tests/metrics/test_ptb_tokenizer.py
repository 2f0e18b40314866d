import json
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics.ptb_tokenizer import ptb_tokenize
from tests.conftest import SHARED, needs_java, needs_shared
from tests.metrics.hard_cases import KINDS, hard_cases

# Checked with the original once; they hold where there is no JVM.
GOLDEN = {
    "A man can't lift the dog's ball.": "a man ca n't lift the dog 's ball",
    "I'm sure they'd've said: \"It's fun!\"": "i 'm sure they 'd 've said it 's fun",
    "He cannot stop; she's gonna wanna dance…": "he can not stop she 's gon na wan na dance",
    "'Twas the '90s, y'all - rock'n'roll at 7 o'clock": "'t was the '90s y' all rock 'n' roll at 7 o'clock",
    "It’s a ‘quoted’ “word” — isn’t it?": "it 's a quoted word is n't it",
    "A well-known t-shirt--cheap and/or ugly": "a well-known t-shirt cheap and/or ugly",
    "(two dogs) [one cat] {red}": "-lrb- two dogs -rrb- -lsb- one cat -rsb- -lcb- red -rcb-",
    "Mr. Brown of St. Ives, Inc. vs. the U.S. at 5 p.m.": "mr. brown of st. ives inc. vs. the u.s. at 5 p.m.",
    "See fig. 3, no. 5 and no. Five": "see fig. 3 no. 5 and no five",
    "Plan B. The dog": "plan b the dog",
    "Plan B. a dog": "plan b. a dog",
    "$1,000.50 for 3 1/2 lbs. at 50% off!!": "$ 1,000.50 for 3\u00a01/2 lbs at 50 % off !!",
    "10:30pm, 10/12/2014, (555) 123-4567": "10:30 pm 10/12/2014 -lrb-555-rrb-\u00a0123-4567",
    "£5 or 5€ or ½ of 20¢": "# 5 or 5 $ or 1/2 of 20 cents",
    "http://example.com/a?b=c, me@example.com. @user #tag": "http://example.com/a?b=c me@example.com @user #tag",
    "a smile :) ;-) ^_^ and <b>bold</b> love <3": "a smile :-rrb- ;--rrb- ^_^ and <b> bold </b> love < 3",
    "café naïve 日本語 😀 hi😀there": "café naïve 日本語 hi there",
    "AT&T &amp; R&B &lt; a&b": "at&t & r&b < a & b",
    "stray \u00a0 \u200b bytes\ufffd here a\u00adb": "stray bytes here ab",
    "": "",
    " ... ": "",
}


@pytest.mark.parametrize("caption", GOLDEN)
def test_golden(caption: str) -> None:
    assert ptb_tokenize([caption]) == [GOLDEN[caption]]


def _original(captions: list[str]) -> list[str]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokens = PTBTokenizer().tokenize({row: [{"caption": caption}] for row, caption in enumerate(captions)})
    return [tokens[row][0] for row in range(len(captions))]


def _photograph_captions() -> list[str]:
    records = [
        record
        for split in ("train", "val")
        for record in json.loads((SHARED / "data/flickrstyle" / f"{split}.json").read_text(encoding="utf-8"))
    ]
    return [caption for record in records for caption in [record["comment"], *record.get("additional_comments", ())]]


@needs_java
def test_hard_cases_as_the_original() -> None:
    cases = hard_cases(6500, seed=11)
    captions = [*GOLDEN, *(caption for _, caption in cases)]
    ours, theirs = ptb_tokenize(captions), _original(captions)
    assert ours[: len(GOLDEN)] == theirs[: len(GOLDEN)]
    wrong = Counter(
        kind for (kind, _), a, b in zip(cases, ours[len(GOLDEN) :], theirs[len(GOLDEN) :], strict=True) if a != b
    )
    assert wrong.total() <= 0.005 * len(cases)
    assert all(count <= 0.02 * len(cases) / len(KINDS) for count in wrong.values()), wrong


@needs_java
@needs_shared
def test_photographs_captions_as_the_original() -> None:
    captions = _photograph_captions()
    assert len(captions) > 40_000
    assert ptb_tokenize(captions) == _original(captions)


def test_the_start_of_the_next_caption_decides_about_an_initial() -> None:
    assert ptb_tokenize(["plan z.", "A dog"]) == ["plan z", "a dog"]
    assert ptb_tokenize(["plan z.", "a dog"]) == ["plan z.", "a dog"]
    assert ptb_tokenize(["he said no.", "5 dogs"]) == ["he said no.", "5 dogs"]


@given(st.lists(st.text(max_size=40), max_size=4))
@example(["\ud800 lone", "a\rb", "\x85\u2028", "can't." * 30])
@example(["d'aa-" * 60, "a-" * 200, "a." * 200, "x@" * 100, "<a " * 100, "(" * 100, "12 " * 100])
def test_one_line_of_lower_case_tokens_each(captions: list[str]) -> None:
    tokenized = ptb_tokenize(captions)
    assert len(tokenized) == len(captions)
    for line in tokenized:
        assert not set(line) & set("\n\r\v\f\u2028\u2029")
        assert line == line.lower()
        assert "" not in line.split(" ") or line == ""


@given(
    st.lists(
        st.sampled_from("dog man's can't well-known u.s. 5 1,000 café and/or rock'n'roll '90s".split()), max_size=8
    )
)
def test_tokens_of_plain_words_stay_tokens(words: list[str]) -> None:
    once = ptb_tokenize([" ".join(words)])
    assert ptb_tokenize(once) == once
