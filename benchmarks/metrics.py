"""Seconds and memory to score captions without METEOR and SPICE, ours beside pycocoevalcap; prints JSON.

BLEU, ROUGE-L and CIDEr of raw captions with five references each, by `score_captions`: with this project's scorers, and
with PTBTokenizer (Java), Bleu, Rouge and Cider as they come. Each way runs in a process of its own, turn about, on the
same generated captions; memory is that process's peak beyond what it had before scoring.

    python -m benchmarks.metrics [--captions 10000] [--rounds 3]
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.rewards import REFERENCES, caption

SCORERS = ("stylecap", "pycocoevalcap")


def measure(scorer: str, captions: int) -> dict[str, float]:
    """One way, in this process: seconds, MB, and the scores."""
    from evaluation.caption_scores import score_captions

    generator = random.Random(0)
    predictions = [caption(generator) for _ in range(captions)]
    references = [[caption(generator) for _ in range(REFERENCES)] for _ in range(captions)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = score_captions(predictions, references, scorer=scorer, meteor=False, spice=False, java_timeout_s=600)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scores = {name: score for name, score in found.scores.items() if score is not None}
    return {"seconds": seconds, "megabytes": (peak - before) / 1024, **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=10_000, help="default 10000")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way (default 3)")
    parser.add_argument("--scorer", choices=SCORERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.scorer:
        print(json.dumps(measure(args.scorer, args.captions)))
        return
    found: dict[str, list[dict[str, float]]] = {scorer: [] for scorer in SCORERS}
    for _ in range(args.rounds):
        for scorer in SCORERS:
            command = [sys.executable, "-m", "benchmarks.metrics", "--captions", str(args.captions), "--scorer", scorer]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            found[scorer].append(json.loads(done.stdout.splitlines()[-1]))
    report: dict[str, object] = {"captions": args.captions, "references": REFERENCES, "rounds": args.rounds}
    for scorer, rows in found.items():
        report[scorer] = {
            "seconds": round(statistics.median(row["seconds"] for row in rows), 2),
            "megabytes": round(max(row["megabytes"] for row in rows)),
        }
    ours, theirs = (rows[0] for rows in found.values())
    report["times_as_fast"] = round(
        statistics.median(other["seconds"] / own["seconds"] for own, other in zip(*found.values(), strict=True)),
        2,
    )
    report["largest_difference"] = max(abs(ours[name] - theirs[name]) for name in ours if name.startswith(tuple("BRC")))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
