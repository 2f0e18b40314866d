"""TRAR as a network that answers: image grids, whole words, and an attention span chosen for each picture."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conf.answering import AnsweringConfig
from data.features.store import StoreInfo
from data.questions import AnswerVocabulary
from data.reading import load_json
from models.sources import resolve_source
from models.trar import TrarConfig, TrarModel, TrarOutput
from models.trar.checkpoints import Checkpoint, load_checkpoint, load_published, load_weights, write_checkpoint
from models.trar.configuration import PUBLISHED_FORMS
from models.trar.vectors import read_vectors, set_vectors
from preprocessors.grids import GridReader
from preprocessors.words import Vocabulary
from tasks.answering.models import Answerer, Known, Settings
from tasks.answering.saving import write_configuration
from trainers.trar_schedule import temperature

LOGGER = logging.getLogger("stylecap")
_ELSEWHERE = {
    "words": "model.vocabulary",
    "answers": "data.answers",
    "feature_width": "data.features",
    "dropout": "train.dropout",
    "evaluation": "eval.routing",
}
"""Fields of the network's configuration that follow from another setting."""


class Trar:
    """See `tasks.answering.models.Network`."""

    def build(self, config: AnsweringConfig, known: Known, last: Path | None) -> Answerer:
        _check(known)
        changes = {"dropout": config.train.dropout, "evaluation": config.eval.routing}
        settings = Settings.of(config, known)
        if last is not None:
            found = load_checkpoint(last, **changes)
            _check_width(last, found.model.config, known)
            return answerer(found.model, found.words, known.answers, settings, config)
        if config.model.checkpoint is not None:
            found = _start(config, known, resolve_source(config.model.checkpoint, config.model.revision), changes)
            return answerer(found.model, found.words, known.answers, settings, config)
        words = read_words(config.model.vocabulary, (one.text for one in known.train)).words
        model = TrarModel(_config(config, known, len(words)))
        if config.model.vectors is not None:
            vectors, there = read_vectors(config.model.vectors, words)
            set_vectors(model.embedding, vectors)
            LOGGER.info(
                "%s has vectors of %d of %d words; the others start from 0", config.model.vectors, there, len(words)
            )
        return answerer(model, words, known.answers, settings, config)

    def open(self, folder: Path) -> Answerer:
        settings, found = Settings.read(folder), load_checkpoint(folder)
        answers = AnswerVocabulary(found.answers, settings.normalise, str(folder))
        return answerer(found.model, found.words, answers, settings)

    def open_foreign(self, config: AnsweringConfig, source: Path, known: Known) -> Answerer:
        _check(known)
        found = _published(config, known, source, {"evaluation": config.eval.routing})
        return answerer(found.model, found.words, known.answers, Settings.of(config, known), config)


def answerer(
    model: TrarModel,
    words: Sequence[str],
    answers: AnswerVocabulary,
    settings: Settings,
    config: AnsweringConfig | None = None,
) -> Answerer:
    """A model with its reader, its answers and what writes it; with a `config`, what training does at each epoch."""
    reader = GridReader(
        Vocabulary(tuple(words)), settings.max_words, grid=model.config.grid, width=model.config.feature_width
    )
    orders = [str(order) for order in model.config.orders]

    def output(network: Any, batch: Mapping[str, Any]) -> TrarOutput:
        found: TrarOutput = network(batch["features"], batch["questions"], rows=batch["pictures"])
        return found

    def logits(network: Any, batch: Mapping[str, Any]) -> Tensor:
        return output(network, batch).logits

    def noted(network: Any, batch: Mapping[str, Any]) -> tuple[Tensor, list[dict[str, Any]]]:
        found = output(network, batch)
        weights = found.used.float().permute(1, 2, 0).tolist()  # [B, R, L]
        notes = [
            {"spans": {order: [round(w, 3) for w in row] for order, row in zip(orders, one, strict=True)}}
            for one in weights
        ]
        return found.logits, notes

    def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
        write_checkpoint(folder, model, words, list(answers), weights=weights)
        settings.save(folder)
        write_configuration(folder)

    def adjust(given: AnsweringConfig) -> None:
        model.config = dataclasses.replace(model.config, evaluation=given.eval.routing)
        if given.eval.routing == "published":
            torch.manual_seed(given.seed)  # of the noise

    return Answerer(
        model,
        reader,
        answers,
        settings,
        logits,
        write,
        at_epoch=None if config is None or model.config.routing == "soft" else _cooling(config),
        adjust=adjust,
        noted=noted,
    )


def read_words(source: str | None, questions: Iterator[str]) -> Vocabulary:
    """The words that a model reads.

    Args:
        source: "train" or None for those of `questions`; a JSON list or a text file with one word a line; or files of
            questions with commas between (`{"questions": [{"question"}]}`), whose words are numbered as they come: with
            the files for train, val, test and Visual Genome the numbers are those of published weights.

    Raises:
        ValueError: a file that cannot be read or is none of these.
    """
    if source in (None, "train"):
        return Vocabulary.of(questions)
    files = [part.strip() for part in str(source).split(",")]
    read = [_read(file) for file in files]
    if len(read) == 1 and not isinstance(read[0], dict):
        return Vocabulary(tuple(read[0]))
    texts = []
    for file, content in zip(files, read, strict=True):
        rows = content.get("questions") if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(
            isinstance(r, dict) and isinstance(r.get("question"), str) for r in rows
        ):
            raise ValueError(f"model.vocabulary: {file}: no list of questions under 'questions': name question files")
        texts += [row["question"] for row in rows]
    return Vocabulary.of(texts)


def _read(file: str) -> Any:
    try:
        if not file.endswith(".json"):
            return Path(file).read_text(encoding="utf-8").split()
        content = load_json(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"model.vocabulary: {file}: cannot read it ({error}): name an existing file") from None
    if isinstance(content, dict) or (isinstance(content, list) and all(isinstance(one, str) for one in content)):
        return content
    raise ValueError(f"model.vocabulary: {file}: neither a list of words nor a file of questions")


# --- what it is made of and starts from ------------------------------------------------------------------------------


def _check(known: Known) -> None:
    if known.images != 1:
        raise ValueError(f'model.type = "trar" reads one picture a question, and these have {known.images}: use lxmert')


def _config(config: AnsweringConfig, known: Known, words: int) -> TrarConfig:
    own = _own(config)
    fixed = {
        "words": words,
        "answers": len(known.answers),
        "feature_width": known.train.features.info.width,
        "grid": _grid(own, known.train.features.info),
        "dropout": config.train.dropout,
        "evaluation": config.eval.routing,
    }
    try:
        return TrarConfig.from_dict(PUBLISHED_FORMS[own.get("head", "vqa")] | own | fixed)
    except (TypeError, KeyError) as error:
        raise ValueError(f"model.config: {error}: correct the field") from None
    except ValueError as error:
        raise ValueError(f"model.config: {error}") from None


def _own(config: AnsweringConfig) -> dict[str, Any]:
    own = dict(config.model.config)
    for name, setting in _ELSEWHERE.items():
        if name in own:
            raise ValueError(f"model.config.{name} follows from {setting}: set that, and leave it out of model.config")
    return own


def _grid(own: Mapping[str, Any], info: StoreInfo) -> int:
    """Cells a side. ValueError where nothing says how many, and where features and configuration differ."""
    given = own.get("grid")
    if info.grid is None:
        if given is None:
            raise ValueError("data.features say of no grid: set model.config.grid, or import them with --grid")
        return int(given)
    rows, columns = info.grid
    if rows != columns:
        raise ValueError(f"data.features are a grid of {rows}x{columns} cells, which is not square: extract another")
    if given not in (None, rows):
        raise ValueError(
            f"data.features are a grid of {rows}x{rows} cells, and model.config.grid = {given}: make both one"
        )
    return rows


def _check_width(source: Path, trar: TrarConfig, known: Known) -> None:
    width = known.train.features.info.width
    if trar.feature_width != width:
        raise ValueError(
            f"data.features are {width} wide, and {source} was trained with features of {trar.feature_width}: use "
            "those, or train a new model"
        )


def _start(config: AnsweringConfig, known: Known, source: Path, changes: Mapping[str, Any]) -> Checkpoint:
    """The weights of `source` for these answers: a folder keeps its words, and rows of the head move by answer."""
    if not source.is_dir():
        return _published(config, known, source, changes)
    found = load_checkpoint(source, **changes)
    _check_width(source, found.model.config, known)
    answers = list(known.answers)
    if answers == list(found.answers):
        return found
    model = TrarModel(dataclasses.replace(found.model.config, answers=len(answers)))
    state = dict(found.model.state_dict())
    rows = {answer: row for row, answer in enumerate(found.answers)}
    for name in ("proj.weight", "proj.bias"):
        moved = model.state_dict()[name].clone()
        for row, answer in enumerate(answers):
            if answer in rows:
                moved[row] = state[name][rows[answer]]
        state[name] = moved
    load_weights(model, state, str(source))
    model.tau = found.model.tau
    return Checkpoint(model, found.words, tuple(answers))


def _published(config: AnsweringConfig, known: Known, source: Path, changes: Mapping[str, Any]) -> Checkpoint:
    """An `epochN.pkl` of the public code, with the words and answers that the configuration names."""
    model = load_published(source, **_own(config), **changes)
    words = read_words(config.model.vocabulary, (one.text for one in known.train)).words
    for name, given, wanted, setting in (
        ("words", len(words), model.config.words, "model.vocabulary"),
        ("answers", len(known.answers), model.config.answers, "data.answers"),
    ):
        if given != wanted:
            raise ValueError(
                f"{setting} gives {given} {name}, and {source} was trained with {wanted}: name those files"
            )
    _check_width(source, model.config, known)
    return Checkpoint(model, words, tuple(known.answers))


def _cooling(config: AnsweringConfig) -> Any:
    train = config.train

    def at_epoch(network: TrarModel, epoch: int) -> None:
        network.tau = temperature(
            min(epoch, train.max_epochs - 1),
            policy=train.tau_policy,
            epochs=train.max_epochs,
            warmup_epochs=train.warmup_epochs,
            tau_max=network.config.tau_max,
            tau_min=network.config.tau_min,
        )

    return at_epoch


NETWORK = Trar()
