"""Run a jq program over plain Python data, by whichever binding of jq is installed.

`jq` comes as a wheel and is the default. `pyjq` is compiled on the spot: it is there only where somebody asked for it
with `make install EXTRAS=pyjq`, and is then the one used. It carries jq 1.5, so programs that must run anywhere keep to
what 1.5 and current jq have in common (not `..` and `paths`, which skip null in 1.5; no `input`: nothing to read).
"""

import json
from collections.abc import Callable
from typing import Any

from data.confined import confined
from evaluation import jq_program
from evaluation.jq_program import with_jq, with_pyjq

Engine = Callable[[str, str], list[Any]]
__all__ = ["query", "run", "with_jq", "with_pyjq"]

#: What a program may take.
SECONDS, MEGABYTES = 60.0, 2048


def query(program: str, data: Any) -> list[Any]:
    """Everything that `program` yields for `data` (JSON-like values), in order.

    Numbers are doubles, as in jq: a whole one comes back as an `int`, not-a-number as `None`. The program runs in a
    process of its own, for `SECONDS` at most.

    Raises `ValueError`, naming the program, when the program is wrong, fails, takes too much, or gets data that is not
    JSON.
    """
    return run(_elsewhere, program, data)


def run(engine: Engine, program: str, data: Any) -> list[Any]:
    """`query` with the engine given, such as `with_jq` or `with_pyjq`."""
    if not program.strip():
        # the bindings disagree about a blank program
        raise ValueError('the jq program is empty; "." gives the data back')
    try:
        return engine(program, json.dumps(data, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the jq program {program!r} fails: {error}") from error


def _elsewhere(program: str, text: str) -> list[Any]:
    asked = json.dumps([program, text, jq_program.installed()])
    found: list[Any] = json.loads(
        confined(jq_program.answer, asked.encode(), seconds=SECONDS, megabytes=MEGABYTES).decode(
            "utf-8", "surrogatepass"
        )
    )
    return found
