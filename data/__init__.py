"""Annotations to samples: readers, splits, training groups, the rendered demo set, the doctor and the loaders."""

from data.groups import training_groups
from data.readers import read_split, read_styles
from data.samples import Sample, Split

__all__ = ["Sample", "Split", "read_split", "read_styles", "training_groups"]
