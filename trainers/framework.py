"""ModelScope's trainer without what it does on its own account."""

from typing import Any

from modelscope.trainers.trainer import EpochBasedTrainer


class PlainTrainer(EpochBasedTrainer):
    """`EpochBasedTrainer` that takes data sets as they are, builds no metrics and prints nothing."""

    def build_dataset(self, datasets: Any, *args: Any, **kwargs: Any) -> Any:
        """As given: our items need none of ModelScope's wrapping."""
        return datasets

    def get_preprocessors(self, preprocessor: Any) -> tuple[None, None]:
        """The data set applies its preprocessor itself, in the loader's workers."""
        return None, None

    def get_metrics(self) -> list:
        return []

    def print_cfg(self) -> None:
        """ModelScope prints the whole configuration to stdout; the run's folder holds it."""

    def print_hook_info(self) -> None:
        """Likewise the table of hooks."""
