"""Samples to tensors: pictures, styles, prompts, captions, batches."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preprocessors.stylish import OfaStylishImageCaptioningPreprocessor

__all__ = ["OfaStylishImageCaptioningPreprocessor"]


def __getattr__(name: str) -> Any:
    # on demand: ModelScope takes more than a second to import, and most users of this package need only its functions
    if name in __all__:
        from preprocessors import stylish

        return getattr(stylish, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
