"""Rewards from outside the program: a function in a file, a server, or an installed package.

`file:my_reward.py:score` calls `score(batch)`, with a `rewards.base.RewardBatch`; `http://HOST:PORT/PATH` posts JSON;
any other name is looked up among the entry points of the group `stylecap.rewards`. All of them return a list of K
numbers for each of the M groups, and are called in the calculator's threads.
"""

import importlib.util
import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from data.reading import parse_json
from rewards.base import END_WORD, Factory, Reward, RewardBatch

GROUP = "stylecap.rewards"
FILE, HTTP = "file:", ("http://", "https://")
_LARGEST = 1 << 26  # bytes of an answer
_PAUSE_S = 0.5  # before the first repetition; twice as long before each further one


def outside_factory(name: str) -> Factory | None:
    """What builds the reward of a file, a server or a package; None where the name is none of these.

    ValueError for a file that cannot be loaded, or has no such function.
    """
    if name.startswith(FILE):
        function = function_of_file(name.removeprefix(FILE))
        return lambda resources: function
    if name.startswith(HTTP):
        return lambda resources: HttpReward(
            name, timeout_s=getattr(resources, "http_timeout_s", 10.0), retries=getattr(resources, "http_retries", 2)
        )
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        return None
    try:
        factory: Factory = found[0].load()
    except Exception as error:  # another package's import raises what it likes
        raise ValueError(f"scst.rewards: {name} of {found[0].value} cannot be loaded: {error}") from error
    return factory


def outside_names() -> set[str]:
    """The names that installed packages bring."""
    return {point.name for point in entry_points(group=GROUP)}


def function_of_file(source: str) -> Reward:
    """`PATH:FUNCTION` -> the function. The file is run: name only files that you trust."""
    path, _, function = source.rpartition(":")
    if not path or not function:
        raise ValueError(f'scst.rewards: "{FILE}{source}" must be {FILE}PATH.py:FUNCTION')
    if not Path(path).is_file():
        raise ValueError(f"scst.rewards: there is no file {path}: correct its path")
    spec = importlib.util.spec_from_file_location(f"stylecap_reward_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"scst.rewards: {path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f"scst.rewards: {path} cannot be loaded: {type(error).__name__}: {error}") from error
    found: Callable[[RewardBatch], Sequence[Sequence[float]]] | None = getattr(module, function, None)
    if not callable(found):
        raise ValueError(f"scst.rewards: {path} has no function {function}")
    return found


class HttpReward:
    """Asks a server: POST of `document_of(batch)`; the answer is `[[number, ...], ...]`, or that under "rewards".

    Args:
        url: of the server.
        timeout_s: for connecting, and for each wait for data.
        retries: how often a request is repeated that failed; answers that are no numbers are errors at once.
    """

    def __init__(self, url: str, *, timeout_s: float, retries: int, pause_s: float = _PAUSE_S) -> None:
        self.url, self.timeout_s, self.retries, self.pause_s = url, timeout_s, retries, pause_s
        # The address is the one that is meant: no proxy of the environment in between.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __call__(self, batch: RewardBatch) -> list[list[float]]:
        body = json.dumps(document_of(batch)).encode()
        for attempt in range(self.retries + 1):
            try:
                content = self._ask(body)
                break
            except OSError as error:  # refused, timed out, or an answer of 400 and more
                if attempt == self.retries:
                    raise ValueError(
                        f"the reward {self.url} did not answer, asked {self.retries + 1} times: {error}: start its "
                        "server, or raise scst.http_timeout_s"
                    ) from error
                time.sleep(self.pause_s * 2**attempt)
        return self._values(content, batch)

    def _ask(self, body: bytes) -> bytes:
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with self._opener.open(request, timeout=self.timeout_s) as answer:
            content: bytes = answer.read(_LARGEST + 1)
        return content

    def _values(self, content: bytes, batch: RewardBatch) -> list[list[float]]:
        try:
            found = parse_json(content.decode("utf-8"))
            rows = found["rewards"] if isinstance(found, dict) else found
            shape = [len(group) for group in batch.candidates]
            if [len(row) for row in rows] != shape:
                raise ValueError(f"it has rows of {[len(row) for row in rows][:5]} numbers for groups of {shape[:5]}")
            if any(isinstance(value, bool) or not isinstance(value, int | float) for row in rows for value in row):
                raise ValueError("a reward must be a number")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"the reward {self.url} must answer with a list of a list of numbers for each image: {error}"
            ) from error
        return [[float(value) for value in row] for row in rows]


def document_of(batch: RewardBatch) -> dict[str, Any]:
    """What a server is sent: `images` [M], `styles` [M], `candidates` [M][K] texts, `ended` [M][K], and tokenized
    `references` and `soft_references` [M]."""

    def texts(groups: Sequence[Sequence[str]]) -> list[list[str]]:
        return [[text.removesuffix(END_WORD).rstrip() for text in group] for group in groups]

    return {
        "images": list(batch.images),
        "styles": list(batch.styles),
        "candidates": [[one.text for one in group] for group in batch.candidates],
        "ended": [[one.ended for one in group] for group in batch.candidates],
        "references": texts(batch.references),
        "soft_references": texts(batch.soft_references),
    }
