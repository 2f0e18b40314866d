"""Models that start from the weights of other models: LXMERT's of any kind, CATT's, or BERT's."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.lxmert.answers import check_answers, matching_rows, moved_rows
from models.lxmert.checkpoints import HEADS, check_fit, for_model, read_weights
from models.lxmert.dictionaries import backbone
from models.lxmert.modeling import LxmertBase, LxmertForAnswers, LxmertForPretraining, LxmertModel
from models.ofa.checkpoints import read_tensors
from models.ofa.conversion import first_names

LOGGER = logging.getLogger("stylecap")
_LAST, _DECODER = "answer_head.logit_fc.3.", "cls.predictions.decoder.weight"
#: What CATT adds: the branches that are copies of LXMERT's layers, and the rest.
_BRANCH = re.compile(r"\.(FT(?=attention|intermediate|output)|M_)")
_CAUSAL = re.compile(r"encoder\.(?:MV|ML|fc_visn\.\w+|fc_lang\.\w+)$")
_BERT_FIELDS = ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")


@dataclass
class Start:
    """What became of each weight of a model, and of each of the source's.

    Attributes:
        loaded: names of the model that the source had.
        copied: name -> the name of the model that it was copied from: branches of CATT.
        fresh: names that keep the values that the model was built with.
        unused: names of the source that the model does not have.
        answers: answers whose row of the head was moved, and those that start at 0.
    """

    loaded: list[str] = field(default_factory=list)
    copied: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    answers: tuple[list[str], list[str]] | None = None

    def log(self, source: str | Path) -> None:
        LOGGER.info("%s: %d weights loaded, %d copied", source, len(self.loaded), len(self.copied))
        for what, names in (("not in the file, left as built", self.fresh), ("of the file not used", self.unused)):
            if names:
                LOGGER.info("%s: %d %s: %s", source, len(names), what, first_names(names))
        if self.answers is not None:
            moved, new = self.answers
            LOGGER.info("%s: the head knows %d of the answers, %d start at 0", source, len(moved), len(new))


def start_from_lxmert(
    model: LxmertBase,
    source: str | Path,
    *,
    answers: Sequence[str] | None = None,
    source_answers: Sequence[str] | None = None,
) -> Start:
    """Start a model from LXMERT or CATT weights of any kind. LXMERT's start CATT, too: it then begins as LXMERT.

    Args:
        answers: the list that the model's head scores.
        source_answers: the list that the source's head scores. With both, rows are moved by normalised answer, and an
            answer that is new starts at 0. With neither, a head of the same size is taken as it is. With one alone the
            last layer is left as built: nothing tells what its rows mean.

    Raises:
        ValueError: the source lacks weights of the encoder, or they are of another shape; or an answer list does not
            fit its head. The model is not changed then.
    """
    read = read_weights(source)
    given = for_model(model, read)
    own = dict(model.state_dict())
    prefix = "lxmert." if isinstance(model, LxmertModel) else ""
    result = Start(unused=[name for name in read if name.removeprefix(prefix) not in given])
    added = () if _has_dictionaries(given) else tuple(name for name in own if _is_added(name))
    try:
        given |= _head(model, given, answers, source_answers, result)
        check_fit(model, given, may_lack=(*added, *HEADS))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
        if added:
            result.copied = _copy_branches(own)
            _join_as_lxmert(own)
    result.loaded = list(given)
    # the output layer for words is one with their embeddings, which the source has
    accounted = {*given, *result.copied, _DECODER}
    result.fresh = [name for name in own if name not in accounted]
    result.log(source)
    return result


def start_from_bert(model: LxmertBase, source: str | Path) -> Start:
    """Start embeddings, language layers, pooler and heads of words from a BERT, with CATT's language branches.

    Layers that the model does not have are left out. The published CATT lost 18 tensors of its three language layers in
    "ft_same" and the whole branch in "ft".

    Args:
        source: a directory or file of weights, with `bert.` before names or without; MiniLM and its like will do.

    Raises:
        ValueError: it is no BERT's, has fewer layers than the model, or is of another size; nothing is changed then.
    """
    given = _bert_names(read_tensors(source))
    prefix = "" if isinstance(model, LxmertModel) else "lxmert."
    state = {
        name if name.startswith("cls.") else prefix + name: tensor
        for name, tensor in given.items()
        if not name.endswith("position_ids")
    }
    own = dict(model.state_dict())
    misfits = _misfits(own, state, prefix)
    if misfits:
        raise ValueError(f"{source} is no BERT that these language layers can start from: {misfits}")
    result = Start(unused=[name for name in state if name not in own])
    with torch.no_grad():
        for name, tensor in state.items():
            if name in own:
                if name != _DECODER:  # one with the embeddings of words, whatever a file says
                    own[name].copy_(tensor)
                result.loaded.append(name)
        result.copied = _copy_branches({name: own[name] for name in own if f"{prefix}encoder.layer." in name})
    accounted = {*result.loaded, *result.copied, _DECODER}
    result.fresh = [name for name in own if name not in accounted]
    result.log(source)
    return result


@torch.no_grad()
def centre_regions(model: LxmertBase, regions: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Start the biases of the first visual layers so that the mean region, and the mean box, become 0.

    The layers that follow normalise each region. Boxes, whose corners are all between 0 and 1, and features, which are
    never negative, share most of what they are: what tells them apart would be a twentieth of what is left of it.
    A new model then learns where things are many times sooner.

    Args:
        regions: features [..., F] and boxes [..., 4] of some images.
    """
    layer = backbone(model).encoder.visn_fc
    rows = [(feats.flatten(0, -2).float(), boxes.flatten(0, -2).float()) for feats, boxes in regions]
    for linear, column in ((layer.visn_fc, 0), (layer.box_fc, 1)):
        mean = torch.cat([row[column] for row in rows]).mean(0).to(linear.weight)
        linear.bias.copy_(-linear.weight @ mean)


def bert_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `LxmertConfig` that a BERT's `config.json` settles."""
    lacking = [name for name in _BERT_FIELDS if name not in config]
    if lacking:
        raise ValueError(
            f"the configuration of a BERT has {', '.join(_BERT_FIELDS)}; this one lacks {', '.join(lacking)}"
        )
    return {name: config[name] for name in _BERT_FIELDS}


def _head(
    model: LxmertBase,
    given: dict[str, Tensor],
    answers: Sequence[str] | None,
    source_answers: Sequence[str] | None,
    result: Start,
) -> dict[str, Tensor]:
    """The last layer of the answer head for the model's list; taken out of `given` where it cannot be."""
    weight, bias = given.get(f"{_LAST}weight"), given.get(f"{_LAST}bias")
    if weight is None or bias is None or not isinstance(model, LxmertForAnswers | LxmertForPretraining):
        return {}
    if answers is not None:
        check_answers(answers, model.config.num_qa_labels)
    if answers is not None and source_answers is not None:
        check_answers(source_answers, len(weight))
        rows = matching_rows(answers, source_answers)
        result.answers = (
            [answer for answer, row in zip(answers, rows, strict=True) if row is not None],
            [answer for answer, row in zip(answers, rows, strict=True) if row is None],
        )
        weight, bias = moved_rows(weight, bias, rows)
        return {f"{_LAST}weight": weight, f"{_LAST}bias": bias}
    if answers is None and source_answers is None and len(weight) == model.config.num_qa_labels:
        return {}
    for part in ("weight", "bias"):
        result.unused.append(_LAST + part)
        del given[_LAST + part]
    return {}


def _has_dictionaries(state: Mapping[str, Tensor]) -> bool:
    return any(name.endswith("encoder.ML") for name in state)


def _is_added(name: str) -> bool:
    """Whether a weight is one that CATT adds to LXMERT."""
    return bool(_BRANCH.search(name) or _CAUSAL.search(name))


def _copy_branches(own: Mapping[str, Tensor]) -> dict[str, str]:
    """Fill the branches with what the layers beside them hold."""
    copied = {}
    for name, tensor in own.items():
        if _BRANCH.search(name):
            beside = _BRANCH.sub(".", name)
            # the branch of a language or visual layer is a cross attention, whose parts are named so
            beside = beside.replace(".attention.att.", ".attention.self.")
            tensor.copy_(own[beside])
            copied[name] = beside
    return copied


def _join_as_lxmert(own: Mapping[str, Tensor]) -> None:
    """Let the maps that join stream and branch pass the stream on, and nothing of the branch yet."""
    for name, tensor in own.items():
        if re.search(r"encoder\.fc_(?:visn|lang)\.weight$", name):
            tensor.copy_(torch.eye(*tensor.shape))
        elif re.search(r"encoder\.fc_(?:visn|lang)\.bias$", name):
            tensor.zero_()


def _bert_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A BERT's tensors without `bert.`, and its norms with the names of today."""
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"^(?:module\.)?(?:bert\.)?", "", name)
        renamed[re.sub(r"beta$", "bias", re.sub(r"gamma$", "weight", name))] = tensor
    return renamed


def _misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor], prefix: str) -> str:
    """What a BERT lacks of the embeddings and language layers of a model, and what has another shape; else nothing."""
    language = (f"{prefix}embeddings.", f"{prefix}encoder.layer.")
    parts = {
        "missing": [n for n in own if n.startswith(language) and n not in state and not _BRANCH.search(n)],
        "of another shape": [
            f"{name} {list(tensor.shape)} instead of {list(own[name].shape)}"
            for name, tensor in state.items()
            if name in own and tensor.shape != own[name].shape
        ],
    }
    return "; ".join(f"{len(names)} {kind}: {first_names(names)}" for kind, names in parts.items() if names)
