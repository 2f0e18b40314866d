"""LXMERT, and CATT-LXMERT as an option of it, for current PyTorch and transformers."""

from models.lxmert.configuration import LxmertConfig
from models.lxmert.modeling import (
    LxmertForAnswers,
    LxmertForPairs,
    LxmertForPretraining,
    LxmertModel,
)

__all__ = ["LxmertConfig", "LxmertForAnswers", "LxmertForPairs", "LxmertForPretraining", "LxmertModel"]
