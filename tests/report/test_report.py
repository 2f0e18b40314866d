"""The report: what stands on the page, that it needs nothing beside itself, and that a browser shows it."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import finetune
from config import Config
from report.page import context, write_report
from report.runs import read_runs
from report.tables import confusion
from tasks.captioning.task import TASK
from tasks.evaluating import run_evaluation
from tests.models.nano import STYLES
from tests.nano_run import CAPTIONS, nano_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "img", "br", "hr", "link", "input"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """An evaluated run with a history, a configuration and a control."""
    config = nano_run(tmp_path_factory.mktemp("report"), eval={"bootstrap": 50})
    run_evaluation(config)
    run_evaluation(config, control="constant")
    folder = Path(config.work_dir)
    (folder / "conf.json").write_text(json.dumps(config.to_dict()))
    history = [{"step": step, "loss": 5 / step, "lr": 1e-3, "reward/cider-d": step / 9} for step in range(1, 40)]
    lines = [json.dumps(row) for row in [*history, {"step": 39, "val/CIDEr": 0.4}]]
    (folder / "history.jsonl").write_text("\n".join([*lines, '{"step": 40, "lo']))
    return config


def copy_of(run: Config, folder: Path, **conf: Any) -> Path:
    """Another run: the same captions, but in order the last style's caption for every style."""
    shutil.copytree(run.work_dir, folder, ignore=shutil.ignore_patterns("checkpoints"))
    document = json.loads((folder / "conf.json").read_text())
    document["train"] |= conf
    (folder / "conf.json").write_text(json.dumps(document))
    return folder


class Page(HTMLParser):
    """Reads a page: its text, what it links to, and whether every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_holds_all_that_a_run_has(run: Config):
    path = write_report([run.work_dir], captions=2, replicates=50, describe=TASK.card)
    assert path == Path(run.work_dir) / "report.html"
    page = Page(path)
    assert page.open == []
    metrics = json.loads((Path(run.work_dir) / "metrics.json").read_text())
    low, high = metrics["intervals"]["CIDEr"]
    assert f"CIDEr {100 * metrics['CIDEr']:.1f} {100 * low:.1f} to {100 * high:.1f}" in page.text
    for words in ("Per style", "Controls", "constant", "Training", "Loss", "Reward: cider-d", "Validation: CIDEr"):
        assert words in page.text
    assert all(style in page.text for style in STYLES)
    assert "style accuracy" in page.text
    assert '"train.lr"' in page.text
    prediction = json.loads((Path(run.work_dir) / "predictions.json").read_text())[0]
    assert CAPTIONS["Sweet"][0] in page.text
    assert prediction["caption"] in page.text
    shown = [link for link in page.links if link.startswith("data:image/jpeg;base64,")]
    assert len(shown) == 2 + 2 + 2  # the best, the worst, and the two images there are


def test_a_page_needs_nothing_beside_itself(run: Config, tmp_path: Path):
    path = write_report([run.work_dir], str(tmp_path / "deep" / "page.html"), replicates=50, describe=TASK.card)
    text = path.read_text()
    assert all(link.startswith(("data:", "#")) for link in Page(path).links)
    assert not re.search(r"@import|url\((?!#)", text)
    names = re.findall(r'<g id="([^"]+)"', text)
    assert len(names) == len(set(names))
    assert "currentColor" in text
    assert (
        write_report([run.work_dir], str(path), replicates=50, describe=TASK.card).read_text() == text
    )  # the same run, the same page


def test_several_runs_side_by_side(run: Config, tmp_path: Path):
    runs = [run.work_dir, *(str(copy_of(run, tmp_path / f"lr{lr}", lr=lr)) for lr in (1e-4, 1e-3))]
    predictions = json.loads((Path(runs[1]) / "predictions.json").read_text())
    for row in predictions:
        row["scores"]["CIDEr"] += 0.5
        row["caption"] = "<b>not & safe</b>"
    (Path(runs[1]) / "predictions.json").write_text(json.dumps(predictions))
    shown = context(read_runs(runs), 2, 50, describe=TASK.card)
    row = dict(shown["overall"]["Content"])["CIDEr"]
    assert [(cell.change, cell.real) for cell in row] == [("", False), ("+50.0", True), ("+0.0", False)]
    assert [key for key, _ in shown["settings"]] == ["train.lr"]
    assert [key for key, _ in shown["parameters"]] == ["train.lr"]
    path = write_report(runs, str(tmp_path / "page.html"), captions=2, replicates=50, describe=TASK.card)
    assert "<b>not" not in path.read_text()
    assert 'class="up">+50.0<' in path.read_text()
    other_way = write_report(runs[1::-1], str(tmp_path / "page2.html"), captions=2, replicates=50, describe=TASK.card)
    assert 'class="down">-50.0<' in other_way.read_text()
    page = Page(path)
    assert page.open == []
    assert all(name in page.text for name in ("run", "lr0.0001", "lr0.001", "what differs", "<b>not & safe</b>"))


def test_runs_of_other_captions_stand_side_by_side_without_differences(run: Config, tmp_path: Path):
    other = copy_of(run, tmp_path / "half")
    predictions = json.loads((other / "predictions.json").read_text())
    (other / "predictions.json").write_text(json.dumps(predictions[:3]))
    shown = context(read_runs([run.work_dir, str(other)]), 1, 20, describe=TASK.card)
    assert not any(cell.change for rows in shown["overall"].values() for _, cells in rows for cell in cells)


def test_a_run_without_history_configuration_and_pictures(run: Config, tmp_path: Path):
    """As `score` leaves it for another system's captions."""
    folder = tmp_path / "scored"
    folder.mkdir()
    for name in ("metrics.json", "predictions.json"):
        shutil.copy(Path(run.work_dir) / name, folder)
    predictions = json.loads((folder / "predictions.json").read_text())
    for row in predictions:
        row["image"] = str(tmp_path / "gone.jpg")
    (folder / "predictions.json").write_text(json.dumps(predictions))
    page = Page(write_report([str(folder)], replicates=20, describe=TASK.card))
    assert "no picture" in page.text
    assert "Training" not in page.text
    assert page.open == []


def test_two_hundred_styles_are_a_picture_and_the_pairs_most_mixed_up(run: Config, tmp_path: Path):
    other = copy_of(run, tmp_path / "many")
    metrics = json.loads((other / "metrics.json").read_text())
    counts = [[10 * (i == j) + 5 * (j == (i + 1) % 200) for j in range(215)] for i in range(215)]
    metrics["style"]["confusion"] = {"styles": [f"style {i}" for i in range(215)], "counts": counts}
    (other / "metrics.json").write_text(json.dumps(metrics))
    found = confusion(read_runs([other])[0])
    assert found is not None
    assert len(found.worst) == 15
    assert found.worst[0][2] == pytest.approx(1 / 3)
    page = Page(write_report([str(other)], replicates=20, describe=TASK.card))
    assert "style 1 style 2 33" in page.text
    assert any(link.startswith("data:image/png") for link in page.links)


def test_the_command_writes_a_page_and_says_where(run: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "page.html"
    assert finetune.main(["report", run.work_dir, "--output", str(output), "--bootstrap", "20"]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert output.exists()
    assert finetune.main(["report", str(tmp_path)]) == 2
    assert "evaluate this run first" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page(run: Config, tmp_path: Path, width: int):
    """On a phone and on a desk: nothing is fetched, nothing fails, and nothing is wider than the window."""
    assert CHROMIUM is not None
    path = write_report([run.work_dir], str(tmp_path / "page.html"), captions=2, replicates=20, describe=TASK.card)
    probe = (
        "<script>addEventListener('load', () => { const e = document.documentElement; document.title = JSON.stringify({"
        "wide: e.scrollWidth, window: innerWidth, pictures: [...document.images].every(i => i.naturalWidth > 0),"
        "plots: [...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().height > 50) }) })</script>"
    )
    path.write_text(path.read_text().replace("</body>", f"{probe}</body>"))
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},900"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--timeout=20000"]
    # The browser itself would look for updates.
    flags += ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"]
    done = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    seen = json.loads(title.group(1))
    assert seen["pictures"]
    assert seen["plots"]
    assert seen["wide"] <= max(seen["window"], width)
