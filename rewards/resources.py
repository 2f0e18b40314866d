"""What rewards need of the training corpus, made when the first reward asks for it and kept in the run's folder."""

from functools import cached_property
from pathlib import Path

from data.samples import Split
from metrics.cider import DocumentFrequency
from metrics.style_classifier import StyleClassifier
from rewards.base import END_WORD
from rewards.document_frequency import captions_by_image, read_table, table_of_corpus

TABLE_FILE = "document_frequency_with_end.pkl"  # beside the table that evaluation uses, which has no end word
CLASSIFIER_FILE = "style_reward.npz"


class Resources:
    """
    Args:
        split: the training split.
        work_dir: the run's folder.
        document_frequency_file: a table to use in place of one counted in the split.
        soft_weight: weight of an image's captions in other styles, as references beside those of the asked style.
    """

    def __init__(
        self, split: Split, work_dir: Path, *, document_frequency_file: str | None = None, soft_weight: float = 0.0
    ):
        self.split = split
        self.work_dir = work_dir
        self.document_frequency_file = document_frequency_file
        self.soft_weight = soft_weight

    @cached_property
    def document_frequency(self) -> DocumentFrequency:
        """The table of the training captions. ValueError where a named file is of other data."""
        captions = captions_by_image(self.split)
        if self.document_frequency_file is not None:
            return read_table(Path(self.document_frequency_file), captions, end_word=END_WORD)
        return table_of_corpus(self.work_dir / TABLE_FILE, captions, end_word=END_WORD)

    @cached_property
    def style_classifier(self) -> StyleClassifier:
        """Words of one half of the training images: an evaluator of the other half and other features is no judge in
        its own cause."""
        return StyleClassifier.of_split(self.work_dir / CLASSIFIER_FILE, self.split, half=0, features="words")
