"""Requests for mixtures, intensities and described styles, as prompts that the model can read.

No vocabulary grows and no weight changes: while captions are written, ids beyond the vocabulary stand in the place of
the style token, and encoder and decoder look them up in a table of their own.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.ofa.mixtures import vector_of
from models.ofa.modeling import OFAModel

if TYPE_CHECKING:
    from preprocessors import OfaStylishImageCaptioningPreprocessor


def own_vectors(
    model: OFAModel, preprocessor: "OfaStylishImageCaptioningPreprocessor", styles: Sequence[str]
) -> dict[str, Tensor]:
    """The vector [D] of each mixture and description among `styles`. Raises ValueError as `own_styles`."""
    known, tokenizer = preprocessor.style_map, preprocessor.tokenizer
    table = model.encoder.embed_tokens.weight
    vectors = {style: vector_of(style, table, known, tokenizer) for style in dict.fromkeys(styles)}
    own = {style: vector for style, vector in vectors.items() if vector is not None}
    if own and not preprocessor.builder.prompt.tokenize_style:
        raise ValueError(
            f'style "{next(iter(own))}": this model reads styles as words (style.tokenize_style = false), which cannot '
            "be mixed: ask for one of its styles"
        )
    return own


@contextlib.contextmanager
def own_styles(
    model: OFAModel, preprocessor: "OfaStylishImageCaptioningPreprocessor", styles: Sequence[str]
) -> Iterator["OfaStylishImageCaptioningPreprocessor"]:
    """A preprocessor that knows the mixtures and descriptions among `styles`, and `model` reads them, until it ends.

    ValueError for a mixture of unknown styles, and where styles are not tokens.
    """
    own = own_vectors(model, preprocessor, styles)
    if not own:
        yield preprocessor
        return
    with reading_rows(model, preprocessor, list(own), torch.stack(list(own.values()))) as mixing:
        yield mixing


@contextlib.contextmanager
def reading_rows(
    model: OFAModel, preprocessor: "OfaStylishImageCaptioningPreprocessor", own: Sequence[str], rows: Tensor
) -> Iterator["OfaStylishImageCaptioningPreprocessor"]:
    """As `own_styles`, of any names `own` that the style map does not have, with their vectors `rows` [E, D].

    The rows may be learnt meanwhile: the model reads them anew at every pass.
    """
    known, tokenizer, prompt = preprocessor.style_map, preprocessor.tokenizer, preprocessor.builder.prompt
    mixing = copy.copy(preprocessor)
    # Words that stand for a style in the prompt's text only; its ids are set below, and no tokenizer meets them.
    named = {style: f"<style {style}>" for style in own}
    ids_of = {style: model.config.vocab_size + row for row, style in enumerate(own)}
    mixing.builder = replace(preprocessor.builder, prompt=replace(prompt, own=named), own=ids_of, _encoded={})
    [slot] = tokenizer.encode_text(known.unknown)
    plain = preprocessor.builder.encode_prompt(prompt.fill(known.unknown))
    for style, token in ids_of.items() if prompt.place == "prompt" else ():
        ids = plain.masked_fill(plain.eq(slot), token)
        mixing.builder.remember_prompt(mixing.builder.prompt.text(style), ids)
    model.encoder.own_embeddings = model.decoder.own_embeddings = rows
    try:
        yield mixing
    finally:
        model.encoder.own_embeddings = model.decoder.own_embeddings = None
