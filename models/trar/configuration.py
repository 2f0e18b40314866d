"""TRAR's hyper-parameters (ICCV 2021) and how the public code's configuration maps to them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Allowed values of the fields that are words.
CHOICES = {
    "head": ("vqa", "clevr"),
    "routing": ("soft", "hard"),
    "pooling": ("avg", "attention", "fc"),
    "evaluation": ("expected", "published"),
}
_POSITIVE = ("words", "answers", "feature_width", "grid", "layers", "hidden", "heads", "feed_forward")
_SIZES = (*_POSITIVE, "pool_width", "glimpses", "pooled_width", "word_width")


@dataclass(frozen=True)
class TrarConfig:
    """What a TRAR network is made of.

    Attributes:
        words, answers: size of the question vocabulary (entry 0 is padding) and of the answer list.
        head: "vqa" or "clevr": the name that the first linear layer has in published checkpoints.
        feature_width: numbers a cell of the image grid.
        grid: cells a side; an image is grid² cells, row by row.
        orders: spans that an image can be routed to: 0 sees every cell, r > 0 those at most r rows and columns away.
        routing: "soft" weighs the spans with a softmax, "hard" with a Gumbel softmax at temperature tau.
        pooling: how the routing block sums up an image: mean, attention, or one linear layer and a softmax.
        pool_padding: the routing pool counts padded cells too, as published; off, it looks at real cells only.
        binarize: outside training each image uses its heaviest span alone.
        evaluation: "expected" routes without noise at the tau that training ended with; "published" adds noise at
            `tau_max`, which is what the public code's evaluation does.
        tau_max, tau_min: the temperature of a fresh network, and the one that its schedule goes down to.
        layers: of the encoder, and as many of the decoder; hidden: width; heads: of every attention.
        feed_forward, dropout: as in any transformer.
        pool_width, glimpses, pooled_width: hidden width, weighted sums and output width of the two final pools.
        word_width: numbers a word vector.
        tower_width: numbers a cell that a convolutional tower makes of its pixels; 0: cells are features as they are.
    """

    words: int
    answers: int
    head: str = "vqa"
    feature_width: int = 2048
    grid: int = 8
    orders: tuple[int, ...] = (0, 1, 2, 3)
    routing: str = "soft"
    pooling: str = "avg"
    pool_padding: bool = False
    binarize: bool = False
    evaluation: str = "expected"
    tau_max: float = 10.0
    tau_min: float = 0.1
    layers: int = 6
    hidden: int = 512
    heads: int = 8
    feed_forward: int = 2048
    dropout: float = 0.1
    pool_width: int = 512
    glimpses: int = 1
    pooled_width: int = 1024
    word_width: int = 300
    tower_width: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "orders", tuple(self.orders))
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"TRAR configuration: {name}={getattr(self, name)} must be at least 1")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                given = getattr(self, name)
                raise ValueError(f"TRAR configuration: {name}={given!r} is unknown; choose one of {', '.join(allowed)}")
        self._check_orders()
        if self.hidden % self.heads:
            raise ValueError(f"TRAR configuration: hidden={self.hidden} is not divisible by heads={self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"TRAR configuration: dropout={self.dropout} must be at least 0 and below 1")
        if not 0 < self.tau_min <= self.tau_max:
            raise ValueError(
                f"TRAR configuration: tau_min={self.tau_min}, tau_max={self.tau_max}: 0 < tau_min <= tau_max is needed"
            )

    def _check_orders(self) -> None:
        if not self.orders or len(set(self.orders)) < len(self.orders):
            raise ValueError(f"TRAR configuration: orders={list(self.orders)} must be one or more different numbers")
        wrong = [order for order in self.orders if not 0 <= order < self.grid]
        if wrong:
            raise ValueError(
                f"TRAR configuration: order {wrong[0]} does not fit a grid of {self.grid}x{self.grid} cells: "
                f"choose orders from 0 (every cell) to {self.grid - 1}"
            )

    @property
    def cells(self) -> int:
        """Cells of an image."""
        return self.grid**2

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"orders": list(self.orders)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "TrarConfig":
        """The configuration that `to_dict` wrote.

        Raises:
            ValueError: fields that are unknown, missing or cannot be.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(content) - known)
        if unknown:
            raise ValueError(
                f"TRAR configuration: unknown fields {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            )
        missing = [name for name in ("words", "answers") if name not in content]
        if missing:
            raise ValueError(f"TRAR configuration: {' and '.join(missing)} missing")
        return cls(**content)


#: The public code's name of each field that it can set.
PUBLISHED_NAMES = {
    "head": "DATASET",
    "grid": "IMG_SCALE",
    "orders": "ORDERS",
    "routing": "ROUTING",
    "pooling": "POOLING",
    "binarize": "BINARIZE",
    "tau_max": "TAU_MAX",
    "tau_min": "TAU_MIN",
    "layers": "LAYER",
    "hidden": "HIDDEN_SIZE",
    "heads": "MULTI_HEAD",
    "feed_forward": "FF_SIZE",
    "dropout": "DROPOUT_R",
    "pool_width": "FLAT_MLP_SIZE",
    "glimpses": "FLAT_GLIMPSES",
    "pooled_width": "FLAT_OUT_SIZE",
    "word_width": "WORD_EMBED_SIZE",
}
#: What the public code's two YAML files set apart from the defaults above.
PUBLISHED_FORMS: dict[str, dict[str, Any]] = {
    "vqa": {"feature_width": 2048, "grid": 8, "orders": (0, 1, 2, 3), "routing": "soft", "pooling": "avg"},
    "clevr": {
        "feature_width": 1024,
        "grid": 14,
        "orders": (0, 1, 3),
        "routing": "hard",
        "pooling": "fc",
        "binarize": True,
    },
}


def published_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TrarConfig` from the public code's settings; those it does not know are left out.

    Padding is counted by the routing pool, as the public code does it.
    """
    fields = {name: settings[theirs] for name, theirs in PUBLISHED_NAMES.items() if theirs in settings}
    return fields | {"pool_padding": True}
