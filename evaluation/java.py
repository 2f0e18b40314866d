"""METEOR and SPICE by the jars that pycocoevalcap carries, one JVM each per evaluation, never waited for in vain.

Where a score cannot be had (no JVM, jars missing, time limit, JVM dead) its value is None and one line in the log says
why and what to do; other metrics are not touched.
"""

import contextlib
import hashlib
import json
import logging
import math
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

logger = logging.getLogger("stylecap")

_PACKAGE = find_spec("pycocoevalcap")
_JARS = Path(next(iter((_PACKAGE and _PACKAGE.submodule_search_locations) or [""])))
METEOR_JAR = _JARS / "meteor" / "meteor-1.5.jar"
SPICE_JAR = _JARS / "spice" / "spice-1.0.jar"
CORENLP_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")  # beside SPICE's jar, in lib/
GET_CORENLP = "python -m pycocoevalcap.spice.get_stanford_models"
GET_JAVA = "install a JVM, for example: apt-get install default-jre-headless"
_ENGLISH = "-Duser.language=en"  # numbers with a full stop, whatever the machine's language
# SPICE's libraries reach into the JVM by reflection: forbidden since Java 17 unless told; Java 8 does not know how.
_OPEN = [
    "-XX:+IgnoreUnrecognizedVMOptions",
    *(
        f"--add-opens=java.base/{name}=ALL-UNNAMED"
        for name in "java.lang java.io java.math java.net java.nio java.text java.util java.util.concurrent".split()
    ),
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
]


class JavaError(RuntimeError):
    """Why a score cannot be had, and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class JavaScores:
    """A metric of all captions together, of each, and of named subsets; None and empty where it cannot be had."""

    overall: float | None = None
    each: list[float] | None = None
    subsets: dict[str, float] = field(default_factory=dict)
    why_not: str | None = None


Subsets = Mapping[str, Sequence[int]]
Cache = MutableMapping[str, Any]
"""What Java said of a caption and its references, by `pair_key`: such pairs are not asked about again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a JVM may take: seconds, and GB of memory for its objects."""

    timeout_s: float
    memory_gb: int = 8


def meteor(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    subsets: Subsets,
    limits: Limits,
    cache: Cache | None = None,
    *,
    jar: Path = METEOR_JAR,
) -> JavaScores:
    """METEOR 1.5 (Denkowski and Lavie, 2014) of tokenized captions."""
    known = {} if cache is None else cache
    return _or_why_not("METEOR", lambda: _meteor(candidates, references, subsets, limits, known, jar))


def spice(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    subsets: Subsets,
    limits: Limits,
    cache: Cache | None = None,
    *,
    jar: Path = SPICE_JAR,
) -> JavaScores:
    """SPICE 1.0 (Anderson et al., 2016) of tokenized captions."""
    known = {} if cache is None else cache
    return _or_why_not("SPICE", lambda: _spice(candidates, references, subsets, limits, known, jar))


def pair_key(metric: str, candidate: str, references: Sequence[str]) -> str:
    """The key of a caption and its references in a `Cache`."""
    return f"{metric} {hashlib.sha256(json.dumps([candidate, *references]).encode()).hexdigest()}"


def _or_why_not(name: str, score: Callable[[], JavaScores]) -> JavaScores:
    try:
        return score()
    except JavaError as error:
        why_not = f"{name} is not computed: {error}"
        logger.warning("%s", why_not)
        return JavaScores(why_not=why_not)


def _java(jar: Path) -> str:
    if not jar.is_file():
        raise JavaError(f"{jar} is missing; reinstall pycocoevalcap")
    java = shutil.which("java")
    if java is None:
        raise JavaError(f"there is no `java` on the PATH; {GET_JAVA}")
    return java


def _too_late(timeout_s: float) -> JavaError:
    return JavaError(
        f"Java was not done within {timeout_s:g} s; raise the limit (java_timeout_s) or score fewer captions"
    )


def _died(code: int | None, errors: IO[bytes]) -> JavaError:
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    said = next((line for line in lines if "Exception" in line or "Error" in line), lines[-1] if lines else "nothing")
    return JavaError(f"Java stopped early (exit code {code}), saying: {said.strip()}")


class _Conversation:
    """Lines to a program and lines back, within a time limit over all of it."""

    def __init__(self, command: Sequence[str], folder: Path, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process; a pipe could fill and block
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._speakers: list[threading.Thread] = []
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _say(self, lines: Iterable[str]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # the program is gone; the end of its answers says so
            self._process.stdin.writelines(f"{line}\n".encode("utf-8", "replace") for line in lines)
            self._process.stdin.flush()

    def ask(self, lines: Sequence[str], answers: int) -> list[str]:
        """Say `lines`, wait for so many lines of answer."""
        # On a thread of its own: a program that stops reading while its answers wait to be read must not block us.
        speaker = threading.Thread(target=self._say, args=(lines,), daemon=True)
        self._speakers.append(speaker)
        speaker.start()
        heard: list[str] = []
        while len(heard) < answers:
            try:
                line = self._answers.get(timeout=max(0.0, self._deadline - time.monotonic()))
            except queue.Empty:
                raise _too_late(self._timeout_s) from None
            if line is None:
                raise _died(self._process.wait(), self._errors)
            heard.append(line.decode("utf-8", "replace").strip())
        return heard

    def __enter__(self) -> "_Conversation":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for thread in (self._listener, *self._speakers):  # their pipes are broken now, so they end
            thread.join()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # what a dead program never read
                if pipe is not None:
                    pipe.close()


def _meteor(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    subsets: Subsets,
    limits: Limits,
    cache: Cache,
    jar: Path,
) -> JavaScores:
    memory = f"-Xmx{limits.memory_gb}G"
    command = [_java(jar), _ENGLISH, memory, "-jar", jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    pairs = list(zip(candidates, references, strict=True))
    keys = [pair_key("METEOR", candidate, of_image) for candidate, of_image in pairs]
    asked = {
        key: " ||| ".join(["SCORE", *of_image, candidate.replace("|||", "").replace("  ", " ")])
        for key, (candidate, of_image) in zip(keys, pairs, strict=True)
        if key not in cache
    }
    groups = [list(range(len(pairs))), *(list(rows) for rows in subsets.values())]
    with _Conversation(command, jar.parent, limits.timeout_s) as conversation:
        found = dict(zip(asked, conversation.ask(list(asked.values()), len(asked)), strict=True))
        statistics = [found[key] if key in found else cache[key] for key in keys]
        answers = conversation.ask(
            [" ||| ".join(["EVAL", *(statistics[row] for row in rows)]) for rows in groups],
            sum(len(rows) + 1 for rows in groups),  # a score each, then that of all
        )
    try:
        numbers = [float(answer) for answer in answers]
    except ValueError as error:
        raise JavaError(f"METEOR answered what is no score ({error})") from None
    cache.update(found)
    ends: list[int] = []
    for rows in groups:
        ends.append((ends[-1] if ends else -1) + len(rows) + 1)
    overall, *others = [numbers[end] for end in ends]
    return JavaScores(overall, numbers[: len(pairs)], dict(zip(subsets, others, strict=True)))


def _spice(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    subsets: Subsets,
    limits: Limits,
    cache: Cache,
    jar: Path,
) -> JavaScores:
    pairs = list(zip(candidates, references, strict=True))
    keys = [pair_key("SPICE", candidate, of_image) for candidate, of_image in pairs]
    asked = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in cache}
    if asked:
        cache.update(zip(asked, _ask_spice(list(asked.values()), limits, jar), strict=True))
    each = [cache[key] for key in keys]
    means = {name: sum(each[row] for row in rows) / len(rows) for name, rows in subsets.items()}
    return JavaScores(sum(each) / len(each), each, means)


def _ask_spice(pairs: Sequence[tuple[str, Sequence[str]]], limits: Limits, jar: Path) -> list[float]:
    """The score of each caption with its references."""
    java = _java(jar)
    missing = [name for name in CORENLP_JARS if not (jar.parent / "lib" / name).is_file()]
    if missing:
        raise JavaError(f"{' and '.join(missing)} missing from {jar.parent / 'lib'}; get them with: {GET_CORENLP}")
    records = [
        {"image_id": row, "test": candidate, "refs": list(of_image)} for row, (candidate, of_image) in enumerate(pairs)
    ]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        given, found = Path(folder) / "captions.json", Path(folder) / "scores.json"
        given.write_text(json.dumps(records), encoding="utf-8")
        # Without SPICE's -cache, which opens a database that a killed JVM leaves locked.
        command = [java, *_OPEN, _ENGLISH, f"-Xmx{limits.memory_gb}G", "-jar", jar.name, str(given)]
        command += ["-out", str(found), "-silent"]
        try:
            done = subprocess.run(
                command, cwd=jar.parent, stdout=errors, stderr=errors, timeout=limits.timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise _too_late(limits.timeout_s) from None
        if done.returncode or not found.is_file():
            raise _died(done.returncode, errors)
        return _read_spice(found, len(pairs))


def _read_spice(path: Path, count: int) -> list[float]:
    """F-scores in the order of the captions; 0 where SPICE found nothing to compare and wrote NaN."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        scores = {int(result["image_id"]): float(result["scores"]["All"]["f"]) for result in results}
        return [scores[row] if math.isfinite(scores[row]) else 0.0 for row in range(count)]
    except (ValueError, KeyError, TypeError) as error:
        raise JavaError(f"SPICE's result cannot be read ({error!r})") from None
