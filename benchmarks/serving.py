"""Load on `finetune.py serve`: many clients at once against the same requests one by one.

    python benchmarks/serving.py MODEL_DIR IMAGE_DIR --clients 200 --seconds 60

Prints one line of JSON: answers a second, latencies, the server's memory at the start, in the middle and at the end;
what was refused (429, 504), lost (no answer came) or mixed up (not the answer to its own picture).
"""

import argparse
import base64
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_SAME = 1e-3  # of a score, in whatever company its picture was captioned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--alone", type=float, default=10, help="seconds of requests one by one")
    parser.add_argument("--port", type=int, default=7899)
    args = parser.parse_args()
    command = [sys.executable, "finetune.py", "serve", str(args.model.resolve()), "--port", str(args.port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        print(json.dumps(measure(server.pid, args)))
    finally:
        server.terminate()
        server.wait()


def measure(server: int, args: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    ask = asker(args.port)
    wait_for(args.port)
    bodies = requests_of(args.images, args.port, ask)
    known: dict[int, tuple[str, float]] = {}
    alone: list[float] = []
    end = time.monotonic() + args.alone
    while time.monotonic() < end or len(known) < len(bodies):
        number = len(alone) % len(bodies)
        start = time.monotonic()
        _, known[number] = ask(bodies[number])
        alone.append(time.monotonic() - start)
    memory = [resident_mb(server)]
    found = together(args.port, bodies, args.clients, args.seconds, lambda: memory.append(resident_mb(server)))
    answered = [one for one in found if one[1] == 200]
    mixed = [one for one in answered if not same(one[2], known[one[0]])]
    times = sorted(seconds for *_, seconds in answered)
    rate, rate_alone = len(answered) / args.seconds, len(alone) / sum(alone)
    return {
        "clients": args.clients,
        "seconds": args.seconds,
        "images": len(bodies),
        "answers": len(answered),
        "refused": sum(status not in (0, 200) for _, status, *_ in found),
        "lost": sum(status == 0 for _, status, *_ in found),
        "mixed_up": len(mixed),
        "per_second": round(rate, 1),
        "per_second_one_by_one": round(rate_alone, 1),
        "times_faster": round(rate / rate_alone, 2),
        "latency_s": {f"p{share}": round(times[len(times) * share // 100], 3) for share in (50, 95, 99)},
        "memory_mb": {"start": memory[0], "middle": memory[len(memory) // 2], "end": memory[-1], "most": max(memory)},
    }


Answer = tuple[str, float]


def same(first: Answer | None, second: Answer) -> bool:
    return first is not None and first[0] == second[0] and abs(first[1] - second[1]) < _SAME


def asker(port: int) -> Callable[[dict[str, Any]], tuple[int, Answer]]:
    """A client with a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(body: dict[str, Any]) -> tuple[int, Any]:
        connection.request("POST", "/v1/captions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != 200:
            return answer.status, None
        row = content["captions"][0]
        return 200, (row["caption"], row["score"])

    return ask


def wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server does not start")


def requests_of(folder: Path, port: int, ask: Any) -> list[dict[str, Any]]:
    """Requests of different answers: of pictures that look alike to the model, one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/v1/models")
    styles = json.loads(connection.getresponse().read())["data"][0]["styles"]
    bodies: list[dict[str, Any]] = []
    seen: set[float] = set()
    for number, file in enumerate(sorted(folder.iterdir())[:64]):
        url = f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}"
        body = {"image": url, "styles": [styles[number % len(styles)]]}
        _, (_, score) = ask(body)
        if round(score, 3) not in seen:
            seen.add(round(score, 3))
            bodies.append(body)
    return bodies


def together(
    port: int, bodies: Sequence[dict[str, Any]], clients: int, seconds: float, each_second: Callable[[], Any]
) -> list[tuple[int, int, Answer | None, float]]:
    """(request, status, answer, seconds) of everything that so many clients ask at once, each again when answered."""
    found: list[tuple[int, int, Answer | None, float]] = []
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        ask = asker(port)
        while time.monotonic() < end:
            number = (number + 7) % len(bodies)
            start = time.monotonic()
            try:
                status, answer = ask(bodies[number])
            except (OSError, http.client.HTTPException):
                status, answer, ask = 0, None, asker(port)
            found.append((number, status, answer, time.monotonic() - start))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(1)
        each_second()
    for thread in threads:
        thread.join()
    return found


def resident_mb(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


if __name__ == "__main__":
    main()
