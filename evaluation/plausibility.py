"""Scores that are right and mean nothing: said in the log, because nobody looks for them."""

import logging
from collections.abc import Mapping, Sequence

from metrics.tokenizers import unspaced_share

LOGGER = logging.getLogger("stylecap")
_MOSTLY = 0.5  # share of letters
_LOOKED_AT = 1000  # references
_ZERO = 1e-4  # of BLEU, which is never quite 0


def warn_of_unspaced(references: Sequence[Sequence[str]], tokenizer: str) -> None:
    """Say when captions have no spaces between words and are divided at spaces all the same."""
    looked_at = [text for of_image in references[:_LOOKED_AT] for text in of_image]
    if tokenizer == "ptb" and unspaced_share(looked_at) > _MOSTLY:
        LOGGER.warning(
            "The references have no spaces between words, so that a caption is one word and scores are 0 or 1: use "
            "--tokenizer characters (eval.tokenizer)"
        )


def warn_of_zeros(scores: Mapping[str, float | None], predictions: Sequence[str]) -> None:
    """Say when all scores are 0 although there are captions: the two sides hardly are about the same images."""
    known = [value for value in scores.values() if value is not None]
    if known and max(known) < _ZERO and any(caption.strip() for caption in predictions):
        LOGGER.warning(
            "Every score is 0: no caption shares a word with its references. Are these the captions of these images, "
            "in the same language, with spaces between words (else --tokenizer characters)?"
        )
