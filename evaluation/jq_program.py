"""The two bindings of jq, and one program run by either. Imports the standard library only, for it runs in a process of
its own: a jq program may never end."""

import importlib.util
import json
import math
import sys
from typing import Any


def answer(asked: bytes) -> bytes:
    """JSON `[program, text, binding]` -> JSON list of what the program yields for the JSON text.

    Raises:
        ValueError: the program is wrong or fails.
    """
    program, text, binding = json.loads(asked)
    results = (with_pyjq if binding == "pyjq" else with_jq)(program, text)
    return json.dumps(results, ensure_ascii=False).encode("utf-8", "surrogatepass")


def installed() -> str:
    """The binding to use: the one that somebody asked for, where it is there."""
    return "pyjq" if importlib.util.find_spec("pyjq") else "jq"


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
