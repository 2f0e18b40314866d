"""OFA for current PyTorch and transformers."""

from models.ofa.configuration import PRESETS, OFAConfig, preset_config
from models.ofa.modeling import OFAModel

__all__ = ["PRESETS", "OFAConfig", "OFAModel", "preset_config"]
