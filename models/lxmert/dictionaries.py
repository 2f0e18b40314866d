"""The dictionaries of causal attention: how they start, and what is looked up in them.

The paper (arXiv:2103.03493) starts them with k-means over all samples; the published code draws them from [0, 0.01).
"""

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from models.lxmert.attention import Attention, Listener
from models.lxmert.layout import Layout
from models.lxmert.modeling import LxmertBase, LxmertModel

LOGGER = logging.getLogger("stylecap")
_BATCH = 4096


def cluster_dictionaries(
    model: LxmertBase,
    regions: Iterable[tuple[Tensor, Tensor]],
    words: Tensor | None = None,
    *,
    seed: int = 0,
) -> None:
    """Start both dictionaries from centres of k-means (scikit-learn's MiniBatchKMeans).

    Args:
        regions: features [..., F] and boxes [..., 4] of images: they are projected as the network does it.
        words: ids whose embeddings are clustered, as often as they occur; None takes every word of the vocabulary once.

    Raises:
        ValueError: there are no dictionaries, or fewer regions or words than entries.
    """
    encoder = backbone(model).encoder
    if not model.config.is_causal:
        raise ValueError('there is no dictionary to start: causal_attention is "none"')
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            seen = [encoder.visn_fc(feats, boxes).flatten(0, -2).float().cpu() for feats, boxes in regions]
            embedded = _embedded_words(backbone(model), words)
            if not seen:
                raise ValueError("k-means of the dictionary of boxes: no region was given")
            for name, rows, dictionary in (
                ("boxes", torch.cat(seen), encoder.MV),
                ("words", embedded, encoder.ML),
            ):
                centres = _centres(rows.numpy(), dictionary.shape[1], seed, name)
                dictionary[0].copy_(torch.from_numpy(centres))
    finally:
        model.train(was_training)


@dataclass
class Attended:
    """Entropies, in nats, of attention over the entries of a dictionary, a mean over queries and heads.

    At most the logarithm of the number of entries, `uniform`: every entry is then looked at alike. One layer of each
    stream asks its dictionary; those after it ask what that one found.

    Attributes:
        each: "words" and "boxes" -> layer, from 1 -> the mean entropy of each example of the last forward pass, [B].
    """

    uniform: dict[str, float]
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    each: dict[str, dict[int, Tensor]] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """ "words" and "boxes" -> the mean entropy of all forward passes so far."""
        return {name: self.sums[name] / self.counts[name] for name in self.sums}

    def notes(self, questions: int) -> list[dict[str, dict[str, dict[str, float]]]]:
        """Of each question of the last forward pass: dictionary -> "layer N" -> `nats`, and their `share` of `uniform`.

        The pictures of a question count alike.
        """
        found: list[dict[str, dict[str, dict[str, float]]]] = [{} for _ in range(questions)]
        for name, layers in self.each.items():
            most = self.uniform[name]
            for layer, values in layers.items():
                for note, nats in zip(found, values.view(questions, -1).mean(1).tolist(), strict=True):
                    share = nats / most if most else 1.0
                    note.setdefault(name, {})[f"layer {layer}"] = {"nats": round(nats, 4), "share": round(share, 4)}
        return found


@contextmanager
def watched_dictionaries(model: LxmertBase) -> Iterator[Attended]:
    """Within the block, every forward pass of `model` adds to the entropies of what it looked up."""
    encoder = backbone(model).encoder
    sizes = {"words": model.config.dictionary_words, "boxes": model.config.dictionary_boxes}
    found = Attended({name: math.log(size) for name, size in sizes.items()} if model.config.is_causal else {})
    removers = [
        part.on_dictionary(_recorder(found, name, number))
        for name, layers in (("words", encoder.layer), ("boxes", encoder.r_layers))
        for number, layer in enumerate(layers, start=1)
        for part in layer.modules()
        if isinstance(part, Attention)
    ]
    try:
        yield found
    finally:
        for remove in removers:
            remove()


def backbone(model: LxmertBase) -> LxmertModel:
    """The part of any model that reads words and boxes."""
    part = model if isinstance(model, LxmertModel) else model.get_submodule("lxmert")
    assert isinstance(part, LxmertModel)
    return part


def _recorder(found: Attended, name: str, layer: int) -> Listener:
    def record(query: Tensor, key: Tensor, at: Layout) -> None:
        # [h, queries, d] and [h, E, d]
        scores = query.detach().float() @ key.detach().float().transpose(-1, -2) / math.sqrt(query.shape[-1])
        logs = scores.log_softmax(-1)
        entropies = -(logs.exp() * logs).sum(-1)
        found.sums[name] = found.sums.get(name, 0.0) + entropies.sum().item()
        found.counts[name] = found.counts.get(name, 0) + entropies.numel()
        found.each.setdefault(name, {})[layer] = at.means(entropies.mean(0))

    return record


def _embedded_words(model: LxmertModel, words: Tensor | None) -> Tensor:
    table = model.embeddings.word_embeddings.weight
    rows = table if words is None else table[words.flatten().to(table.device)]
    return rows.float().cpu()


def _centres(rows: np.ndarray, entries: int, seed: int, name: str) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans  # slow to import, and few runs cluster

    if len(rows) < entries:
        raise ValueError(
            f"k-means of the dictionary of {name}: {len(rows)} samples cannot make {entries} entries; give more, or "
            f"make the dictionary smaller (dictionary_{name})"
        )
    LOGGER.info("k-means of %d %s into %d entries", len(rows), name, entries)
    clusters = MiniBatchKMeans(entries, batch_size=_BATCH, n_init=1, random_state=seed).fit(rows)
    return clusters.cluster_centers_.astype(np.float32)
