"""The results of all runs, queried and tabulated."""

import csv
import io
import json
from pathlib import Path

import pytest

import finetune
from evaluation.results import read_results, to_csv, to_lines


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, cider, objective in (("a", 0.5, "cross-entropy"), ("b", 0.75, "cross-entropy"), ("deep/c", 2.0, "scst")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        style = {"Sweet": {"CIDEr": cider}}
        (folder / "metrics.json").write_text(json.dumps({"CIDEr": cider, "METEOR": None, "per_style": style}))
        (folder / "conf.json").write_text(json.dumps({"train": {"objective": objective, "adam_betas": [0.9, 0.98]}}))
    (tmp_path / "runs" / "unfinished").mkdir()
    return tmp_path / "runs"


def test_every_evaluated_run_is_found_with_its_configuration(runs: Path):
    found = read_results(runs)
    assert [row["run"] for row in found] == [str(runs / name) for name in ("a", "b", "deep/c")]
    assert found[0]["CIDEr"] == 0.5
    assert found[2]["conf"]["train"]["objective"] == "scst"
    (runs / "a" / "conf.json").unlink()
    assert read_results(runs)[0]["conf"] is None


def test_results_writes_a_line_a_run_or_what_jq_makes_of_them(runs: Path, capsys):
    assert finetune.main(["results", str(runs)]) == 0
    assert [json.loads(line)["CIDEr"] for line in capsys.readouterr().out.splitlines()] == [0.5, 0.75, 2]
    best = 'map(select(.conf.train.objective == "cross-entropy")) | max_by(.CIDEr) | .run'
    assert finetune.main(["results", str(runs), "--jq", best]) == 0
    assert capsys.readouterr().out == f"{runs}/b\n"
    assert finetune.main(["results", str(runs), "--jq", ".[] | select(.CIDEr > 9)"]) == 0
    assert capsys.readouterr().out == ""


def test_a_table_of_runs(runs: Path, capsys):
    assert finetune.main(["results", str(runs), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["per_style.Sweet.CIDEr"] for row in rows] == ["0.5", "0.75", "2"]
    assert {row["METEOR"] for row in rows} == {""}
    assert {row["conf.train.adam_betas"] for row in rows} == {"[0.9, 0.98]"}


def test_csv_takes_rows_or_a_list_of_rows_and_nothing_else():
    assert to_csv([{"a": "x, y", "b": True}, {"b": None, "c": 1}]) == 'a,b,c\n"x, y",true,\n,,1'
    assert to_csv([[{"a": 1}, {"a": 2}]]) == "a\n1\n2"
    with pytest.raises(ValueError, match="--csv wants objects.*3"):
        to_csv([3])
    assert to_lines(["a b", 1.5, {"é": None}]) == 'a b\n1.5\n{"é": null}'


def test_what_cannot_be_read_is_named(runs: Path):
    (runs / "a" / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"a/metrics\.json is not JSON"):
        read_results(runs)
    (runs / "a" / "metrics.json").write_text("[]")
    with pytest.raises(ValueError, match=r"a/metrics\.json holds no JSON object"):
        read_results(runs)
    with pytest.raises(ValueError, match="nowhere is no folder"):
        read_results("nowhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results", "--jq", ".[", "."], "the jq program"),
        (["--conf", "x.json", "results"], "results reads no configuration: leave --conf out"),
        (["--set", "seed=1", "results"], "leave --set out"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert finetune.main(arguments) == 2
    assert message in capsys.readouterr().err
