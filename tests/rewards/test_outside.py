"""Rewards of a file, of a server and of a package."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from rewards import outside
from rewards.base import Candidate
from rewards.calculator import RewardCalculator
from rewards.catalogue import build_rewards
from rewards.outside import HttpReward

CANDIDATES = [
    [Candidate("a dog runs", ended=True), Candidate("a dog", ended=False)],
    [Candidate("so sweet a cat", ended=True), Candidate("cat", ended=True)],
]
ASKED: tuple[Any, ...] = ([["A dog runs."], ["My cat!"]], ["Dry", "Sweet"], ["1.jpg", "2.jpg"])
RESOURCES: Any = SimpleNamespace(http_timeout_s=5.0, http_retries=0)


def scored(reward: str, weight: float = 1.0) -> list[list[float]]:
    rewards = build_rewards([reward], RESOURCES)
    with RewardCalculator(rewards, {reward: weight}, workers=2) as calculator:
        total: list[list[float]] = calculator.submit(CANDIDATES, *ASKED).result().total.tolist()
    return total


def test_a_function_of_a_file(tmp_path):
    file = tmp_path / "my_reward.py"
    file.write_text(
        "def score(batch):\n    return [[len(one.text.split()) for one in group] for group in batch.candidates]"
    )
    assert scored(f"file:{file}:score", 2.0) == [[6.0, 4.0], [8.0, 2.0]]


@pytest.mark.parametrize(
    ("content", "function", "message"),
    [
        (None, "score", "there is no file"),
        ("def other(batch): ...", "score", "has no function score"),
        ("1 +", "score", "cannot be loaded: SyntaxError"),
        ("import nothing_of_that_name", "score", "cannot be loaded: ModuleNotFoundError"),
        ("", "", "must be file:PATH.py:FUNCTION"),
    ],
)
def test_a_file_that_has_no_reward_is_told_before_training(tmp_path, content, function, message):
    file = tmp_path / "reward.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=message):
        build_rewards([f"file:{file}:{function}"], RESOURCES)


class Server(HTTPServer):
    """Answers with what `answers` says next: a status and a body, or a function of the document."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers: list[Any] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/score"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(document)
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        status, body = answer(document) if callable(answer) else answer
        try:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())
        except OSError:
            pass  # the client did not wait

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield found
        found.shutdown()


def test_a_server_is_sent_json_and_answers_with_numbers(server):
    server.answers = [lambda asked: (200, json.dumps({"rewards": [[len(t) for t in g] for g in asked["candidates"]]}))]
    assert scored(server.url) == [[10.0, 5.0], [14.0, 3.0]]
    assert server.asked == [
        {
            "images": ["1.jpg", "2.jpg"],
            "styles": ["Dry", "Sweet"],
            "candidates": [["a dog runs", "a dog"], ["so sweet a cat", "cat"]],
            "ended": [[True, False], [True, True]],
            "references": [["a dog runs"], ["my cat"]],
            "soft_references": [[], []],
        }
    ]


def asking(server: Server, **settings: Any) -> Any:
    reward = HttpReward(server.url, **({"timeout_s": 5.0, "retries": 2, "pause_s": 0.01} | settings))
    with RewardCalculator({"it": reward}, {"it": 1.0}, workers=1) as calculator:
        return calculator.submit(CANDIDATES, *ASKED).result()


def test_a_request_that_failed_is_repeated(server):
    server.answers = [(503, "wait"), (500, "wait"), (200, "[[1, 2], [3, 4]]")]
    assert asking(server).total.tolist() == [[1, 2], [3, 4]]
    server.answers, server.asked = [(503, "wait")], []
    with pytest.raises(ValueError, match=r"did not answer, asked 3 times.*503"):
        asking(server)
    assert len(server.asked) == 3


def test_a_server_that_is_silent_is_not_waited_for(server):
    def slow(_: Any) -> tuple[int, str]:
        time.sleep(1.0)
        return 200, "[[1, 2], [3, 4]]"

    server.answers = [slow]
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"did not answer, asked 1 times.*http_timeout_s"):
        asking(server, timeout_s=0.1, retries=0)
    assert time.perf_counter() - started < 0.9


@pytest.mark.parametrize("answer", ["no json", '{"scores": 1}', "[[1, 2]]", "[[1], [2]]", '[["1", 2], [3, 4]]', "7"])
def test_an_answer_that_is_no_table_of_numbers_is_an_error_at_once(server, answer):
    server.answers = [(200, answer)]
    with pytest.raises(ValueError, match="must answer with a list of a list of numbers"):
        asking(server)
    assert len(server.asked) == 1


def test_a_number_that_is_not_finite_is_an_error(server):
    server.answers = [(200, "[[1, NaN], [3, 4]]")]
    with pytest.raises(ValueError, match="must be a finite number"):
        asking(server)


def test_a_package_brings_rewards(tmp_path, monkeypatch):
    (tmp_path / "their_rewards.py").write_text(
        "def build(resources):\n    return lambda batch: [[7.0 for _ in group] for group in batch.candidates]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("theirs", "their_rewards:build", outside.GROUP), EntryPoint("lost", "gone:x", outside.GROUP)]
    monkeypatch.setattr(outside, "entry_points", lambda group, name=None: [p for p in points if name in (None, p.name)])
    assert scored("theirs") == [[7.0, 7.0], [7.0, 7.0]]
    with pytest.raises(ValueError, match="lost of gone:x cannot be loaded"):
        build_rewards(["lost"], RESOURCES)
    with pytest.raises(ValueError, match="did you mean theirs"):
        build_rewards(["their"], RESOURCES)


def test_unknown_names_are_told_what_there_is():
    with pytest.raises(ValueError, match=r"did you mean cider-d\?.*file:PATH.py:FUNCTION"):
        build_rewards(["cider"], RESOURCES)
