"""Judges of style beside a served model: what the evaluation of its run left in the run's folder or in an export."""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.names import canonical_style
from data.run_folder import RunFolder
from models.ofa.mixtures import parse_mixture
from models.ofa.styles import StyleMap

if TYPE_CHECKING:
    from metrics.style_classifier import StyleClassifier

LOGGER = logging.getLogger("stylecap")


class Judges:
    """Says of a caption how sure each judge is of its style; safe to call from many threads.

    Attributes:
        by_name: "characters", which every evaluation leaves, and "sentences" where its encoder is installed.
    """

    def __init__(self, by_name: Mapping[str, "StyleClassifier"], known: StyleMap) -> None:
        self.by_name, self.known = by_name, known
        self._one_at_a_time = threading.Lock()

    def of(self, style: str, caption: str) -> dict[str, float | str]:
        """Of each judge `JUDGE_score`, the probability of the style, and `JUDGE_style`, the likeliest one.

        Of a mixture it is the probability of the styles in it that have a weight above 0. Empty for a description, and
        where a judge knows none of the styles.
        """
        mixture = parse_mixture(style, self.known)
        wanted = [name for name, weight in mixture.items() if weight > 0] if mixture is not None else [style]
        found: dict[str, float | str] = {}
        for name, judge in self.by_name.items():
            canonical = canonical_style(judge.styles)  # training may write a style in another case
            rows = sorted({judge.row(canonical(one)) for one in wanted if canonical(one) in judge.styles})
            if rows and caption.strip():
                with self._one_at_a_time:
                    shares = np.exp(judge.log_probabilities([caption])[0])
                found[f"{name}_score"] = round(float(shares[rows].sum()), 4)
                found[f"{name}_style"] = judge.styles[int(shares.argmax())]
        return found


def find_judges(folders: Sequence[Path], known: StyleMap) -> Judges:
    """The judges in the first of the folders that has each; one that cannot be read is left out, with a warning."""
    judges: dict[str, StyleClassifier] = {}
    for name in ("characters", "sentences"):
        files = [_file(RunFolder(folder), name) for folder in folders]
        file = next((file for file in files if file.is_file()), None)
        judge = _opened(file, name) if file is not None else None
        if judge is not None:
            judge.log_probabilities(["a"])  # what it needs is loaded now, not while somebody waits
            judges[name] = judge
    return Judges(judges, known)


def _file(run: RunFolder, name: str) -> Path:
    return run.style_evaluator if name == "characters" else run.sentence_evaluator


def _opened(file: Path, name: str) -> "StyleClassifier | None":
    from rewards.kept_classifier import load

    try:
        judge = load(file)
    except ValueError as error:
        LOGGER.warning("%s: captions are shown without its score", error)
        return None
    if name == "characters":
        return judge
    from evaluation.sentence_judge import SentenceClassifier, sentence_encoder
    from models.sentences import MINILM

    encoder = sentence_encoder(MINILM)
    if encoder is None or judge.features != f"sentences {encoder.name}":
        LOGGER.info("%s is of a sentence encoder that is not here: captions are shown without its score", file)
        return None
    return SentenceClassifier(judge.styles, encoder, judge.weights, judge.bias, judge.fingerprint)
