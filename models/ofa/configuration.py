"""OFA's hyper-parameters and the public presets."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from models.sizes import LAYER

# Values that no public OFA checkpoint uses; the model is written for the other value of each.
_UNSUPPORTED = {
    "use_ofasys": False,
    "use_gamma_feature": False,
    "normformer": True,
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
    "layernorm_embedding": True,
    "patch_layernorm_embedding": True,
    "add_type_embedding": True,
    "use_image_feature": True,
    "code_layernorm_embedding": True,
    "share_decoder_input_output_embed": True,
    "exclude_mlp": True,
}


@strict
class OFAConfig(PreTrainedConfig):
    """Field names are those of ModelScope's and OFA-Sys's `config.json`, so that either file is read as it is.

    `d_model` is the width, `*_ffn_dim` the hidden width of the feed-forward blocks; `resnet_type` names the first three
    stages of a ResNet (bottleneck blocks at every depth, so `resnet18` is [2, 2, 2] bottlenecks), or "lite0" or
    "lite0_s32", EfficientNet-Lite0 with patches of 16 or of 32 pixels, which no public OFA has. `token_bucket_size`
    and `image_bucket_size` size the relative-position tables: an image may have at most `image_bucket_size` patches
    (of 16 pixels, mostly) a side. `attn_scale_factor` divides the attention scores twice over content and position.
    `feature_dropout` (not in public files) is the share of an image's feature channels that training sets to 0, and
    `silent_tokens` (likewise) are ids that are read and never written: of styles added to a trained model.
    """

    model_type = "ofa"
    keys_to_ignore_at_inference = ["past_key_values"]
    attribute_map = {"num_attention_heads": "encoder_attention_heads", "hidden_size": "d_model"}

    vocab_size: int = 59457
    max_position_embeddings: int = 1024
    encoder_layers: int = 4
    encoder_ffn_dim: int = 2048
    encoder_attention_heads: int = 8
    decoder_layers: int = 4
    decoder_ffn_dim: int = 2048
    decoder_attention_heads: int = 8
    encoder_layerdrop: float | int = 0.0
    decoder_layerdrop: float | int = 0.0
    use_cache: bool = False
    is_encoder_decoder: bool = True
    activation_function: str = "gelu"
    d_model: int = 512
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    init_std: float | int = 0.02
    classifier_dropout: float | int = 0.0
    scale_embedding: bool = False
    pad_token_id: int = 1
    bos_token_id: int = 0
    decoder_start_token_id: int = 0
    eos_token_id: int = 2
    forced_eos_token_id: int | None = 2
    encoder_normalize_before: bool = True
    decoder_normalize_before: bool = True
    normformer: bool = True
    encoder_drop_path_rate: float | int = 0.0
    decoder_drop_path_rate: float | int = 0.0
    layernorm_embedding: bool = True
    patch_layernorm_embedding: bool = True
    resnet_type: str = "resnet101"
    resnet_model_path: str | None = None
    resnet_drop_path_rate: float | int = 0.0
    feature_dropout: float | int = 0.0
    silent_tokens: list[int] | None = None
    token_bucket_size: int = 256
    image_bucket_size: int = 42
    add_type_embedding: bool = True
    share_decoder_input_output_embed: bool = True
    attn_scale_factor: float | int = 2.0
    code_layernorm_embedding: bool = True
    code_image_size: int = 128
    entangle_position_embedding: bool = False
    interpolate_position: bool = False
    orig_patch_image_size: int = 224
    share_attn_bias: bool = False
    use_image_feature: bool = True
    disable_entangle: bool = False
    use_ofasys: bool = False
    vit_type: str = "vit_base"
    vit_drop_path_rate: float | int = 0.0
    use_gamma_feature: bool = False
    gamma: float | int = 1.0
    exclude_mlp: bool = True
    temperature_init_value: float | int | None = None
    remove_decoder_type_embedding: bool = False
    mlp_dim: int = 512
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for field, expected in _UNSUPPORTED.items():
            if getattr(self, field) != expected:
                raise ValueError(
                    f"OFA configuration: {field}={getattr(self, field)!r} is not supported, only {expected!r}; "
                    "use a checkpoint of the OFA family with a ResNet image tower (tiny, medium, base, large, huge)"
                )
        for token in self.silent_tokens or ():
            if not 0 <= token < self.vocab_size:
                raise ValueError(
                    f"OFA configuration: silent_tokens has {token}, and the vocabulary ids 0 to {self.vocab_size - 1}"
                )
        for side in ("encoder", "decoder"):
            heads = getattr(self, f"{side}_attention_heads")
            if self.d_model % heads:
                raise ValueError(
                    f"OFA configuration: d_model={self.d_model} is not divisible by {side}_attention_heads={heads}"
                )


#: Fields that sizes of tensors, or numbers of layers, are made of.
SIZES = (
    *("vocab_size", "max_position_embeddings", "d_model", "encoder_layers", "encoder_ffn_dim"),
    *("encoder_attention_heads", "decoder_layers", "decoder_ffn_dim", "decoder_attention_heads"),
    *("token_bucket_size", "image_bucket_size", "code_image_size", "orig_patch_image_size"),
)


def numbers_of(config: OFAConfig) -> int:
    """How many numbers a model has, roughly: weights and tables, without the image tower's."""
    width, layers = config.d_model, config.encoder_layers + config.decoder_layers
    image = config.image_bucket_size**2 + 1
    heads = config.encoder_attention_heads + config.decoder_attention_heads
    embeddings = 2 * config.vocab_size + 2 * config.max_position_embeddings + 2 * image
    encoder = config.encoder_layers * (4 * width**2 + 2 * width * config.encoder_ffn_dim + LAYER)
    decoder = config.decoder_layers * (8 * width**2 + 2 * width * config.decoder_ffn_dim + LAYER)
    tables = (1 if config.share_attn_bias else layers) * heads * (4 * image + 2 * config.token_bucket_size)
    computed = 2 * image**2 + config.code_image_size**2 + config.orig_patch_image_size**2
    return embeddings * width + encoder + decoder + tables + computed


def _preset(width: int, encoder_layers: int, decoder_layers: int, heads: int, resnet: str) -> dict[str, int | str]:
    return {
        "d_model": width,
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * width,
        "decoder_ffn_dim": 4 * width,
        "resnet_type": resnet,
    }


#: The public sizes (OFA, arXiv:2202.03052, table 1).
PRESETS = {
    "tiny": _preset(256, 4, 4, 4, "resnet50"),
    "medium": _preset(512, 4, 4, 8, "resnet101"),
    "base": _preset(768, 6, 6, 12, "resnet101"),
    "large": _preset(1024, 12, 12, 16, "resnet152"),
    "huge": _preset(1280, 24, 12, 16, "resnet152"),
}


def preset_config(name: str, **overrides) -> OFAConfig:
    """The configuration of a public size, with fields overridden by keyword.

    Raises:
        ValueError: no preset has that name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown OFA preset {name!r}: choose one of {', '.join(PRESETS)}")
    return OFAConfig(**(PRESETS[name] | overrides))
