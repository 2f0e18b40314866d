"""Run a jq program over plain Python data, by whichever binding of jq is installed.

`jq` comes as a wheel and is the default. `pyjq` is compiled on the spot: it is there only where somebody asked for it
with `make install EXTRAS=pyjq`, and is then the one used. It carries jq 1.5, so programs that must run anywhere keep to
what 1.5 and current jq have in common (not `..` and `paths`, which skip null in 1.5; no `input`: nothing to read).
"""

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from typing import Any

Engine = Callable[[str, str], list[Any]]


def query(program: str, data: Any) -> list[Any]:
    """Everything that `program` yields for `data` (JSON-like values), in order.

    Numbers are doubles, as in jq: a whole one comes back as an `int`, not-a-number as `None`.
    Raises `ValueError`, naming the program, when the program is wrong, fails, or gets data that is not JSON.
    """
    return run(_installed_engine(), program, data)


def run(engine: Engine, program: str, data: Any) -> list[Any]:
    """`query` with the engine given: `with_jq` or `with_pyjq`."""
    if not program.strip():
        # the bindings disagree about a blank program
        raise ValueError('the jq program is empty; "." gives the data back')
    try:
        return engine(program, json.dumps(data, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the jq program {program!r} fails: {error}") from error


def with_jq(program: str, text: str) -> list[Any]:
    """The results of `program` for the JSON `text`, by the binding `jq`."""
    import jq

    return jq.compile(program).input_text(text).all()


def with_pyjq(program: str, text: str) -> list[Any]:
    """The results of `program` for the JSON `text`, by the binding `pyjq`."""
    import pyjq

    try:
        return [_as_jq_prints(value) for value in pyjq.all(program, json.loads(text))]
    except pyjq.ScriptRuntimeError as error:
        raise ValueError(str(error)) from error


def _installed_engine() -> Engine:
    return with_pyjq if importlib.util.find_spec("pyjq") else with_jq


def _as_jq_prints(value: Any) -> Any:
    """`value` after a trip through jq's JSON output, which has no NaN, no infinity, no `1.0`; pyjq skips that trip."""
    if isinstance(value, list):
        return [_as_jq_prints(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_jq_prints(item) for key, item in value.items()}
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    if math.isinf(value):
        return math.copysign(sys.float_info.max, value)
    return int(value) if value.is_integer() else value
