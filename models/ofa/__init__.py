"""OFA for current PyTorch and transformers."""

from models.ofa.configuration import PRESETS, OFAConfig, preset_config
from models.ofa.modeling import OFAModel
from models.ofa.tokenization import OFATokenizer

__all__ = ["PRESETS", "OFAConfig", "OFAModel", "OFATokenizer", "preset_config"]
