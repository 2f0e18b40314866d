"""TRAR: question answering over an image grid, with an attention span chosen for each image (ICCV 2021)."""

from models.trar.configuration import TrarConfig
from models.trar.modeling import TrarModel, TrarOutput

__all__ = ["TrarConfig", "TrarModel", "TrarOutput"]
