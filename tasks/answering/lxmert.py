"""LXMERT, and CATT as an option of it, as a network that answers."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertTokenizer

from conf.answering import AnsweringConfig
from conf.pretraining import PretrainingConfig
from data.questions import AnswerVocabulary
from models.lxmert import LxmertConfig, LxmertForAnswers, LxmertForPairs
from models.lxmert.answers import check_answers, read_answers
from models.lxmert.checkpoints import config_for, load_model
from models.lxmert.dictionaries import cluster_dictionaries, watched_dictionaries
from models.lxmert.idle import freeze_idle
from models.lxmert.modeling import LxmertBase
from models.lxmert.saving import ANSWERS_FILE, write_model
from models.lxmert.starting import bert_fields, centre_regions, start_from_bert, start_from_lxmert
from models.wordpiece import check_vocabulary, load_wordpiece
from preprocessors.questions import RegionReader
from tasks.answering.models import Answerer, Known, Settings
from tasks.answering.saving import write_configuration
from tasks.answering.starting import (
    PAIR_ANSWERS,
    bert_config,
    check_fields,
    check_positions,
    check_width,
    dropout_of,
    given_answers,
    some_regions,
    source_of,
    start_of,
    words_of,
)
from trainers.dictionaries import WatchedDictionaries
from trainers.objective import Objective

LOGGER = logging.getLogger("stylecap")


class Lxmert:
    """See `tasks.answering.models.Network`."""

    def build(self, config: AnsweringConfig, known: Known, last: Path | None) -> Answerer:
        if last is not None:
            found = self.open(last, dropout_of(config))
            freeze_idle(found.model)
            return found
        model, tokenizer = new_model(config, known, LxmertForPairs if known.images > 1 else LxmertForAnswers)
        freeze_idle(model)
        return answerer(model, tokenizer, known.answers, Settings.of(config, known))

    def open(self, folder: Path, overrides: Mapping[str, Any] | None = None) -> Answerer:
        settings = Settings.read(folder)
        model = load_model(folder, "pairs" if settings.images > 1 else "answers", overrides=overrides)
        tokenizer = load_wordpiece(folder)
        check_vocabulary(tokenizer, model.config.vocab_size)
        names = PAIR_ANSWERS if settings.images > 1 else read_answers(folder / ANSWERS_FILE)
        if settings.images == 1:
            check_answers(names, model.config.num_qa_labels)
        return answerer(model, tokenizer, AnswerVocabulary(names, settings.normalise, str(folder)), settings)

    def open_foreign(self, config: AnsweringConfig, source: Path, known: Known) -> Answerer:
        model = load_model(source, "pairs" if known.images > 1 else "answers", overrides=config.model.config)
        tokenizer = words_of(config, known, source, None)
        check_vocabulary(tokenizer, model.config.vocab_size)
        if known.images == 1:
            check_answers(list(known.answers), model.config.num_qa_labels)
        check_width(source, model.config.visual_feat_dim, known)
        return answerer(model, tokenizer, known.answers, Settings.of(config, known))


def new_model(
    config: AnsweringConfig | PretrainingConfig, known: Known, cls: type[LxmertBase]
) -> tuple[LxmertBase, BertTokenizer]:
    """A model of class `cls` as its training begins: from the configuration's checkpoint, a BERT, or nothing."""
    checkpoint, start = source_of(config.model), start_of(config.model)
    tokenizer = words_of(config, known, checkpoint, start)
    fields = _fields(config, known, len(tokenizer))
    if checkpoint is not None:
        lxmert = _config_of_checkpoint(checkpoint, fields, known)
        check_vocabulary(tokenizer, lxmert.vocab_size)
    else:
        lxmert = _new_config((bert_fields(bert_config(start)) if start else {}) | fields)
    check_positions(lxmert.max_position_embeddings, config.model.max_words)
    model = cls(lxmert)
    if checkpoint is not None:
        answers = None if known.images > 1 else list(known.answers)
        start_from_lxmert(model, checkpoint, answers=answers, source_answers=_head_answers(config, checkpoint))
    elif start is not None:
        start_from_bert(model, start)
    if checkpoint is None and config.model.centred:
        centre_regions(model, _regions(known))
    if config.model.dictionaries == "kmeans":
        _cluster(model, tokenizer, known, config.seed)
    return model, tokenizer


def answerer(model: LxmertBase, tokenizer: BertTokenizer, answers: AnswerVocabulary, settings: Settings) -> Answerer:
    """A model with its reader, its answers and what writes it."""
    reader = RegionReader(tokenizer, settings.max_words, images=settings.images, width=settings.width)

    def logits(network: Any, batch: Mapping[str, Any]) -> Tensor:
        found: Tensor = network(**{name: batch[name] for name in _ARGUMENTS})
        return found

    def noted(network: Any, batch: Mapping[str, Any]) -> tuple[Tensor, list[dict[str, Any]]]:
        with watched_dictionaries(network) as attended:
            found = logits(network, batch)
        return found, [{"dictionaries": note} for note in attended.notes(len(found))]

    def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
        write_model(folder, model, tokenizer, answers=list(answers), weights=weights)
        settings.save(folder)
        write_configuration(folder)

    notes = noted if model.config.is_causal else None
    return Answerer(model, reader, answers, settings, logits, write, noted=notes, watched=watched_of(model))


def watched_of(model: LxmertBase) -> Callable[[Objective], Objective]:
    """What makes an objective log the entropies of dictionaries, where there are any."""
    return WatchedDictionaries if model.config.is_causal else lambda objective: objective


_ARGUMENTS = ("input_ids", "attention_mask", "visual_feats", "visual_pos", "visual_attention_mask")


# --- what it starts from ---------------------------------------------------------------------------------------------


def _head_answers(config: AnsweringConfig | PretrainingConfig, checkpoint: Path) -> list[str] | None:
    """The answers that a checkpoint's head scores, as far as anything tells."""
    given = given_answers(config)
    if given is not None:
        return given
    own = checkpoint / ANSWERS_FILE
    return read_answers(own) if checkpoint.is_dir() and own.is_file() else None


# --- its configuration -----------------------------------------------------------------------------------------------


def _fields(config: AnsweringConfig | PretrainingConfig, known: Known, words: int) -> dict[str, Any]:
    """What the configuration settles of the network's."""
    model = config.model
    check_fields(model.config, vars(LxmertConfig()), "LXMERT")
    fields = {
        "vocab_size": words,
        **model.config,
        **dropout_of(config),
        "visual_feat_dim": known.train.features.info.width,
    }
    if known.images == 1:
        fields["num_qa_labels"] = len(known.answers)
    if model.causal_attention != "none":
        names = ("causal_attention", "cross_type", "ft_large", "dictionary_words", "dictionary_boxes")
        fields |= {name: getattr(model, name) for name in names}
    return fields


def _new_config(fields: Mapping[str, Any]) -> LxmertConfig:
    try:
        return LxmertConfig(**fields)
    except Exception as error:  # the validators of huggingface_hub have exception classes of their own
        raise ValueError(f"model.config: {error}") from error


def _config_of_checkpoint(source: Path, fields: dict[str, Any], known: Known) -> LxmertConfig:
    kept = {name: value for name, value in fields.items() if name not in ("visual_feat_dim", "vocab_size")}
    lxmert = config_for(source, overrides=kept)
    check_width(source, lxmert.visual_feat_dim, known)
    return lxmert


def _cluster(model: LxmertBase, tokenizer: BertTokenizer, known: Known, seed: int) -> None:
    """Start the dictionaries from the training questions' words and from regions of their pictures."""
    words = [piece for one in known.train for piece in tokenizer.encode(one.text, add_special_tokens=False)]
    cluster_dictionaries(model, _regions(known), torch.tensor(words), seed=seed)


def _regions(known: Known) -> Iterator[tuple[Tensor, Tensor]]:
    """Features and boxes of some training pictures."""
    for one in some_regions(known):
        yield torch.from_numpy(one.features.astype("float32")), torch.from_numpy(one.normalised_boxes())


NETWORK = Lxmert()
