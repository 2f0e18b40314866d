"""VisualBERT as a network that answers: VQA's are read at a mask, NLVR2's and VCR's choices at the first word."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertTokenizer

from conf.answering import AnsweringConfig
from data.features import Regions
from data.questions import AnswerVocabulary, Question
from models.lxmert.answers import check_answers
from models.lxmert.starting import bert_fields
from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.bert import load_bert
from models.visualbert.configuration import with_answers
from models.visualbert.conversion import load_model, read_checkpoint, write_files
from models.visualbert.starting import settle_regions, start_from_visualbert
from models.wordpiece import check_vocabulary, load_wordpiece, save_wordpiece
from preprocessors.questions import Sees, shown
from preprocessors.visualbert.choosing import ChoiceReader
from preprocessors.visualbert.questions import UNKNOWN
from preprocessors.visualbert.reader import BOX_NUMBERS, AnswerReader
from tasks.answering.models import Answerer, Known, Settings
from tasks.answering.saving import write_configuration
from tasks.answering.starting import (
    CHOICE_ANSWERS,
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


class VisualBERT:
    """See `tasks.answering.models.Network`."""

    def build(self, config: AnsweringConfig, known: Known, last: Path | None) -> Answerer:
        if last is not None:
            found = self.open(last, dropout_of(config))
            _freeze(found.model, config)
            return found
        checkpoint, start = source_of(config.model), start_of(config.model)
        tokenizer = words_of(config, known, checkpoint, start)
        check_fields(config.model.config, vars(VisualBERTConfig()), "VisualBERT")
        fields = {**config.model.config, **dropout_of(config), **_head(known)}
        visualbert = _new_config(_base(checkpoint, start, fields, known, len(tokenizer)) | fields)
        if checkpoint is not None:
            check_width(checkpoint, _feature_width(visualbert), known)
        check_vocabulary(tokenizer, visualbert.vocab_size)
        check_positions(visualbert.max_position_embeddings, config.model.max_words)
        model = VisualBERTModel(visualbert)
        found = answerer(model, tokenizer, known.answers, Settings.of(config, known))
        if checkpoint is not None:
            answers = list(known.answers) if visualbert.head == "vqa" else None
            start_from_visualbert(model, checkpoint, answers=answers, source_answers=given_answers(config))
        elif start is not None:
            load_bert(model, start)
        if checkpoint is None and config.model.centred:
            reader: Any = found.reader
            regions = (torch.tensor(reader.regions(one)) for one in some_regions(known))
            settle_regions(model, regions, box_numbers=BOX_NUMBERS if visualbert.with_boxes else 0)
        _freeze(model, config)
        return found

    def open(self, folder: Path, overrides: Mapping[str, Any] | None = None) -> Answerer:
        settings = Settings.read(folder)
        model = load_model(folder, **(overrides or {}))
        tokenizer = load_wordpiece(folder)
        check_vocabulary(tokenizer, model.config.vocab_size)
        fixed = {"nlvr2": PAIR_ANSWERS, "vcr": CHOICE_ANSWERS}
        names = fixed.get(model.config.head, model.config.answers or ())
        check_answers(names, _outputs(model.config))
        return answerer(model, tokenizer, AnswerVocabulary(names, settings.normalise, str(folder)), settings)

    def open_foreign(self, config: AnsweringConfig, source: Path, known: Known) -> Answerer:
        check_fields(config.model.config, vars(VisualBERTConfig()), "VisualBERT")
        model = load_model(source, **config.model.config)
        wanted = _head(known)["head"]
        if model.config.head != wanted:
            asked = "questions with choices" if known.choices else f"questions of {known.images} pictures"
            raise ValueError(
                f"{source} has the head {model.config.head!r}, and {asked} need {wanted!r}: train it with "
                "model.checkpoint first"
            )
        tokenizer = words_of(config, known, source, None)
        check_vocabulary(tokenizer, model.config.vocab_size)
        check_answers(list(known.answers), _outputs(model.config))
        check_width(source, _feature_width(model.config), known)
        return answerer(model, tokenizer, known.answers, Settings.of(config, known))


def answerer(
    model: VisualBERTModel, tokenizer: BertTokenizer, answers: AnswerVocabulary, settings: Settings
) -> Answerer:
    """A model with its reader, its answers and what writes it. `<unk>` is learnt like an answer, and never given."""
    config = model.config
    seen: dict[str, Any] = {"width": settings.width, "max_regions": config.max_regions, "with_boxes": config.with_boxes}
    reader: AnswerReader | ChoiceReader
    if config.head == "vcr":
        reader = ChoiceReader(tokenizer, settings.max_words, **seen)
    else:
        reader = AnswerReader(tokenizer, settings.max_words, images=settings.images, **seen)
    unknown = list(answers).index(UNKNOWN) if UNKNOWN in list(answers) else None
    if config.head == "vqa":
        model.config = with_answers(config, list(answers))

    def logits(network: Any, batch: Mapping[str, Any]) -> Tensor:
        found: Tensor = network(**{name: batch[name] for name in _ARGUMENTS if name in batch}).logits
        if unknown is not None and not network.training:
            found[:, unknown] = -torch.inf
        return found

    def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
        write_files(folder, weights, model.config)
        save_wordpiece(tokenizer, folder)
        settings.save(folder)
        write_configuration(folder)

    item = _choosing(reader) if isinstance(reader, ChoiceReader) else None
    return Answerer(model, reader, answers, settings, logits, write, item=item)


_ARGUMENTS = ("input_ids", "text_mask", "segment_ids", "features", "box_mask", "box_types", "alignment")


def _choosing(reader: ChoiceReader) -> Any:
    """See `Answerer.item`. Hidden words are those of the question; the choices stay."""

    def item(question: Question, images: Sequence[Regions], sees: Sees) -> dict[str, Any]:
        _, [picture] = shown("", images, sees)
        return reader.choose(question.extra, picture, asked=sees != "image")

    return item


def _head(known: Known) -> dict[str, Any]:
    """The head for questions of one picture, of two, or with choices of their own."""
    if known.choices:
        return {"head": "vcr"}
    return {"head": "vqa" if known.images == 1 else "nlvr2", "num_labels": len(known.answers)}


def _outputs(config: VisualBERTConfig) -> int:
    """Logits of a question."""
    return len(CHOICE_ANSWERS) if config.head == "vcr" else config.num_labels or 0


def _base(
    checkpoint: Path | None, start: Path | None, fields: Mapping[str, Any], known: Known, words: int
) -> dict[str, Any]:
    """What the configuration does not settle: a checkpoint's values, or those of a new model."""
    if checkpoint is not None:
        sizes = {name: value for name, value in fields.items() if name == "num_attention_heads"}
        own = read_checkpoint(checkpoint, **sizes)[1].to_dict()
        return {name: value for name, value in own.items() if name not in ("id2label", "label2id", "architectures")}
    width = known.train.features.info.width + (BOX_NUMBERS if fields.get("with_boxes") else 0)
    return {"vocab_size": words, "visual_embedding_dim": width} | (bert_fields(bert_config(start)) if start else {})


def _new_config(fields: Mapping[str, Any]) -> VisualBERTConfig:
    try:
        return VisualBERTConfig(**fields)
    except Exception as error:  # the validators of huggingface_hub have exception classes of their own
        raise ValueError(f"model.config: {error}") from error


def _feature_width(config: VisualBERTConfig) -> int:
    return config.visual_embedding_dim - (BOX_NUMBERS if config.with_boxes else 0)


def _freeze(model: VisualBERTModel, config: AnsweringConfig) -> None:
    """The pooler, which head "vqa" does not read, and which the original never trains."""
    trained = model.config.head != "vqa" and config.train.train_pooler
    model.visual_bert.pooler.requires_grad_(trained)


NETWORK = VisualBERT()
