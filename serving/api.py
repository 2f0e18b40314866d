"""The server's routes: a request in, an answer out; how they travel is `serving.web`'s."""

import hmac
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.reading import parse_json
from serving.asked import Refused, answer_ask, caption_ask, find_system, look_ask
from serving.batching import Ask, Batcher, Full
from serving.chat import chat_ask, completion, streamed
from serving.judging import Judges
from serving.systems import Captions, System

if TYPE_CHECKING:
    from tasks.captioning.looking import Looked
    from tasks.captioning.pictures import Written

PAGE = Path(__file__).parent / "page"
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
#: What anyone may have: the page itself, and whether the server lives.
_OPEN = (*_FILES, "/health")
_KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
#: Pictures decoded at the same time: each may be a hundred megabytes for a moment.
_DECODERS = 4


@dataclass(frozen=True)
class Request:
    """`gone`: whether the client has left."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    gone: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Api:
    """Answers requests with models; safe to call from many threads.

    Args:
        size: captions, or questions, of one pass of a model.
        limit: requests that may wait for a model; those beyond are refused with 429.
        seconds: a request may take, waiting included; beyond them it is refused with 504.
        key: what clients must send as a bearer token; None: nothing.
    """

    def __init__(
        self,
        systems: Mapping[str, System],
        *,
        size: int = 32,
        limit: int = 256,
        seconds: float = 60,
        key: str | None = None,
    ) -> None:
        self.systems, self.seconds, self.key = systems, seconds, key
        self.batchers = {name: Batcher(system.run, size=size, limit=limit) for name, system in systems.items()}
        self.started = time.time()
        self._decoding = threading.BoundedSemaphore(_DECODERS)
        self._counted: Counter[tuple[str, int]] = Counter()
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._routes: dict[str, tuple[str, Callable[[Request], Response]]] = {
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._metrics),
            "/v1/models": ("GET", self._models),
            "/v1/captions": ("POST", self._captions),
            "/v1/attention": ("POST", self._attention),
            "/v1/answers": ("POST", self._answers),
            "/v1/chat/completions": ("POST", self._chat),
        }

    def close(self) -> None:
        for batcher in self.batchers.values():
            batcher.close()

    def answer(self, request: Request) -> Response:
        """Never raises: a fault of ours is a response of status 500, logged where it happened."""
        start = time.monotonic()
        known = request.path in self._routes or request.path in _FILES
        try:
            response = self._route(request)
        except Refused as error:
            response = refusal(error.status, str(error))
        except Full as error:
            response = refusal(429, str(error), {"Retry-After": "1"})
        with self._lock:
            route = request.path if known else "other"
            self._counted[route, response.status] += 1
            self._taken[route] += time.monotonic() - start  # type: ignore[assignment]  # seconds, not a count
        return response

    def _route(self, request: Request) -> Response:
        if request.path not in _OPEN and not self._allowed(request):
            raise Refused(401, "an API key is needed: send it as Authorization: Bearer KEY")
        if request.path in _FILES and request.method == "GET":
            name, kind = _FILES[request.path]
            return Response(200, (PAGE / name).read_bytes(), kind)
        if request.path not in self._routes:
            raise Refused(404, f"there is no {request.path[:100]}: there is {', '.join(self._routes)}")
        method, run = self._routes[request.path]
        if request.method != method:
            raise Refused(405, f"{request.path} is asked with {method}")
        return run(request)

    def _allowed(self, request: Request) -> bool:
        if self.key is None:
            return True
        sent = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        return hmac.compare_digest(sent.encode("utf-8", "replace"), self.key.encode())

    # --- routes ------------------------------------------------------------------------------------------------------

    def _health(self, _: Request) -> Response:
        return _json({"status": "ok", "models": list(self.systems)})

    def _models(self, _: Request) -> Response:
        rows = []
        for name, system in self.systems.items():
            about = {"object": "model", "created": int(self.started), "owned_by": "stylecap"}
            rows.append({"id": name, **about, "task": system.task, "styles": list(system.styles), **_abilities(system)})
            rows += [{"id": f"{name}/{style}", **about} for style in system.styles]
        return _json({"object": "list", "data": rows})

    def _captions(self, request: Request) -> Response:
        body = _body(request)
        system, style = find_system(self.systems, body.get("model"))
        given = body.get("styles", [] if style is None else [style])
        with self._decoding:
            ask = caption_ask(system, body, body.get("image"), given)
        found = self._wait(system, ask, request)
        assert isinstance(system, Captions)
        judges = system.judges if body.get("judge") is True else None
        return _json({"model": system.name, "captions": caption_rows(found, judges)})

    def _attention(self, request: Request) -> Response:
        body = _body(request)
        system, style = find_system(self.systems, body.get("model"))
        with self._decoding:
            ask = look_ask(system, body, style)
        words = self._wait(system, ask, request)
        assert isinstance(system, Captions)
        return _json({"model": system.name, "area": system.area, "words": [_word(one) for one in words]})

    def _answers(self, request: Request) -> Response:
        body = _body(request)
        system, _ = find_system(self.systems, body.get("model"))
        images = body.get("images", [body["image"]] if "image" in body else [])
        if not isinstance(images, list):
            raise Refused(400, "images must be a list of data: URLs")
        with self._decoding:
            ask = answer_ask(system, body, images, body.get("question"))
        found = self._wait(system, ask, request)
        rows = [{"answer": answer, "probability": round(share, 4)} for answer, share in found]
        return _json({"model": system.name, "answers": rows})

    def _chat(self, request: Request) -> Response:
        body = _body(request)
        system, style = find_system(self.systems, body.get("model"))
        with self._decoding:
            ask, count = chat_ask(system, style, body)
        found = self._wait(system, ask, request)
        if system.task == "answers":
            texts = [(answer, True) for answer, _ in found[:count]]
        else:
            beams = next(iter(found.values()))
            texts = [(one.text, one.ended) for one in beams[:count]] or [("", False)]
        model = str(body.get("model") or system.name)
        if body.get("stream"):
            return Response(200, streamed(model, texts), "text/event-stream")
        return _json(completion(model, texts))

    def _metrics(self, _: Request) -> Response:
        """Prometheus' text."""
        lines = ["# TYPE stylecap_requests_total counter"]
        with self._lock:
            counted, taken = sorted(self._counted.items()), sorted(self._taken.items())
        lines += [f'stylecap_requests_total{{path="{path}",status="{code}"}} {n}' for (path, code), n in counted]
        lines.append("# TYPE stylecap_request_seconds_total counter")
        lines += [f'stylecap_request_seconds_total{{path="{path}"}} {seconds:.3f}' for path, seconds in taken]
        for name, kind in (("waiting", "gauge"), ("passes", "counter"), ("answered", "counter")):
            full = f"stylecap_{name}" + ("_total" if kind == "counter" else "")
            lines.append(f"# TYPE {full} {kind}")
            lines += [f"{full}{{model={json.dumps(m)}}} {getattr(b, name)}" for m, b in self.batchers.items()]
        return Response(200, ("\n".join(lines) + "\n").encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _wait(self, system: System, ask: Ask, request: Request) -> Any:
        """The answer; cancelled when time is up or the client has left."""
        end = time.monotonic() + self.seconds
        future: Future[Any] = self.batchers[system.name].submit(ask, self.seconds)
        while True:
            try:
                return future.result(timeout=max(0.0, min(0.25, end - time.monotonic())))
            except TimeoutError:
                if time.monotonic() >= end or request.gone():
                    future.cancel()
                    raise Refused(504, f"no answer within {self.seconds:g} s: ask for less, or later") from None
            except CancelledError:
                raise Refused(504, f"no answer within {self.seconds:g} s: ask for less, or later") from None
            except ValueError as error:
                raise Refused(400, str(error)) from None
            except Exception:  # the batcher has logged it
                raise Refused(500, "the server failed: its log says why") from None


def caption_rows(found: Mapping[str, Sequence["Written"]], judges: Judges | None) -> list[dict[str, Any]]:
    """A row a style: its best caption, all beams, and what judges of style say of it, where they are asked."""
    rows = []
    for name, beams in found.items():
        written = [{"text": one.text, "score": round(one.score, 4), "ended": one.ended} for one in beams]
        best = written[0] if written else {"text": "", "score": None, "ended": False}
        row = {"style": name, "caption": best["text"], "score": best["score"]}
        judged = {} if judges is None else judges.of(name, str(best["text"]))
        rows.append(row | judged | {"beams": written})
    return rows


def _word(looked: "Looked") -> dict[str, Any]:
    cells = looked.cells / max(float(looked.cells.max()), 1e-12)  # 1 where it looks most
    return {"word": looked.word, "share": round(looked.share, 4), "cells": cells.round(3).tolist()}


def _abilities(system: System) -> dict[str, Any]:
    """What a captioner can do beside captions."""
    return {"mixes": system.mixes, "judges": list(system.judges.by_name)} if isinstance(system, Captions) else {}


def refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in the form that OpenAI's clients read."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": reason, "type": kind, "param": None, "code": None}
    return Response(status, json.dumps({"error": error}).encode(), headers=headers or {})


def _json(content: Any) -> Response:
    return Response(200, json.dumps(content).encode())


def _body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the body must be JSON: send Content-Type: application/json")
    try:
        content = parse_json(request.body.decode("utf-8"))
    except ValueError as error:
        raise Refused(400, f"the body is no valid JSON ({str(error)[:200]})") from None
    if not isinstance(content, dict):
        raise Refused(400, "the body must be a JSON object")
    return content
