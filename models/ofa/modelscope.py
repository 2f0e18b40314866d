"""README has always registered the captioner with ModelScope by this name; see `tasks.captioning.modelscope`."""

from tasks.captioning.modelscope import OfaStylishImageCaptioningPreprocessor, StylishCaptioningPipeline, StylishOFA

__all__ = ["OfaStylishImageCaptioningPreprocessor", "StylishCaptioningPipeline", "StylishOFA"]
