"""Where the styles' tokens start from."""

import torch

from models.ofa import OFAModel
from models.ofa.styles import StyleMap, initial_style_embeddings
from preprocessors import OfaStylishImageCaptioningPreprocessor


def start_style_tokens(
    model: OFAModel, preprocessor: OfaStylishImageCaptioningPreprocessor, known: StyleMap | None = None
) -> None:
    """Start each style token from the mean embedding of its style's words, except those with that meaning in `known`,
    the style map that the model was trained with before."""
    weight = model.get_input_embeddings().weight
    vectors = initial_style_embeddings(weight, preprocessor.style_map, preprocessor.tokenizer)
    taught = set(known.tokens.items()) if known else set()
    ids = preprocessor.style_map.token_ids(preprocessor.tokenizer)
    kept = {ids[style] for style, token in preprocessor.style_map.tokens.items() if (style, token) in taught}
    with torch.no_grad():
        for token_id, vector in vectors.items():
            if token_id not in kept:
                weight[token_id] = vector
