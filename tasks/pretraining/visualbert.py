"""VisualBERT as a network that is pre-trained: words masked beside all regions, and whether a second caption belongs.

A caption stands before another one, of the same picture or of a different one, which is the loss `matched`; a question
stands before one of its answers, and only its words are asked. Of a sentence about two pictures `matched` is whether it
is true, of a question of VCR before one of its choices whether that is the right one.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertTokenizer

from conf.pretraining import PretrainingConfig
from data.features import Regions
from data.questions import Question
from models.lxmert.starting import bert_fields
from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.bert import load_bert
from models.visualbert.conversion import load_model, read_checkpoint, write_files
from models.visualbert.starting import settle_regions, start_from_visualbert
from models.wordpiece import check_vocabulary, load_wordpiece, save_wordpiece
from preprocessors.questions import shown
from preprocessors.visualbert.captions import CaptionPairs
from preprocessors.visualbert.draws import Draws, item_draws
from preprocessors.visualbert.pretraining import PretrainingReader
from preprocessors.visualbert.reader import BOX_NUMBERS, read_regions
from tasks.answering.models import Known
from tasks.answering.records import Records
from tasks.answering.starting import (
    bert_config,
    check_fields,
    check_positions,
    check_width,
    dropout_of,
    some_regions,
    source_of,
    start_of,
    words_of,
)
from tasks.pretraining.models import Examples, Guess, Phase, Pretrainer
from trainers.pretraining_losses import Part, class_part

LOSSES = ("words", "matched")
_TEXTS = ("input_ids", "text_mask", "segment_ids", "word_labels")
_ARGUMENTS = (*_TEXTS, "features", "box_mask", "box_types", "alignment")


class VisualBERT:
    """See `tasks.pretraining.models.Network`."""

    def build(self, config: PretrainingConfig, known: Known, last: Path | None) -> Pretrainer:
        if last is not None:
            return pretrainer(config, load_model(last, **dropout_of(config)), load_wordpiece(last), known)
        checkpoint, start = source_of(config.model), start_of(config.model)
        tokenizer = words_of(config, known, checkpoint, start)
        visualbert = _config(config, known, checkpoint, start, len(tokenizer))
        check_vocabulary(tokenizer, visualbert.vocab_size)
        check_positions(visualbert.max_position_embeddings, config.model.max_words)
        model = VisualBERTModel(visualbert)
        if checkpoint is not None:
            start_from_visualbert(model, checkpoint)
        elif start is not None:
            load_bert(model, start)
        if checkpoint is None and config.model.centred:
            boxes = BOX_NUMBERS if visualbert.with_boxes else 0
            width = visualbert.visual_embedding_dim - boxes
            found = (
                torch.tensor(read_regions(one, width=width, with_boxes=visualbert.with_boxes))
                for one in some_regions(known)
            )
            settle_regions(model, found, box_numbers=boxes)
        return pretrainer(config, model, tokenizer, known)

    def open(self, config: PretrainingConfig, source: Path, known: Known) -> Pretrainer:
        model = load_model(source, **(config.model.config if source.is_file() else {}))
        if model.config.head != "pretraining":
            raise ValueError(f"{source} has the head {model.config.head!r}: name a checkpoint of pre-training")
        return pretrainer(config, model, words_of(config, known, source, None), known)


def pretrainer(config: PretrainingConfig, model: VisualBERTModel, tokenizer: BertTokenizer, known: Known) -> Pretrainer:
    """A model with its examples, its losses and what writes it."""
    width = model.config.visual_embedding_dim - (BOX_NUMBERS if model.config.with_boxes else 0)
    check_width(Path(config.model.checkpoint or "the model"), width, known)
    reader = PretrainingReader(
        tokenizer,
        config.model.max_words,
        width=width,
        max_regions=model.config.max_regions,
        with_boxes=model.config.with_boxes,
    )

    def parts(network: Any, batch: Mapping[str, Any]) -> dict[str, Part]:
        found = network(**_arguments(batch))
        both = {
            "words": class_part(found.word_logits, found.word_labels),
            "matched": class_part(found.logits, batch["labels"]),
        }
        return {name: both[name] for name in losses}

    def guess(network: Any, batch: Mapping[str, Any]) -> list[Guess]:
        return _guesses(network, batch, tokenizer)

    def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
        write_files(folder, weights, model.config)
        save_wordpiece(tokenizer, folder)

    losses = tuple(name for name in config.train.all_losses() if name in LOSSES)
    if not losses:
        raise ValueError(f"train.losses has none of VisualBERT's: {', '.join(LOSSES)}")

    if "matched" not in losses:
        model.cls.seq_relationship.requires_grad_(False)
    model.visual_bert.pooler.requires_grad_("matched" in losses and config.train.train_pooler)

    def examples(records: Records, seed: int, hidden: bool) -> Examples:
        once = config.train.caption_pairs == "once"
        return VisualBERTExamples(records, reader, seed, hidden, pairs_once=once)

    return Pretrainer(model, losses, examples, collator(reader), parts, guess, write)


class VisualBERTExamples:
    """Masked examples of a split: captions in pairs, questions with an answer; see `tasks.pretraining.models`.

    Args:
        pairs_once: captions have the same second ones in all epochs.
    """

    def __init__(
        self, records: Records, reader: PretrainingReader, seed: int, hidden: bool, *, pairs_once: bool = False
    ) -> None:
        self.records = records
        self.reader = reader
        self.seed = seed
        self.hidden = hidden
        self.pairs_once = pairs_once
        captions = [row for row, one in enumerate(records) if _is_caption(one)]
        self._place = {row: place for place, row in enumerate(captions)}
        self._captions = captions
        images = [records.questions[row].images[0] for row in captions]
        self._pairs = CaptionPairs(images) if len(set(images)) > 1 else None

    def __len__(self) -> int:
        return len(self.records)

    def __call__(self, row: int, epoch: int, phase: Phase) -> dict[str, Any]:
        question = self.records.questions[row]
        draws = item_draws(self.seed, epoch, row)
        _, pictures = shown("", self.records.regions(question), "question" if self.hidden else "both")
        try:
            item = self._item(row, epoch, question, pictures, draws)
        except ValueError as error:
            raise ValueError(f"sentence {question.question_id}: {error}") from None
        return item | {"row": row, "losses": phase.losses}

    def _item(
        self, row: int, epoch: int, question: Question, pictures: Sequence[Regions], draws: Draws
    ) -> dict[str, Any]:
        picture = pictures[0]
        if "used" in question.extra:
            return self.reader.choice(question.extra, picture=picture, draws=draws)
        if len(pictures) > 1:
            true = {"true": True, "false": False}.get(question.answer.lower())
            return self.reader.sentence(question.text, true=true, pair=pictures, draws=draws)
        if question.references:
            answers = question.extra.get("valid_answers", question.references)  # imdb: those in the list of answers
            answer = random.Random(f"answer {self.seed} {epoch} {row}").choice(answers)
            return self.reader.question(question.text, answer, picture=picture, draws=draws)
        if self._pairs is None:
            raise ValueError(f"split {self.records.name}: captions of one picture alone: pairs need those of two")
        drawing = random.Random(f"pair {self.seed} {row}") if self.pairs_once else draws
        place, same = self._pairs.draw(self._place[row], drawing)
        second = self.records.questions[self._captions[place]].text
        return self.reader.captions(question.text, second, same=same, picture=picture, draws=draws)


def _is_caption(question: Question) -> bool:
    return not question.references and len(question.images) == 1 and "used" not in question.extra


def _arguments(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: batch[name] for name in _ARGUMENTS if name in batch}


def collator(reader: PretrainingReader) -> Any:
    """See `Pretrainer.collate`."""

    def collate(items: list[Any]) -> dict[str, Any]:
        batch = reader.collate(items)
        counts = {"words": int((batch["word_labels"] >= 0).sum()), "matched": int((batch["labels"] >= 0).sum())}
        losses = [name for name in LOSSES if name in items[0]["losses"]]
        return batch | {"counts": counts, "rows": [item["row"] for item in items], "losses": losses}

    return collate


def _guesses(network: Any, batch: Mapping[str, Any], tokenizer: BertTokenizer) -> list[Guess]:
    found = network(**_arguments(batch))
    best = iter(found.word_logits.argmax(1).tolist())
    shares = found.logits.float().softmax(1)[:, 1].tolist()
    names: Any = tokenizer.convert_ids_to_tokens
    guesses = []
    for number, row in enumerate(batch["rows"]):
        asked = [label for label in batch["word_labels"][number].tolist() if label >= 0]
        pieces = batch["input_ids"][number][batch["text_mask"][number].bool()].tolist()
        label = int(batch["labels"][number])
        words = tuple((names(one), names(next(best))) for one in asked)
        matched = (bool(label), shares[number]) if label >= 0 else None
        guesses.append(Guess(row, tokenizer.convert_tokens_to_string(names(pieces)), words, matched))
    return guesses


def _config(
    config: PretrainingConfig, known: Known, checkpoint: Path | None, start: Path | None, words: int
) -> VisualBERTConfig:
    given = config.model.config
    check_fields(given, vars(VisualBERTConfig()), "VisualBERT")
    fields = {**given, **dropout_of(config), "head": "pretraining"}
    if checkpoint is not None:
        own = read_checkpoint(checkpoint)[1].to_dict()
        base = {name: value for name, value in own.items() if name not in ("id2label", "label2id", "architectures")}
    else:
        width = known.train.features.info.width + (BOX_NUMBERS if given.get("with_boxes") else 0)
        base = {"vocab_size": words, "visual_embedding_dim": width}
        base |= bert_fields(bert_config(start)) if start else {}
    try:
        return VisualBERTConfig(**(base | fields))
    except Exception as error:  # the validators of huggingface_hub have exception classes of their own
        raise ValueError(f"model.config: {error}") from error


NETWORK = VisualBERT()
