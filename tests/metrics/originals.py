"""ModelScope's CIDEr-D, imported also where `six`, which it needs and no longer declares, is not installed."""

import importlib.util
import pickle
import sys
import types
from typing import Any
from unittest import mock


def modelscope_cider_d(**arguments: Any) -> Any:
    """An instance of `modelscope.metrics.ciderD.ciderD.CiderD`."""
    import modelscope.metrics.base  # noqa: F401  # its parents stay imported; the stand-in below does not

    name = "modelscope.metrics.ciderD.ciderD"
    if name not in sys.modules and importlib.util.find_spec("six") is None:
        six, moves = types.ModuleType("six"), types.ModuleType("six.moves")
        vars(six).update(PY3=True, moves=moves)
        vars(moves).update(cPickle=pickle)
        with mock.patch.dict(sys.modules, {"six": six, "six.moves": moves}):
            module = importlib.import_module(name)
        sys.modules[name] = module
    return importlib.import_module(name).CiderD(**arguments)
