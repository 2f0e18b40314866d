"""VisualBERT: one transformer over words and image regions (arXiv:1908.03557), on transformers' modules."""

from models.visualbert.configuration import HEADS, VisualBERTConfig
from models.visualbert.modeling import VisualBERTModel, VisualBERTOutput

__all__ = ["HEADS", "VisualBERTConfig", "VisualBERTModel", "VisualBERTOutput"]
