"""Vision-and-language pre-training as a task: what its data, networks, objective, scores and cards are."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from conf.pretraining import PretrainingConfig
from data.questions import Question
from evaluation.bootstrap import Contributions, intervals
from evaluation.judgement import Judgement
from evaluation.table import render_table
from report.card import Card
from tasks.answering.examined import Examined
from tasks.answering.records import Records, checked, identity
from tasks.base import Built, DrawnSet
from tasks.predicting import shard
from tasks.pretraining import trainer as registered_trainer
from tasks.pretraining.asking import Found, ask
from tasks.pretraining.items import PretrainingItems
from tasks.pretraining.models import Guess, Phase, Pretrainer, network_of
from tasks.pretraining.objective import Pretraining
from tasks.pretraining.records import draw, examined, known_of, read_records
from trainers.distributed import World
from trainers.objective import Objective
from trainers.observer import Observer

LOGGER = logging.getLogger("stylecap")
TEXT_ONLY = "text-only"
"""The control that hides the pictures: what a sentence alone tells of its masked words, its picture and its answer."""


class PretrainingTask:
    """The task vision-language-pretraining; see `tasks.base.Task` for what each method is for."""

    trainer = registered_trainer.NAME
    controls: Sequence[str] = (TEXT_ONLY,)

    def splits(self, config: PretrainingConfig) -> list[str]:
        return config.splits()

    def read(self, config: PretrainingConfig, split: str) -> Records:
        return read_records(config, split)

    def check(self, config: Any, records: Records, world: World) -> Records:
        return checked(config, records, world)

    def examine(self, config: PretrainingConfig, records: Records) -> Examined:
        return examined(config, records)

    def identity(self, records: Records) -> dict[str, str]:
        return identity(records)

    def drawn_set(self, config: PretrainingConfig) -> DrawnSet | None:
        if config.data.format != "demo":
            return None
        keys = ("seed", "data.format", "data.demo_images", "data.demo_questions")
        return DrawnSet(draw(config), frozenset(keys))

    # --- training ----------------------------------------------------------------------------------------------------

    def build(self, config: PretrainingConfig, records: Mapping[str, Records], last: Path | None) -> Built:
        known = known_of(config, records["train"])
        return built(network_of(config.model.type).build(config, known, last))

    def items(self, config: PretrainingConfig, built: Built, records: Records, world: World) -> PretrainingItems:
        pretrainer: Pretrainer = built.preprocessor
        examples = pretrainer.examples(records, config.seed, False)
        return PretrainingItems(examples, lambda epoch: phase_of(config, pretrainer, epoch), config.seed)

    def objective(
        self, config: PretrainingConfig, built: Built, records: Records, world: World
    ) -> tuple[Objective, Sequence[Observer]]:
        pretrainer: Pretrainer = built.preprocessor
        return pretrainer.watched(Pretraining(pretrainer.losses, pretrainer.parts)), pretrainer.observers

    def validate(
        self, config: PretrainingConfig, built: Built, records: Mapping[str, Records], world: World
    ) -> Callable[[], dict[str, Any]]:
        val = records["val"]
        # of the whole split, whatever the ranks: sentences are swapped with any other
        rows = shard(range(len(val)), world.rank, world.size)

        def score() -> dict[str, Any]:
            parts = world.gather(_ask(config, built.preprocessor, val, None, False, world.is_main, rows))
            return Found.merged(parts).scores() if world.is_main else {}

        return score

    # --- evaluation --------------------------------------------------------------------------------------------------

    def open(self, config: PretrainingConfig, checkpoint: Path, records: Records | None) -> Built:
        train = read_records(config, "train") if "train" in config.splits() or records is None else records
        opened = built(network_of(config.model.type).open(config, checkpoint, known_of(config, train)))
        opened.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        return opened

    def needs_model(self, control: str | None) -> bool:
        return True

    def predict(self, config: PretrainingConfig, built: Built | None, records: Records, control: str | None) -> Found:
        assert built is not None
        return _ask(config, built.preprocessor, records, control, True, True)

    def judge(self, config: PretrainingConfig, records: Records, predictions: Found, title: str) -> Judgement:
        rows = [row_of(records.questions[one.row], one, records.file_of) for one in predictions.guesses]
        metrics: dict[str, Any] = {**predictions.scores(), "n_sentences": len(rows)}
        draws = config.eval.bootstrap
        metrics["intervals"] = intervals(Contributions.of(rows), draws) if draws else {}
        shares = {name: value for name, value in metrics.items() if isinstance(value, float) and "loss" not in name}
        LOGGER.info("%s: loss %.3f; x 100\n%s", title, metrics["loss"], render_table({"all": shares}))
        return Judgement(metrics, rows)

    def card(self, row: Mapping[str, Any]) -> Card:
        words = ", ".join(f"{there}: {said}" for there, said in row["words"])
        known = [score for score in row["scores"].values() if score is not None]
        return Card(
            image=row.get("image"),
            heading=row["shown"],
            text=words or row.get("answer") or "no word is masked",
            references=[row["question"]],
            note="" if row["matched"] is None else f"belongs to the picture: {100 * row['matched'][1]:.0f}%",
            score=100 * sum(known) / len(known) if known else None,
        )


def built(pretrainer: Pretrainer) -> Built:
    return Built(pretrainer.model, pretrainer, pretrainer.write, pretrainer.collate)


def phase_of(config: PretrainingConfig, pretrainer: Pretrainer, epoch: int) -> Phase:
    """The phase of an epoch, from 0, without losses that the data have no labels for."""
    said = config.train.phase_at(epoch)
    return Phase(tuple(name for name in pretrainer.losses if name in said["losses"]), said["masking"])


def row_of(question: Question, guess: Guess, file_of: Callable[[str], str | None]) -> dict[str, Any]:
    """A row of `predictions.json`; its scores are those of the words, of the match and of the answer."""
    words = [float(there == said) for there, said in guess.words]
    scores: dict[str, float | None] = {"words of a sentence": sum(words) / len(words) if words else None}
    if guess.matched is not None:
        scores["matched"] = float(guess.matched[0] == (guess.matched[1] > 0.5))
    scores["answers"] = float(guess.answer[0] == guess.answer[1]) if guess.answer is not None else None
    return {
        "image_id": " ".join(question.images),
        "question_id": question.question_id,
        "image": file_of(question.images[0]),
        "question": question.text,
        "shown": guess.shown,
        "words": [list(pair) for pair in guess.words],
        "matched": None if guess.matched is None else [guess.matched[0], round(guess.matched[1], 4)],
        "answer": guess.answer[1] if guess.answer is not None else "",
        "references": list(question.references),
        "scores": scores,
    }


def _ask(
    config: PretrainingConfig,
    pretrainer: Pretrainer,
    records: Records,
    control: str | None,
    guesses: bool,
    bar: bool,
    rows: Sequence[int] | None = None,
) -> Found:
    """A split, or some rows of it, as the last phase has it."""
    phase = phase_of(config, pretrainer, config.train.max_epochs - 1)
    examples = pretrainer.examples(records, config.seed, control == TEXT_ONLY)
    dtype = config.train.dtype
    items = PretrainingItems(examples, lambda epoch: phase)
    return ask(
        pretrainer,
        Subset(items, range(len(items)) if rows is None else rows),  # type: ignore[arg-type]
        batch_size=config.eval.batch_size,
        guesses=guesses,
        dtype="float32" if dtype == "float16" and not torch.cuda.is_available() else dtype,
        num_workers=config.data.num_workers,
        progress=bar,
    )


TASK = PretrainingTask()
