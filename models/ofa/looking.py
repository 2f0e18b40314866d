"""Where a decoder looks while it writes: its attention to the source, which plain decoding never has in full."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from models.ofa.attention import OFAAttention
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.modeling import OFAModel

#: The decoder's last layers whose attention is averaged: earlier ones still read what was written.
LAST_LAYERS = 2


@torch.no_grad()
def cross_attention(model: OFAModel, encoded: OFAEncoderOutput, decoder_input_ids: Tensor) -> Tensor:
    """How much each position of captions attends to each of the source, [N, T, S]; a row sums to 1.

    The mean over the heads and the last `LAST_LAYERS` layers; position t is where token t + 1 is written.

    Args:
        encoded: one row a caption.
        decoder_input_ids: captions [N, T] with their start.
    """
    layers = model.decoder.decoder_layers[-LAST_LAYERS:]
    with _watched([layer.cross_attn for layer in layers]) as seen:
        model.decode(encoded, decoder_input_ids, None)
    return torch.stack(seen).mean(0)


@contextlib.contextmanager
def _watched(attentions: list[OFAAttention]) -> Iterator[list[Tensor]]:
    """What the attentions weigh by while they run, each averaged over its heads."""
    seen: list[Tensor] = []
    hooks = [
        attention.register_forward_pre_hook(lambda module, args: seen.append(module.weights(*args).mean(1)))
        for attention in attentions
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
