"""Whether a file can hold the weights of the model that a configuration describes: asked before the model is built.

A configuration of a hundred bytes may ask for terabytes of memory, or for a billion layers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

#: How many times the numbers in the file a model may have (heads that are new, tables that are computed), and what is
#: built in any case.
_TIMES, _SMALL = 4, 2**26
#: Counted for a layer, beside its weights: a module of Python takes some time and memory of its own.
LAYER = 10_000


def stored_numbers(state: Mapping[str, Tensor]) -> int:
    """Numbers in the storages of tensors, each storage once: a tensor may repeat one number any number of times."""
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in state.values()}
    return sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in storages.values())


def check_positive(config: Any, fields: Iterable[str]) -> None:
    """ValueError for a field that is no whole number above 0."""
    for field in fields:
        value = getattr(config, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"the configuration's {field} is {value!r}: it must be a whole number, 1 or more")


def check_size(numbers: int, state: Mapping[str, Tensor], remedy: str = "") -> None:
    """ValueError where a configuration describes a model of so many numbers, and the file holds far fewer."""
    stored = stored_numbers(state)
    if numbers > _TIMES * stored + _SMALL:
        raise ValueError(
            f"the configuration describes a model of {numbers:.3g} numbers, but the weights hold {stored:.3g}"
            + (f": {remedy}" if remedy else ": use the configuration that belongs to them")
        )
