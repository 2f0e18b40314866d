"""LXMERT, and CATT as an option of it, as a network that is pre-trained."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BertTokenizer

from conf.pretraining import PretrainingConfig
from data.features import JoinedStores
from data.features.regions import LABELS
from data.questions import AnswerVocabulary, Question
from models.lxmert import LxmertForPretraining
from models.lxmert.answers import check_answers, clean_label, read_answers
from models.lxmert.checkpoints import load_model
from models.lxmert.idle import freeze_idle
from models.lxmert.saving import ANSWERS_FILE, write_model
from models.wordpiece import check_vocabulary, load_wordpiece
from preprocessors.masking import NO_LABEL, SeededDraws, choose_answer, swap_sentence
from preprocessors.pretraining import BOX_LABELS, MaskedReader, Pictures
from preprocessors.questions import RegionReader, shown
from tasks.answering.lxmert import new_model, watched_of
from tasks.answering.models import Known
from tasks.answering.records import Records
from tasks.answering.starting import dropout_of, words_of
from tasks.pretraining.models import Guess, Phase, Pretrainer
from trainers.pretraining_losses import Labels, Part, pretraining_parts

#: Loss -> the head behind it, as `models.lxmert.idle` names them.
_HEADS = {"objects": "obj", "attributes": "attr", "features": "feat"}
_ARGUMENTS = ("input_ids", "attention_mask", "visual_feats", "visual_pos", "visual_attention_mask")


class Lxmert:
    """See `tasks.pretraining.models.Network`."""

    def build(self, config: PretrainingConfig, known: Known, last: Path | None) -> Pretrainer:
        losses = _losses(config, known)
        if last is not None:
            model, tokenizer, answers = _opened(last, dropout_of(config))
        else:
            model, tokenizer = new_model(config, known, LxmertForPretraining)
            answers = known.answers
        freeze_idle(model, heads=tuple(_HEADS.get(name, name) for name in losses))
        return pretrainer(config, model, tokenizer, answers, losses)

    def open(self, config: PretrainingConfig, source: Path, known: Known) -> Pretrainer:
        losses = _losses(config, known)
        if source.is_dir() and (source / ANSWERS_FILE).is_file():
            return pretrainer(config, *_opened(source, {}), losses)
        model = load_model(source, "pretraining", overrides=config.model.config)
        tokenizer = words_of(config, known, source, None)
        check_vocabulary(tokenizer, model.config.vocab_size)
        check_answers(list(known.answers), model.config.num_qa_labels)
        return pretrainer(config, model, tokenizer, known.answers, losses)


def pretrainer(
    config: PretrainingConfig, model: Any, tokenizer: BertTokenizer, answers: AnswerVocabulary, losses: Sequence[str]
) -> Pretrainer:
    """A model with what makes its examples and losses."""
    train, lxmert = config.train, model.config
    reader = MaskedReader(
        RegionReader(tokenizer, config.model.max_words, images=1, width=lxmert.visual_feat_dim),
        word_rate=train.word_mask_rate,
        box_rate=train.box_mask_rate,
        classes={"objects": lxmert.num_object_labels, "attributes": lxmert.num_attr_labels},
    )

    def examples(records: Records, seed: int, hidden: bool) -> MaskedSentences:
        return MaskedSentences(records, reader, answers, seed, hidden)

    def collate(items: list[Any]) -> dict[str, Any]:
        batch = reader.collate(items, pass_mask=train.visual_mask == "passed")
        batch |= {"rows": [item["row"] for item in items], "losses": items[0]["losses"]}
        return batch | {"counts": {name: _count(name, batch) for name in losses}}

    def parts(network: Any, batch: Mapping[str, Any]) -> dict[str, Part]:
        inputs = {name: batch[name] for name in _ARGUMENTS}
        return pretraining_parts(network, inputs, _labels(batch, losses), box_losses=train.box_losses)

    def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
        write_model(folder, model, tokenizer, answers=list(answers), weights=weights)

    guess = _guesser(tokenizer, answers)
    return Pretrainer(model, tuple(losses), examples, collate, parts, guess, write, watched=watched_of(model))


class MaskedSentences:
    """See `tasks.pretraining.models.Examples`.

    Args:
        hidden: show pictures without their numbers and boxes, to see what sentences alone tell.
    """

    def __init__(
        self, records: Records, reader: MaskedReader, answers: AnswerVocabulary, seed: int, hidden: bool
    ) -> None:
        self.records = records
        self.reader = reader
        self.answers = answers
        self.seed = seed
        self.hidden = hidden
        self._ids = {answer: row for row, answer in enumerate(answers)}
        numbers: dict[str, int] = {}
        # numbers and not names: there may be millions of sentences
        self._image = np.fromiter((numbers.setdefault(one.images[0], len(numbers)) for one in records), np.int32)

    def __len__(self) -> int:
        return len(self.records)

    def __call__(self, row: int, epoch: int, phase: Phase) -> dict[str, Any]:
        draws, question = SeededDraws(self.seed, epoch, row), self.records.questions[row]
        said = row
        if "matched" in phase.losses:
            said = swap_sentence(row, self._image, draws)  # type: ignore[arg-type]
        text = self.records.questions[said].text
        try:
            images = self.records.regions(question)
            text, images = shown(text, images, "question" if self.hidden else "both")
            others = Pictures(len(self), self._features)
            item = self.reader(text, images[0], others, draws, conditional=phase.masking == "one")
        except ValueError as error:
            raise ValueError(f"sentence {question.question_id}: {error}") from None
        answer = choose_answer(self._label(question), said == row, draws)
        return item | {"row": row, "matched": said == row, "answer": answer, "losses": phase.losses}

    def _features(self, row: int) -> np.ndarray:
        regions = self.records.regions(self.records.questions[row])[0]
        return np.asarray(regions.features, dtype=np.float32)

    def _label(self, question: Question) -> dict[int, float]:
        """The scores of a question's answers: by name, and as LXMERT's joint list writes them."""
        labels = question.labels if question.labels is not None else dict.fromkeys(question.references[:1], 1.0)
        rows, scores = self.answers.targets(question)
        return clean_label(labels, self._ids) | dict(zip(rows.tolist(), scores.tolist(), strict=True))


# --- losses ----------------------------------------------------------------------------------------------------------


def _losses(config: PretrainingConfig, known: Known) -> list[str]:
    """The losses of all phases that the data have labels for. ValueError where there is none."""
    if known.images > 1:
        pair = next(one for one in known.train if len(one.images) > 1)
        raise ValueError(f"{pair.question_id} is about two pictures: LXMERT's pre-training takes one a sentence")
    features, train = known.train.features, config.train
    stores = features.stores if isinstance(features, JoinedStores) else [features]
    there = set.intersection(*(set(store.info.arrays) for store in stores)) & set(LABELS)
    lacking = {name for name in ("objects", "attributes") if BOX_LABELS[name] not in there}
    if train.box_losses == "published":
        conf = {"objects": "objects_conf", "attributes": "attrs_conf"}
        lacking |= {name for name, column in conf.items() if column not in there}
    if not any(one.answer or one.labels for one in known.train):
        lacking.add("answers")
    losses = [name for name in train.all_losses() if name not in lacking]
    if not losses:
        raise ValueError(f"train.losses = {train.losses}: the data have no labels for any of them: name others")
    return losses


def _labels(batch: Mapping[str, Any], losses: Sequence[str]) -> Labels:
    names = set(losses)
    given: dict[str, Any] = {name: batch[name] for name in ("words", "matched", "answers") if name in names}
    if names & set(_HEADS):
        given["masked"] = batch["masked"].float()
    for name, confidence in (("objects", "object_confidence"), ("attributes", "attribute_confidence")):
        if name in names:
            given |= {name: batch[name], confidence: batch.get(confidence)}
    if "features" in names:
        given["features"] = batch["whole"]
    return Labels(**given)


def _count(name: str, batch: Mapping[str, Any]) -> int:
    """What a loss is a mean over, as `pretraining_parts` counts it."""
    return batch["masked"].numel() if name in _HEADS else int(batch[name].ne(NO_LABEL).sum())


# --- what it says ----------------------------------------------------------------------------------------------------


def _guesser(tokenizer: BertTokenizer, answers: AnswerVocabulary) -> Callable[[Any, Mapping[str, Any]], list[Guess]]:
    def guess(network: Any, batch: Mapping[str, Any]) -> list[Guess]:
        places = batch["words"].ne(NO_LABEL)
        nowhere = torch.zeros_like(batch["masked"])
        found = network(**{name: batch[name] for name in _ARGUMENTS}, word_places=places, box_places=nowhere)
        pieces = iter(
            zip(
                tokenizer.convert_ids_to_tokens(batch["words"][places].tolist()),
                tokenizer.convert_ids_to_tokens(found.words.argmax(-1).tolist()),
                strict=True,
            )
        )
        shares = found.matched.float().softmax(1)[:, 1].tolist()
        best = found.answers.argmax(1).tolist() if found.answers is not None else [NO_LABEL] * len(shares)
        guesses = []
        for place, row in enumerate(batch["rows"]):
            ids = batch["input_ids"][place][batch["attention_mask"][place].bool()][1:-1]
            answer = int(batch["answers"][place])
            guesses.append(
                Guess(
                    row,
                    str(tokenizer.decode(ids.tolist())),
                    tuple(next(pieces) for _ in range(int(places[place].sum()))),
                    (bool(batch["matched"][place]), shares[place]) if "matched" in batch["losses"] else None,
                    (answers[answer], answers[best[place]]) if answer != NO_LABEL else None,
                )
            )
        return guesses

    return guess


def _opened(folder: Path, overrides: Mapping[str, Any]) -> tuple[Any, BertTokenizer, AnswerVocabulary]:
    model = load_model(folder, "pretraining", overrides=overrides)
    tokenizer = load_wordpiece(folder)
    check_vocabulary(tokenizer, model.config.vocab_size)
    names = read_answers(folder / ANSWERS_FILE)
    check_answers(names, model.config.num_qa_labels)
    return model, tokenizer, AnswerVocabulary(names, "none", str(folder))


NETWORK = Lxmert()
