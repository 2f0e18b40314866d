"""What rewards need of the training corpus, made when the first reward asks for it and kept in the run's folder."""

from functools import cached_property
from pathlib import Path

from data.run_folder import RunFolder
from data.samples import Split
from metrics.cider import DocumentFrequency
from metrics.style_classifier import StyleClassifier
from rewards.base import END_WORD
from rewards.document_frequency import captions_by_image, read_table, table_of_corpus
from rewards.kept_classifier import reward_classifier


class Resources:
    """
    Args:
        split: the training split.
        run: the run's folder.
        document_frequency_file: a table to use in place of one counted in the split.
        soft_weight: weight of an image's captions in other styles, as references beside those of the asked style.
        shared_weight: of n-grams of CIDEr-D's references that the image's captions in other styles have as well.
        tokenizer: a key of `metrics.tokenizers.TOKENIZERS`.
        http_timeout_s, http_retries: of rewards that a server gives.
    """

    def __init__(
        self,
        split: Split,
        run: RunFolder,
        *,
        document_frequency_file: str | None = None,
        soft_weight: float = 0.0,
        shared_weight: float = 1.0,
        tokenizer: str = "ptb",
        http_timeout_s: float = 10.0,
        http_retries: int = 2,
    ):
        self.split = split
        self.run = run
        self.document_frequency_file = document_frequency_file
        self.soft_weight = soft_weight
        self.shared_weight = shared_weight
        self.tokenizer = tokenizer
        self.http_timeout_s = http_timeout_s
        self.http_retries = http_retries

    @cached_property
    def document_frequency(self) -> DocumentFrequency:
        """The table of the training captions. ValueError where a named file is of other data."""
        captions, counted = captions_by_image(self.split), {"end_word": END_WORD, "tokenizer": self.tokenizer}
        if self.document_frequency_file is not None:
            return read_table(Path(self.document_frequency_file), captions, **counted)
        return table_of_corpus(self.run.document_frequency_with_end, captions, **counted)

    @cached_property
    def style_classifier(self) -> StyleClassifier:
        """That of the training captions."""
        return reward_classifier(self.run, self.split)
