import json
import re
import stat
import sys
import time
from pathlib import Path

import pytest

from evaluation import java
from evaluation.caption_scores import score_captions, score_styles
from tests.conftest import needs_java

CANDIDATES = ["a dog is running", "two cats sleep on a sofa", "a man"]
REFERENCES = [["the dog is running", "a dog runs"], ["cats sleeping on the couch"], ["a woman rides a horse"]]
SUBSETS = {"Sweet": [0, 2], "Cynical": [1]}

METEOR = """
for line in sys.stdin:
    head, *parts = line.rstrip("\\n").split(" ||| ")
    if head == "SCORE":
        print(len(parts[-1].split()), len(parts) - 1)
    else:  # a score of each: words by ten; of all: their sum
        words = [int(part.split()[0]) for part in parts]
        for word in [*words, sum(words)]:
            print(word / 10)
    sys.stdout.flush()
"""
SPICE = """
given, found = sys.argv[-4], sys.argv[-2]
assert sys.argv[-3:-1:2] == ["-out"] and "-Duser.language=en" in sys.argv, sys.argv
scores = [
    {"image_id": pair["image_id"], "scores": {"All": {"f": len(pair["test"].split()) / 10}}}
    for pair in json.load(open(given))
]
scores[-1]["scores"]["All"]["f"] = float("nan")
json.dump(scores[::-1], open(found, "w"))
"""


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    """A jar that is there, with the CoreNLP jars beside it."""
    (tmp_path / "lib").mkdir()
    for name in java.CORENLP_JARS:
        (tmp_path / "lib" / name).touch()
    path = tmp_path / "some.jar"
    path.touch()
    return path


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program called `java` on the PATH that runs the given Python."""

    def install(program: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        script = folder / "java"
        script.write_text(f"#!{sys.executable} -S\nimport json, os, sys, time\n{program}")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))

    return install


def test_meteor_in_one_conversation(fake_java, jar: Path) -> None:
    fake_java(METEOR)
    scores = java.meteor(CANDIDATES, REFERENCES, SUBSETS, java.Limits(20), jar=jar)
    assert (scores.overall, scores.each) == (1.2, [0.4, 0.6, 0.2])
    assert scores.subsets == {"Sweet": pytest.approx(0.6), "Cynical": 0.6}


def test_spice_reads_scores_by_id_and_counts_nan_as_zero(fake_java, jar: Path) -> None:
    fake_java(SPICE)
    scores = java.spice(CANDIDATES, REFERENCES, SUBSETS, java.Limits(20), jar=jar)
    assert scores.each == [0.4, 0.6, 0.0]
    assert scores.overall == pytest.approx(1 / 3)
    assert scores.subsets == {"Sweet": pytest.approx(0.2), "Cynical": 0.6}
    assert scores.why_not is None


def test_java_is_told_how_much_memory_it_may_take(fake_java, jar: Path) -> None:
    for metric, program in ((java.meteor, METEOR), (java.spice, SPICE)):
        fake_java(f"assert '-Xmx3G' in sys.argv, sys.argv\n{program}")
        assert metric(CANDIDATES, REFERENCES, SUBSETS, java.Limits(20, memory_gb=3), jar=jar).why_not is None


@pytest.mark.parametrize(("metric", "program"), [(java.meteor, METEOR), (java.spice, SPICE)])
def test_pairs_that_are_known_are_not_asked_again(fake_java, jar: Path, tmp_path: Path, metric, program: str) -> None:
    """The stand-in notes what it is asked; what is asked twice in one list is asked once."""
    asked = tmp_path / "asked"
    note = f"note = open({str(asked)!r}, 'a')\n"
    line = "        print(len(parts[-1]" if metric is java.meteor else "scores = ["
    counted = "note.write(line)" if metric is java.meteor else "note.write(open(given).read())"
    indent = line[: len(line) - len(line.lstrip())]
    fake_java(note + program.replace(line, f"{indent}{counted}\n{line}"))
    cache: java.Cache = {}
    once = metric(CANDIDATES, REFERENCES, SUBSETS, java.Limits(20), cache, jar=jar)
    assert len(cache) == 3
    size = asked.stat().st_size
    assert metric(CANDIDATES, REFERENCES, SUBSETS, java.Limits(20), cache, jar=jar) == once
    assert asked.stat().st_size == size
    other = metric(["a new caption", *CANDIDATES], [["a"], *REFERENCES], {}, java.Limits(20), cache, jar=jar)
    assert other.each[1:] == once.each
    assert "cats" not in asked.read_text()[size:]


def test_a_jvm_that_fails_leaves_the_cache_alone(fake_java, jar: Path) -> None:
    cache: java.Cache = {}
    fake_java("sys.exit(1)")
    for metric in (java.meteor, java.spice):
        assert metric(CANDIDATES, REFERENCES, SUBSETS, java.Limits(20), cache, jar=jar).why_not
    assert cache == {}


@pytest.mark.parametrize("metric", [java.meteor, java.spice])
@pytest.mark.parametrize(
    ("program", "limit", "reason"),
    [
        ("time.sleep(60)", 0.5, r"not done within 0\.5 s; raise the limit"),
        ("os.kill(os.getpid(), 9)", 20, r"stopped early \(exit code -9\), saying: nothing"),
        (
            "print('Exception: no memory', file=sys.stderr); sys.exit(3)",
            20,
            "exit code 3.*saying: Exception: no memory",
        ),
        ("sys.stderr.write('x' * 10**6); sys.exit(1)", 20, "stopped early"),
    ],
)
def test_a_jvm_that_fails_costs_only_its_own_score(
    fake_java, jar: Path, caplog: pytest.LogCaptureFixture, metric, program: str, limit: float, reason: str
) -> None:
    fake_java(program)
    start = time.monotonic()
    many = [f"{candidate} {row}" for row in range(2000) for candidate in CANDIDATES]
    scores = metric(many, REFERENCES * 2000, SUBSETS, java.Limits(limit), jar=jar)
    assert time.monotonic() - start < 15
    assert (scores.overall, scores.each, scores.subsets) == (None, None, {})
    assert scores.why_not
    assert re.search(reason, scores.why_not)
    assert [record.getMessage() for record in caplog.records] == [scores.why_not]
    assert "\n" not in scores.why_not


def test_what_is_no_score_is_said(fake_java, jar: Path) -> None:
    fake_java(METEOR.replace("print(word / 10)", "print('much')"))
    assert "no score" in (java.meteor(CANDIDATES, REFERENCES, {}, java.Limits(20), jar=jar).why_not or "")
    fake_java(SPICE.replace("scores[::-1]", "scores[1:]"))
    assert "cannot be read" in (java.spice(CANDIDATES, REFERENCES, {}, java.Limits(20), jar=jar).why_not or "")


def test_without_java_and_without_jars(jar: Path, fake_java, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(SPICE)
    (jar.parent / "lib" / java.CORENLP_JARS[1]).unlink()
    why_not = java.spice(CANDIDATES, REFERENCES, {}, java.Limits(20), jar=jar).why_not or ""
    assert "stanford-corenlp-3.6.0-models.jar missing" in why_not
    assert "stanford-corenlp-3.6.0.jar" not in why_not
    assert java.GET_CORENLP in why_not
    assert "reinstall" in (
        java.meteor(CANDIDATES, REFERENCES, {}, java.Limits(20), jar=jar.parent / "no.jar").why_not or ""
    )
    monkeypatch.setenv("PATH", "/nowhere")
    for metric in (java.meteor, java.spice):
        assert "install a JVM" in (metric(CANDIDATES, REFERENCES, {}, java.Limits(20), jar=jar).why_not or "")


def test_scores_without_java_keep_their_other_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = score_captions(CANDIDATES, REFERENCES, scorer="stylecap", meteor=True, spice=True, java_timeout_s=20)
    assert result.scores["METEOR"] is result.scores["SPICE"] is None
    assert result.scores["CIDEr"]
    assert [note.split()[0] for note in result.notes] == ["METEOR", "SPICE"]
    assert json.loads(json.dumps(result.scores))["METEOR"] is None


@needs_java
def test_meteor_by_its_jar() -> None:
    # From pycocoevalcap's Meteor on the same captions and, for style S, on its two alone.
    each = [0.4535606800758789, 0.35129069314646355, 0.040201005025125636]
    result = score_styles(
        CANDIDATES, REFERENCES, ["S", "C", "S"], scorer="stylecap", meteor=True, spice=False, java_timeout_s=120
    )
    assert result.overall.each["METEOR"] == pytest.approx(each, abs=1e-9)
    assert result.overall.scores["METEOR"] == pytest.approx(0.26591919329077923, abs=1e-9)
    assert result.styles["S"].scores["METEOR"] == pytest.approx(0.21288898585953223, abs=1e-9)
    assert result.styles["C"].each["METEOR"] == pytest.approx(each[1:2], abs=1e-9)
