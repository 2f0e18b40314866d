"""LXMERT's hyper-parameters: transformers' own, and those of causal attention."""

from huggingface_hub.dataclasses import strict
from transformers import LxmertConfig as TransformersLxmertConfig

from models.sizes import LAYER

#: What the visual losses of pre-training are multiplied by: one over the share of boxes that is masked.
VISUAL_LOSS_NORMALIZER = 1 / 0.15
CAUSAL_ATTENTION = ("none", "ft_same", "ft", "ft_fixed")
CROSS_TYPES = ("g2g", "g2l")


@strict
class LxmertConfig(TransformersLxmertConfig):
    """Fields of transformers' LXMERT, whose `config.json` is read as it is, and these of CATT (arXiv:2103.03493).

    `causal_attention`:

    - "none": LXMERT.
    - "ft_same": every attention of a language or visual layer is run a second time over a dictionary, and what it finds
      there goes through the layers after it beside the words or boxes, with the same weights.
    - "ft": the same with weights of its own, in the last language and the last visual layer (in every one with
      `ft_large`) and in the cross-modality layers, of which the published code only uses the last.
    - "ft_fixed": "ft", but what a cross-modality layer finds is what the next one reads.

    `cross_type`: what asks in the cross-modality layers: "g2g" what was found in the dictionaries, "g2l" the words and
    boxes themselves. `dictionary_words` and `dictionary_boxes` are the entries that words (the original's ML) and boxes
    (MV) look at.
    """

    visual_loss_normalizer: float = VISUAL_LOSS_NORMALIZER
    causal_attention: str = "none"
    cross_type: str = "g2g"
    ft_large: bool = False
    dictionary_words: int = 500
    dictionary_boxes: int = 500

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        choices = {"causal_attention": CAUSAL_ATTENTION, "cross_type": CROSS_TYPES}
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise ValueError(f"LXMERT: {field} is {getattr(self, field)!r}: choose one of {', '.join(known)}")
        if self.ft_large and not self.has_own_branch:
            raise ValueError(f'LXMERT: ft_large belongs to causal_attention "ft"; here it is "{self.causal_attention}"')
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"LXMERT: hidden_size {self.hidden_size} is not divisible by num_attention_heads "
                f"{self.num_attention_heads}"
            )
        counts = ["l_layers", "r_layers", "x_layers", "dictionary_words", "dictionary_boxes"]
        for field in counts:
            if getattr(self, field) < 1:
                raise ValueError(f"LXMERT: {field} is {getattr(self, field)}: at least 1 is needed")

    @property
    def is_causal(self) -> bool:
        """Whether there are dictionaries."""
        return self.causal_attention != "none"

    @property
    def has_own_branch(self) -> bool:
        """Whether the branch of the dictionaries has weights of its own."""
        return self.causal_attention in ("ft", "ft_fixed")


#: Fields that sizes of tensors, or numbers of layers, are made of.
SIZES = (
    *("vocab_size", "max_position_embeddings", "type_vocab_size", "hidden_size", "intermediate_size"),
    *("num_attention_heads", "l_layers", "r_layers", "x_layers", "visual_feat_dim", "visual_pos_dim"),
    *("dictionary_words", "dictionary_boxes"),
)


def numbers_of(config: LxmertConfig) -> int:
    """How many numbers a model has, roughly: weights of all heads, and both branches of causal attention."""
    width, inner = config.hidden_size, config.intermediate_size
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    labels = config.num_qa_labels + config.num_object_labels + config.num_attr_labels
    entries = labels + 2 * (config.visual_feat_dim + config.visual_pos_dim)
    dictionaries = config.dictionary_words + config.dictionary_boxes if config.is_causal else 0
    layers = config.l_layers + config.r_layers + 3 * config.x_layers
    each = 4 * width**2 + 2 * width * inner + LAYER
    return (2 * rows + 2 * entries + dictionaries) * width + layers * each * (2 if config.is_causal else 1)
