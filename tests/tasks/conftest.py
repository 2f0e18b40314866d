"""The rendered data set of the tests of training serves here as well."""

from tests.trainers.conftest import demo, one_thread

__all__ = ["demo", "one_thread"]
