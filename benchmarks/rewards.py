"""Seconds to score 320 candidates with CIDEr-D, ours beside Java's tokenizer + ModelScope's ciderD; prints JSON.

Both start from raw captions and a document-frequency table in memory, in one process, turn about, on fresh candidates
in every round. `java` tokenizes candidates and references, as SCST code does at every step; `java_candidates` has its
references tokenized beforehand, as ours has: the reward calculator remembers them.

    python benchmarks/rewards.py [--rounds 7]
"""

import argparse
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.cider import DocumentFrequency
from metrics.ptb_tokenizer import ptb_tokenize
from rewards.document_frequency import write_table
from rewards.text import CiderDReward
from tests.metrics.originals import modelscope_cider_d

IMAGES, CANDIDATES, REFERENCES, CORPUS = 64, 5, 5, 2000
WHO = "a dog|two dogs|a man|the woman|a young boy|children|an old couple|a girl's friend".split("|")
WHAT = "runs through|is jumping over|sits quietly on|can't stop looking at|plays in|dances near|walks along".split("|")
WHERE = "the green grass|a muddy field|the red-brick wall|a busy street|the snow|an empty beach|the lake".split("|")
HOW = "with joy|in search of love|like a superhero|to meet his lover|on a sunny day|, feeling free|'til dawn".split("|")


def caption(generator: random.Random) -> str:
    return " ".join(generator.choice(part) for part in (WHO, WHAT, WHERE, HOW)).capitalize() + "."


def seconds(task: Callable[[], list[float]]) -> tuple[float, list[float]]:
    start = time.perf_counter()
    scores = task()
    return time.perf_counter() - start, scores


def java_tokens(captions: list[str]) -> list[str]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokens = PTBTokenizer().tokenize({row: [{"caption": one}] for row, one in enumerate(captions)})
    return [tokens[row][0] for row in range(len(captions))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each way (default 7)")
    rounds = parser.parse_args().rounds
    generator = random.Random(0)
    raw = [[caption(generator) for _ in range(REFERENCES)] for _ in range(CORPUS)]
    table = DocumentFrequency.of([ptb_tokenize(references) for references in raw])
    reward = CiderDReward(table)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.p"
        write_table(path, table)
        theirs = modelscope_cider_d(df=str(path))

    raw_references = [one for one in raw[:IMAGES] for _ in range(CANDIDATES)]
    references = [ptb_tokenize(one) for one in raw_references]
    keyed = dict(enumerate(references))

    def ours(captions: list[str]) -> list[float]:
        tokens = ptb_tokenize(captions)
        groups = [tokens[row : row + CANDIDATES] for row in range(0, len(tokens), CANDIDATES)]
        return reward.score(groups, references[::CANDIDATES]).ravel().tolist()

    def original(captions: list[str], of: dict[int, list[str]]) -> list[float]:
        results = [{"image_id": row, "caption": [tokens]} for row, tokens in enumerate(java_tokens(captions))]
        return list(theirs.compute_score(of, results)[1])

    def original_all(captions: list[str]) -> list[float]:
        tokens = java_tokens([one for of_image in raw_references for one in of_image])
        of = {row: tokens[row * REFERENCES : (row + 1) * REFERENCES] for row in keyed}
        return original(captions, of)

    expected: list[float] = []
    times: dict[str, list[float]] = {"ours": [], "java_candidates": [], "java": []}
    apart = 0.0
    for _ in range(rounds):
        captions = [caption(generator) for _ in references]
        for name, score in (
            ("ours", lambda captions=captions: ours(captions)),
            ("java_candidates", lambda captions=captions: original(captions, keyed)),
            ("java", lambda captions=captions: original_all(captions)),
        ):
            took, scores = seconds(score)
            times[name].append(took)
            expected = scores if name == "ours" else expected
            apart = max(apart, *(abs(a - b) for a, b in zip(scores, expected, strict=True)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(
        json.dumps(
            {
                "candidates": len(references),
                "references_each": REFERENCES,
                "seconds": medians,
                "times_as_fast": {name: medians[name] / medians["ours"] for name in ("java_candidates", "java")},
                "largest_difference": apart,
                "machine": platform.processor() or platform.machine(),
                "python": platform.python_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
