"""Captions, questions, sentences about pairs and VCR's choices, with words masked and a label, for pre-training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from transformers import BertTokenizer

from data.features.regions import Regions
from preprocessors.visualbert.captions import caption_text
from preprocessors.visualbert.choosing import object_regions
from preprocessors.visualbert.collate import Item, collate
from preprocessors.visualbert.draws import Draws
from preprocessors.visualbert.questions import AnswerSpelling, answer_pieces, question_and_answer, question_words
from preprocessors.visualbert.reader import PictureReader, one_array
from preprocessors.visualbert.sentences import sentence_text
from preprocessors.visualbert.texts import Text
from preprocessors.visualbert.vcr import choices, masked_choice

#: Of a text that is not asked whether it belongs to its picture.
NO_LABEL = -1


class PretrainingReader(PictureReader):
    """Items of each kind of text; see `models.visualbert` for the batch.

    Args:
        spelling: of answers, "words" or, letter by letter, "published".
        others: as `PictureReader`.
    """

    def __init__(
        self, tokenizer: BertTokenizer, max_words: int, *, spelling: AnswerSpelling = "words", **others: Any
    ) -> None:
        super().__init__(tokenizer, max_words, **others)
        self.spelling: AnswerSpelling = spelling

    def captions(self, first: str, second: str, *, same: bool, picture: Regions, draws: Draws) -> dict[str, Any]:
        """Two captions, and whether the second is of the picture, too."""
        split = self.vocabulary.split
        text = caption_text(self.vocabulary, split(first), split(second), draws, limit=self.max_words)
        return self._item(text, [picture], int(same))

    def question(self, question: str, answer: str, *, picture: Regions, draws: Draws) -> dict[str, Any]:
        """A question with its answer behind it: masked words only."""
        pieces = self.vocabulary.split(" ".join(question_words(question)))
        answers = answer_pieces(self.vocabulary, answer, spelling=self.spelling)
        text = question_and_answer(self.vocabulary, pieces, answers, draws, limit=self.max_words)
        return self._item(text, [picture], NO_LABEL)

    def sentence(self, sentence: str, *, true: bool | None, pair: Sequence[Regions], draws: Draws) -> dict[str, Any]:
        """A sentence about two pictures, and whether it is true of them; None where that is not known."""
        text = sentence_text(self.vocabulary, self.vocabulary.split(sentence), draws, limit=self.max_words)
        return self._item(text, pair, NO_LABEL if true is None else int(true))

    def choice(self, item: Mapping[str, Any], *, picture: Regions, draws: Draws) -> dict[str, Any]:
        """A question of VCR with its one choice (`data.questions.vcr.read_vcr_pairs`), and whether it is right."""
        [made] = choices(self.vocabulary, item, "answer", limit=self.max_words)
        made = masked_choice(self.vocabulary, made, draws)
        label = NO_LABEL if made.correct is None else int(made.correct)
        found: Item = self._item(made.text, [object_regions(picture, item)], label)["item"]
        return {"item": replace(found, alignment=[made.alignment[: len(found.features)]])}

    def _item(self, text: Text, pictures: Sequence[Regions], label: int) -> dict[str, Any]:
        rows = [self.regions(one) for one in pictures]
        # all have types, so that a batch may hold both kinds; those of one picture are 0, as where none are given
        types = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        return {"item": Item([text], one_array(rows), types, label=label)}

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The arguments of `VisualBERTModel.forward`, `word_labels` and `labels` (-1: none) among them."""
        return dict(collate([item["item"] for item in items]))
