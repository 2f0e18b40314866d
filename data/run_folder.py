"""The folder of a run: the one place that names the files in it.

conf.json            the configuration               checkpoints/   step-000500/, …, best, last
configuration.json   what ModelScope's trainer reads  history.jsonl  losses and validation scores, a line each
metrics.json         scores; metrics.CONTROL.json     predictions.json  what was scored
samples.jsonl        sampled captions, rewards       warnings.jsonl    what went wrong in training
tensorboard/ cache/ demo_data/                        tables and classifiers of the training captions
"""

import os
from pathlib import Path
from typing import TextIO

from data.files import claimed


class RunFolder:
    """Paths of a run's files; nothing is made before it is written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.conf = self.path / "conf.json"
        self.modelscope = self.path / "configuration.json"
        self.checkpoints = self.path / "checkpoints"
        self.history = self.path / "history.jsonl"
        #: Captions that step 2 sampled, with their rewards.
        self.samples = self.path / "samples.jsonl"
        #: What went wrong in training, with the step.
        self.warnings = self.path / "warnings.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.trackers = self.path / "trackers.json"
        self.cache = self.path / "cache"
        self.drawn_data = self.path / "demo_data"
        self.metrics = self.path / "metrics.json"
        self.predictions = self.path / "predictions.json"
        self.captions = self.path / "inference.json"
        self.contact_sheet = self.path / "inference.html"
        self.report = self.path / "report.html"
        self.java_scores = self.path / "java_scores.json"
        self.style_evaluator = self.path / "style_evaluator.npz"
        self.sentence_evaluator = self.path / "sentence_evaluator.npz"
        self.style_reward = self.path / "style_reward.npz"
        self.document_frequency = self.path / "document_frequency.pkl"
        #: With the end of a caption as a word of its own, as rewards count it.
        self.document_frequency_with_end = self.path / "document_frequency_with_end.pkl"

    def metrics_of(self, *names: str | None) -> Path:
        """metrics.json of another split or of a control: their names stand in its own; those that are None do not."""
        return _with(self.metrics, names)

    def predictions_of(self, *names: str | None) -> Path:
        """Likewise predictions.json."""
        return _with(self.predictions, names)

    def kept_predictions_of(self, *names: str | None) -> Path:
        """What was predicted and may not be scored yet: of a split, and of a control where there is one."""
        return _with(self.cache / self.predictions.name, names)

    def controls(self) -> dict[str, Path]:
        """Control -> its metrics file, for those that were measured."""
        return {path.name.split(".")[1]: path for path in sorted(self.path.glob("metrics.*.json"))}

    def claim(self) -> TextIO:
        """The folder for this process alone, until the returned file is closed. ValueError names who has it."""
        return claimed(self.path / ".lock", "wait for it, or train elsewhere with --work_dir DIR")


def _with(path: Path, names: tuple[str | None, ...]) -> Path:
    return path.with_name("".join([path.stem, *(f".{name}" for name in names if name), path.suffix]))
