"""Captions without spaces between words."""

import pytest

from metrics.bleu import bleu, bleu_statistics
from metrics.overlap import NgramOverlap
from metrics.tokenizers import character_tokenize, tokenizer_of, unspaced_share


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("一只小船停在码头。", "一 只 小 船 停 在 码 头"),
        ("他有2只iPhone手机!", "他 有 2 只 iphone 手 机"),
        ("ネコとｲﾇ、ＡＢ", "ネ コ と イ ヌ ab"),
        ("ที่นี่", "ที่ นี่"),  # two consonants, each with the marks that are written on it
        ("A dog's bone -- 3 m", "a dog s bone 3 m"),
        ("", ""),
        (" ，。! ", ""),
    ],
)
def test_characters_by_hand(caption: str, tokens: str):
    assert character_tokenize([caption]) == [tokens]


def test_scores_of_characters_by_hand():
    # 7 of the 8 characters are in the reference of 9: precision 7/8, brevity exp(1 - 9/8)
    candidate, reference = character_tokenize(["一只小船停在码里", "一只小船停在码头边"])
    statistics = bleu_statistics(NgramOverlap([candidate], [[reference]]))
    assert bleu(statistics)[0] == pytest.approx(7 / 8 * 2.718281828 ** (1 - 9 / 8))


@pytest.mark.parametrize(
    ("caption", "share"), [("一只小船", 1.0), ("a dog", 0.0), ("狗 dog", 0.25), ("123 !", 0.0), ("สวัสดี", 1.0)]
)
def test_the_share_of_letters_without_spaces(caption: str, share: float):
    assert unspaced_share([caption]) == pytest.approx(share)


def test_an_unknown_tokenizer():
    with pytest.raises(ValueError, match='unknown tokenizer "words": choose one of ptb, characters'):
        tokenizer_of("words")
