"""A style added to a trained model: a token of its own, which is read and never written; all else stays as it is."""

import copy

import torch
from torch import Tensor
from transformers.initialization import no_init_weights

from models.ofa.modeling import OFAModel
from models.ofa.styles import StyleMap
from models.ofa.tokenization import OFATokenizer

_SHARED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")


def with_style(
    model: OFAModel, tokenizer: OFATokenizer, known: StyleMap, style: str, vector: Tensor
) -> tuple[OFAModel, OFATokenizer, StyleMap]:
    """Model, vocabulary and style map with `style`, whose row of the embedding is `vector` [D].

    A vocabulary without a free code grows by one, and the embedding by a row where it has none left. What is given
    stays as it is. Raises ValueError as `StyleMap.with_style` and `OFATokenizer.with_codes`.
    """
    grown = known.with_style(style)
    [name] = grown.tokens.keys() - known.tokens.keys()
    code = int(grown.tokens[name][len("<code_") : -1])
    tokenizer = tokenizer if code < tokenizer.num_codes else tokenizer.with_codes(code + 1)
    return _with_row(model, tokenizer.code_id(code), vector), tokenizer, grown


def _with_row(model: OFAModel, token: int, vector: Tensor) -> OFAModel:
    """A copy of the model, on the CPU, that reads `vector` for a token and never writes it."""
    config = copy.deepcopy(model.config)
    config.vocab_size = max(config.vocab_size, token + 1)
    config.silent_tokens = sorted({*(config.silent_tokens or ()), token})
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    table = weights[_SHARED[0]]
    rows = table.new_zeros(config.vocab_size, table.shape[1])
    rows[: len(table)] = table
    rows[token] = vector.detach().to(rows)
    with no_init_weights():
        copied = OFAModel(config)
    copied.tie_weights()
    copied.load_state_dict(weights | dict.fromkeys(_SHARED, rows), strict=True)
    assert torch.equal(copied.decoder.output_projection.weight, rows), "the output shares the embedding's rows"
    return copied.eval()
