"""Files that are pickles, or hold one, read without running what they ask for.

`numpy.load(allow_pickle=True)` and `torch.load` without `weights_only` call whatever function a file names. Here only
plain values, containers and arrays are built; anything else is refused before it is imported.
"""

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data.confined import confined
from data.reading import open_file

#: What loading objects may take: a start, and more for larger files.
_SECONDS, _MEGABYTES, _MEGABYTES_OF_ONE = 60, 1024, 40
#: Kinds of numbers, texts and objects: nothing that has fields or a memory layout of its own.
_KIND = re.compile(r"^[<>=|]?(\?|[biufc]\d+|[SU]\d+|O\d*)$")
_PLAIN = {
    (module, name): kind
    for module in ("builtins", "__builtin__")
    for name, kind in {
        "int": int,
        "long": int,
        "float": float,
        "complex": complex,
        "bool": bool,
        "str": str,
        "unicode": str,
        "bytes": bytes,
        "bytearray": bytearray,
        "list": list,
        "tuple": tuple,
        "dict": dict,
        "set": set,
        "frozenset": frozenset,
    }.items()
}


def read_npy(path: Path, *, in_memory: bool = True) -> np.ndarray:
    """The array of a `.npy` file; one of objects holds plain values, containers and arrays.

    Args:
        in_memory: False maps an array of numbers from the file.

    Raises:
        ValueError: the file is missing or damaged, or asks for anything else than plain values, which could run code.
    """
    try:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else _read_header_2
            shape, _, dtype = read_header(stream)
            if dtype.hasobject:
                return _read_objects(stream, shape)
        return np.load(path, allow_pickle=False, mmap_mode=None if in_memory else "r")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is not read: {error}") from error
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"{path} is damaged, or no .npy file: {error}") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, or under the name "features" the one of a `.npy` file; none of objects.

    Raises:
        ValueError: the file is missing or damaged, or has an array of objects, which could run code.
    """
    try:
        with open_file(path):
            pass  # numpy would wait for a pipe
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"features": content}
        with content:
            return {name: content[name] for name in content.files}
    except OSError as error:
        raise ValueError(f"{path}: cannot read the arrays ({error.strerror or error}): check the file") from error
    except Exception as error:  # numpy parses a header as Python, and zipfile has errors for each of its methods
        raise ValueError(
            f"{path}: cannot read the arrays ({str(error) or type(error).__name__}): get it again"
        ) from error


def load_torch(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU, where it is tensors and plain values alone; mapped from the file if it can.

    Raises:
        ValueError: the file is missing or damaged, or holds anything else, which could run code.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "")
        raise ValueError(
            f"{path} is not read: it is damaged, or holds more than tensors and plain values, which could run code "
            f"({reason.strip() or 'not a file of torch.save'})"
        ) from error
    except Exception as error:  # a broken file raises nearly anything
        raise ValueError(f"{path} is damaged, or no file of torch.save: {error}") from error


def _read_header_2(stream: BinaryIO) -> Any:
    return np.lib.format.read_array_header_2_0(stream)


def _read_objects(stream: BinaryIO, shape: tuple[int, ...]) -> np.ndarray:
    pickled = stream.read()
    size = len(pickled) / 2**20
    # First where it may take so much and no more: few bytes may ask for gigabytes.
    try:
        confined(_tried, pickled, seconds=_SECONDS + size, megabytes=int(_MEGABYTES + _MEGABYTES_OF_ONE * size))
    except ValueError as error:
        raise pickle.UnpicklingError(str(error)) from error
    reader = _PlainUnpickler(io.BytesIO(pickled), encoding="latin1")
    content = reader.load()
    if not isinstance(content, _Array):
        raise pickle.UnpicklingError(f"it says that it holds an array, but holds {type(content).__name__}")
    array = content.array()
    if reader.arrays > 1:  # a walk over all values, which files of plain records do not need
        array = _without_stand_ins(array)
    return array.reshape(shape)


def _tried(pickled: bytes) -> bytes:
    """Nothing, where the pickle can be loaded."""
    try:
        _PlainUnpickler(io.BytesIO(pickled), encoding="latin1").load()
    except MemoryError:
        raise
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(str(error) or type(error).__name__) from error
    return b""


class _PlainUnpickler(pickle.Unpickler):
    """Builds plain values; arrays become `_Array`, so that numpy never sees a state that it did not write."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrays = 0

    def find_class(self, module: str, name: str) -> Any:
        inside = re.sub(r"^numpy\._?core\.", "numpy.core.", module)
        arrays = {
            ("numpy.core.multiarray", "_reconstruct"): self._array,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Kind,
            ("collections", "OrderedDict"): OrderedDict,
            ("_codecs", "encode"): _encode,
        }
        try:
            return (_PLAIN | arrays)[inside, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code") from None

    def _array(self, *_: Any) -> "_Array":
        self.arrays += 1
        return _Array()


class _Kind:
    """Stands in for a dtype: its name alone is taken from the file."""

    def __init__(self, name: str, *_: Any) -> None:
        if not isinstance(name, str) or not _KIND.match(name):
            raise pickle.UnpicklingError(f"it has an array of kind {name!r}; only numbers, texts and objects are read")
        self.name, self.order = name.lstrip("<>=|"), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.order = state[1]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("O") if self.name.startswith("O") else np.dtype(self.order + self.name)


class _Array:
    """Stands in for an array."""

    def __init__(self) -> None:
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def array(self) -> np.ndarray:
        _, shape, kind, fortran, data = self._state
        dtype = kind.dtype
        if dtype.hasobject != isinstance(data, list) or len(data) != math.prod(shape) * (dtype.itemsize or 1) ** (
            not dtype.hasobject
        ):
            raise pickle.UnpicklingError("it has an array whose values do not fill it")
        if dtype.hasobject:
            flat = np.empty(len(data), dtype)
            for place, value in enumerate(data):
                flat[place] = value
        else:
            data = data.encode("latin1") if isinstance(data, str) else data
            flat = np.frombuffer(data, dtype).copy()
        return flat.reshape(shape, order="F" if fortran else "C")


def _scalar(kind: _Kind, data: Any) -> Any:
    """A number that numpy saved, as Python's."""
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.dtype)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode(encoding)


def _without_stand_ins(value: Any) -> Any:
    if isinstance(value, _Array):
        return _without_stand_ins(value.array())
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        for place in np.ndindex(value.shape):
            value[place] = _without_stand_ins(value[place])
        return value
    if isinstance(value, dict):
        return {name: _without_stand_ins(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(map(_without_stand_ins, value))
    return value
