"""Which parts of an OFA gather their parameters on their own where these are divided over ranks."""

from models.ofa import OFAModel
from trainers.sharding import ShardUnit


def shard_units(model: OFAModel) -> list[ShardUnit]:
    """Its layers; the rest (the ResNet, the embeddings) is gathered as one."""
    units = [ShardUnit(layer) for layer in model.encoder.layers]
    for layer in model.decoder.decoder_layers:
        # It makes the keys and values of the source before its layer runs.
        units += [ShardUnit(layer.cross_attn, ("keys_values",)), ShardUnit(layer)]
    return units
