"""What CI cannot check: see benchmarks/gpu.sh, which runs this.

Each check is tried whatever became of those before it, and is left out when the time is over. The last line is the
table as JSON.
"""

import argparse
import json
import logging
import math
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table: `found` must not be more than `limit`, where there is one; `note`: what else was seen."""

    check: str
    what: str
    found: float
    limit: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.limit is None or self.found <= self.limit  # not a number is no pass


@dataclass(frozen=True)
class Machine:
    """Where checks run. `scratch`: an empty folder; `small`: a nano model, on a CPU."""

    device: torch.device
    scratch: Path
    small: bool


Check = Callable[[Machine], Iterator[Row]]


def cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def to_json(row: Row) -> dict[str, Any]:
    """JSON has no number that is none."""
    return asdict(row) | {"found": row.found if math.isfinite(row.found) else None, "passed": row.passed}


def show(row: Row, seconds: float) -> None:
    verdict = "FAILED" if not row.passed else "ok" if row.limit is not None else ""
    print(
        f"{row.check:<11} {row.what:<48} {cell(row.found):>10} {cell(row.limit):>10} {verdict:<7} {seconds:6.1f} s  "
        f"{row.note}",
        flush=True,
    )


def run(checks: dict[str, Check], machine: Machine, seconds: float) -> list[Row]:
    """All rows; a check that raises gives one that failed, and those without time one that says so."""
    began, rows = time.monotonic(), []
    for name, check in checks.items():
        started = time.monotonic()
        if started - began > seconds:
            rows.append(Row(name, "not tried", float("nan"), 0.0, "the time was over"))
            show(rows[-1], 0.0)
            continue
        try:
            for row in check(machine):
                rows.append(row)
                show(row, time.monotonic() - started)
                started = time.monotonic()
        except Exception as error:  # whatever it is, the other checks are wanted
            said = " ".join(str(error).split())[-160:]
            rows.append(Row(name, "raised", float("nan"), 0.0, f"{type(error).__name__}: {said}"))
            show(rows[-1], time.monotonic() - started)
            logging.getLogger("stylecap").debug("%s", name, exc_info=True)
    return rows


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks/gpu.sh", description="What CI cannot check, on a machine with CUDA.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these checks alone")
    parser.add_argument("--seconds", type=float, default=480, help="start no check after this many (default 480)")
    parser.add_argument("--verbose", action="store_true", help="tracebacks of checks that raise, and what runs log")
    return parser.parse_args(arguments)


def main() -> int:
    args = parse()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks/gpu.sh: no CUDA here, so nothing is checked (--device cpu tries the script)", file=sys.stderr)
        return 2
    from benchmarks.gpu_checks import CHECKS  # needs more than torch

    unknown = set(args.only) - CHECKS.keys()
    if unknown:
        print(f"benchmarks/gpu.sh: no check {sorted(unknown)}: there are {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.ERROR)
    on_gpu = args.device == "cuda"
    named = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    print(f"{named}, Python {platform.python_version()}, torch {torch.__version__}")
    print(f"{'check':<11} {'what':<48} {'found':>10} {'at most':>10}")
    with tempfile.TemporaryDirectory() as scratch:
        machine = Machine(torch.device("cuda", 0) if on_gpu else torch.device("cpu"), Path(scratch), not on_gpu)
        chosen = {name: check for name, check in CHECKS.items() if not args.only or name in args.only}
        rows = run(chosen, machine, args.seconds)
    failed = sum(not row.passed for row in rows)
    print(f"{failed} of {len(rows)} failed" if failed else f"all {len(rows)} passed")
    print(json.dumps([to_json(row) for row in rows]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
