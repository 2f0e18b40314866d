"""Work on what a stranger wrote, in a process of its own that may take so much time and memory and no more.

For inputs whose cost nothing can tell beforehand: a pickle of eight bytes may ask for gigabytes, a short program may
never end. The process is a fresh interpreter, so that nothing of the caller is at risk, and it is gone afterwards.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_FAILED = 3  # exit code of work that raised a ValueError
_TOO_LARGE = 4
_BOOT = f"""
import importlib, os, resource, sys
for threads in ("OMP", "OPENBLAS", "MKL"):
    os.environ[threads + "_NUM_THREADS"] = "1"  # each would ask for memory beforehand
megabytes, root, module, name = sys.argv[1:]
for limit, value in ((resource.RLIMIT_AS, int(megabytes) << 20), (resource.RLIMIT_CORE, 0)):
    try:
        resource.setrlimit(limit, (value, value))
    except (ValueError, OSError):
        pass  # a system without this limit
sys.path.insert(0, root)
try:
    result = getattr(importlib.import_module(module), name)(sys.stdin.buffer.read())
except MemoryError:
    sys.exit({_TOO_LARGE})
except (ValueError, RecursionError) as error:
    sys.stderr.write(str(error))
    sys.exit({_FAILED})
sys.stdout.buffer.write(result)
"""


def confined(work: Callable[[bytes], bytes], given: bytes, *, seconds: float, megabytes: int) -> bytes:
    """`work(given)`, done by another process.

    Args:
        work: a function of a module that imports little, for it is imported anew.
        seconds, megabytes: what the process may take.

    Raises:
        ValueError: what `work` raised, or that it took more than it may, or that its process crashed.
    """
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-I", "-X", "utf8", "-c", _BOOT, str(megabytes), str(root)]
    try:
        done = subprocess.run(
            [*command, work.__module__, work.__qualname__], input=given, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"it takes more than {seconds:g} seconds") from None
    if done.returncode == 0:
        return done.stdout
    if done.returncode == _FAILED:
        raise ValueError(done.stderr.decode("utf-8", "replace"))
    if done.returncode == _TOO_LARGE or b"memory" in done.stderr.lower():
        raise ValueError(f"it takes more than {megabytes} MB of memory")
    raise ValueError(f"the process that read it ended with code {done.returncode}")
