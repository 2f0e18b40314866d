"""Styles between and beyond those that a model was trained in, as vectors in the place of a style token.

"0.7*Humorous + 0.3*Romantic" mixes styles, "1.5*Humorous" goes further than the style does, and "description: dark and
gloomy" is a style that nobody trained. With styles' embeddings v and their mean m over all styles of the map:

    mixture = m + Σ w (v - m)

so that weights which sum to 1 give Σ w v, a single weight of 1 the style itself, and one of 0 no style in particular.
A description is the mean of its words' embeddings, which is what style tokens start from.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from models.ofa.styles import StyleMap
from models.ofa.tokenization import OFATokenizer

DESCRIPTION = "description:"
#: The sign, the number and the asterisk that a term begins with.
_HEAD = re.compile(r"([+-]?)\s*(\d+(?:\.\d*)?|\.\d+)\s*\*\s*")


def parse_mixture(text: str, known: StyleMap) -> dict[str, float] | None:
    """Style, as the map writes it, -> weight; None for what is no mixture, among them a style of that very name.

    ValueError for a term without a style or of an unknown one, with the nearest names.
    """
    if known.find(text) is not None or not _HEAD.match(text.strip()):
        return None
    text = text.strip()
    # A term begins the text, or with its sign: an asterisk within a name begins none.
    heads = [head for head in _HEAD.finditer(text) if head.start() == 0 or head[1]]
    weights: dict[str, float] = {}
    for head, end in zip(heads, [*(head.start() for head in heads[1:]), len(text)], strict=True):
        name = text[head.end() : end].strip()
        if not name:
            raise ValueError(f'style "{text}": {head[0].strip()} names no style; write for instance "1.5*Humorous"')
        style = known.lookup(name)
        weights[style] = weights.get(style, 0.0) + float(f"{head[1]}{head[2]}")
    return weights


def parse_description(text: str, known: StyleMap) -> str | None:
    """The words of a described style; None for another one. ValueError where there are none."""
    if known.find(text) is not None or not text.strip().lower().startswith(DESCRIPTION):
        return None
    words = text.strip()[len(DESCRIPTION) :].strip()
    if not words:
        raise ValueError(f'style "{text}" has no words: write for instance "{DESCRIPTION} dark and gloomy"')
    return words


def styles_in(text: str, known: StyleMap) -> list[str]:
    """The styles of the map that a request names."""
    mixture = parse_mixture(text, known)
    return list(mixture) if mixture is not None else [known.find(text) or text]


def with_intensity(style: str, intensity: float, known: StyleMap) -> str:
    """The request for a style of the map, or a mixture, made so much stronger; others as they are."""
    if intensity == 1.0:
        return style
    mixture = parse_mixture(style, known)
    if mixture is None:
        found = known.find(style)
        mixture = {found: 1.0} if found is not None else {}
    return mixture_text({name: intensity * weight for name, weight in mixture.items()}) if mixture else style


def mixture_text(mixture: Mapping[str, float]) -> str:
    """A mixture as it is asked for, one way of writing it."""
    terms = [f"{'-' if weight < 0 else '+'} {abs(weight):g}*{name}" for name, weight in mixture.items()]
    text = " ".join(terms).removeprefix("+ ")
    return f"-{text[2:]}" if text.startswith("- ") else text


def vector_of(text: str, embeddings: Tensor, known: StyleMap, tokenizer: OFATokenizer) -> Tensor | None:
    """The vector [D] of a mixture or a description, from token embeddings [V, D]; None for a plain style.

    Raises:
        ValueError: as the parsers above, and for an intensity where there is one style only, which has no direction.
    """
    weights = embeddings.detach()
    words = parse_description(text, known)
    if words is not None:
        return weights[tokenizer.encode_text(" " + words.lower())].float().mean(0).to(weights.dtype)
    mixture = parse_mixture(text, known)
    if mixture is None:
        return None
    ids = known.token_ids(tokenizer)
    vectors = {style: weights[token].float() for style, token in ids.items()}
    if len(vectors) < 2 and not math.isclose(sum(mixture.values()), 1.0):
        raise ValueError(f'style "{text}": a model of one style has no direction to strengthen: ask for it alone')
    mean = torch.stack(list(vectors.values())).mean(0)
    return (mean + sum_of(mixture, vectors, mean)).to(weights.dtype)


def sum_of(mixture: Mapping[str, float], vectors: Mapping[str, Tensor], mean: Tensor) -> Tensor:
    """Σ w (v - mean), [D]."""
    return torch.stack([weight * (vectors[style] - mean) for style, weight in mixture.items()]).sum(0)
