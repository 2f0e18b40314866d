"""Many pictures from anywhere into a file of lines, which goes on where it stopped."""

import json
import zipfile
from pathlib import Path

import pytest

import finetune
from tasks.captioning.bulk import Found, caption_all, find_pictures
from tasks.captioning.captioner import Captioner
from tasks.captioning.pictures import Written
from tests.nano_run import SEARCH, nano_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bulk")
    nano_run(root)
    return root


@pytest.fixture(scope="module")
def captioner(root: Path) -> Captioner:
    return Captioner.from_directory(root / "run" / "checkpoints" / "best", device="cpu")


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_folder_a_zip_a_pattern_and_a_list(root: Path, tmp_path: Path) -> None:
    images = root / "images"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(images / "0.png", "below/0.png")
        file.writestr("note.txt", "no picture")
    (tmp_path / "list.txt").write_text(f"{images}/1.png\n\n{images}/[23].png\n")
    found = list(find_pictures([str(tmp_path / "a.zip"), str(tmp_path / "list.txt")]))
    assert found == [Found(str(tmp_path / "a.zip"), "below/0.png"), *(Found(f"{images}/{n}.png") for n in (1, 2, 3))]
    assert [Path(one.path).name for one in find_pictures([str(images)])] == [f"{n}.png" for n in range(6)]
    (tmp_path / "none").mkdir()
    for source, message in ((tmp_path / "none", "no pictures"), ("*.gone", "no pictures"), ("gone.txt", "the list")):
        with pytest.raises(ValueError, match=message):
            list(find_pictures([str(source)]))
    (tmp_path / "b.zip").write_text("no zip")
    with pytest.raises(ValueError, match="cannot read the zip file"):
        list(find_pictures([str(tmp_path / "b.zip")]))


def test_one_bad_line_of_a_list_is_a_picture_that_cannot_be_read(root: Path, tmp_path: Path) -> None:
    image = f"{root}/images/1.png"
    (tmp_path / "bad.zip").write_text("no zip")
    names = ["gone[1].jpg", str(tmp_path / "bad.zip"), str(tmp_path / "list.txt"), "half\0name.jpg"]
    (tmp_path / "list.txt").write_text("\n".join([*names, image]))
    assert list(find_pictures([str(tmp_path / "list.txt")])) == [*map(Found, names), Found(image)]


class Quick:
    """A captioner that writes at once, for numbers of pictures that no test has time for."""

    styles = ("Sweet",)

    def __init__(self, captioner: Captioner) -> None:
        self.canonical, self.check, self.transform = captioner.canonical, captioner.check, captioner.transform
        self.passes = 0

    def caption_pictures(self, asked: list) -> list:
        self.passes += 1
        return [[[Written("a dog", 0.0, True)] for _ in styles] for _, styles in asked]


def test_a_list_of_many_goes_on_and_counts_pictures_a_second(
    root: Path, tmp_path: Path, captioner: Captioner, capsys: pytest.CaptureFixture[str]
) -> None:
    content, out = (root / "images" / "0.png").read_bytes(), tmp_path / "lines.jsonl"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for number in range(300):
            file.writestr(f"{number:03}.png", content[:40] if number % 100 == 50 else content)
    (tmp_path / "list.txt").write_text("\n".join([f"{tmp_path}/a.zip", *(f"gone{n}.jpg" for n in range(20_000))]))
    quick = Quick(captioner)
    counts = caption_all(quick, [str(tmp_path / "list.txt")], out, styles=None, batch_size=50)  # type: ignore[arg-type]
    assert counts == {"captioned": 297, "failed": 20_003, "there_already": 0}
    assert quick.passes == 6  # of 50 pictures; what cannot be read costs none
    assert "img/s" in capsys.readouterr().err
    whole = out.read_text()
    out.write_text("".join(whole.splitlines(keepends=True)[:250]))
    counts = caption_all(quick, [str(tmp_path / "list.txt")], out, styles=None, batch_size=50)  # type: ignore[arg-type]
    assert counts == {"captioned": 49, "failed": 20_001, "there_already": 250}
    assert out.read_text() == whole


def test_lines_are_what_the_captioner_says_and_one_bad_picture_is_a_line(
    root: Path, tmp_path: Path, captioner: Captioner
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(root / "images" / "5.png", "below/5.png")
    sources = [f"{root}/images/0.png", str(tmp_path / "bad.png"), "gone.png", str(tmp_path / "a.zip")]
    out = tmp_path / "out" / "lines.jsonl"
    counts = caption_all(captioner, sources, out, styles=["sweet", "Humorous"], batch_size=4)
    assert counts == {"captioned": 2, "failed": 2, "there_already": 0}
    first, bad, gone, zipped = lines(out)
    files = [root / "images" / "0.png", root / "images" / "5.png"]
    expected = captioner.caption(files, styles=["Sweet", "Humorous"])
    assert first == {"image": f"{root}/images/0.png", "captions": expected[0]}
    assert zipped == {"image": f"{tmp_path}/a.zip/below/5.png", "captions": expected[1]}
    assert bad == {"image": str(tmp_path / "bad.png"), "error": "not an image"}
    assert gone == {"image": "gone.png", "error": "No such file or directory"}


def test_a_run_goes_on_where_it_stopped(root: Path, tmp_path: Path, captioner: Captioner) -> None:
    out = tmp_path / "lines.jsonl"
    caption_all(captioner, [f"{root}/images"], out, styles=["Sweet"], batch_size=2)
    whole = out.read_text()
    rows = whole.splitlines(keepends=True)
    out.write_text("".join(rows[:3]) + rows[3][:20])
    counts = caption_all(captioner, [f"{root}/images"], out, styles=["Sweet"], batch_size=2)
    assert counts == {"captioned": 3, "failed": 0, "there_already": 3}
    assert out.read_text() == whole
    with pytest.raises(ValueError, match="line 1 has other styles"):
        caption_all(captioner, [f"{root}/images"], out, styles=["Cynical"], batch_size=2)
    (tmp_path / "other.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="line 1 is no line of captions"):
        caption_all(captioner, [f"{root}/images"], tmp_path / "other.jsonl", styles=None, batch_size=2)
    with pytest.raises(ValueError, match="did you mean Sweet"):
        caption_all(captioner, [f"{root}/images"], tmp_path / "new.jsonl", styles=["Swet"], batch_size=2)


def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(root / "run" / "checkpoints" / "best"), str(tmp_path / "x.jsonl")
    command = ["caption", model, f"{root}/images", "--out", out, "--style", "Sweet,Cynical", "--device", "cpu"]
    assert finetune.main(command) == 0
    assert json.loads(capsys.readouterr().out) == {"captioned": 6, "failed": 0, "there_already": 0}
    assert all(list(line["captions"]) == ["Sweet", "Cynical"] for line in lines(Path(out)))


def test_inference_of_a_run_writes_the_same_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], captioner: Captioner
) -> None:
    nano_run(tmp_path)
    sections = {"train": "train.json", "val": "val.json", "image_dir": "images", "styles": "styles.txt"}
    data = {name: str(tmp_path / file) for name, file in sections.items()} | {"image_suffix": ".png", "num_workers": 0}
    conf = {"work_dir": str(tmp_path / "run"), "model": {"preset": "tiny", "vocabulary": "train"}, "data": data}
    conf |= {"train": {"dtype": "float32"}, "eval": SEARCH | {"batch_size": 4}}
    (tmp_path / "mine.json").write_text(json.dumps(conf))
    out = tmp_path / "x.jsonl"
    command = ["--conf", str(tmp_path / "mine.json"), "inference", "--out", str(out), "--style", "Sweet"]
    assert finetune.main([*command, "--image", f"{tmp_path}/images", "gone.jpg"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out) == {"captioned": 6, "failed": 1, "there_already": 0}
    files = [tmp_path / "images" / f"{n}.png" for n in range(6)]
    expected = captioner.caption(files, styles=["Sweet"])
    assert [line["captions"] for line in lines(out)[:6]] == expected
    assert lines(out)[6] == {"image": "gone.jpg", "error": "No such file or directory"}
    for wrong, message in (
        (["--random", "3"], "--out goes with --image, not with --random"),
        (["--image", "a.jpg", "--output", "x"], "--out goes with --image, not with --output"),
    ):
        assert finetune.main([*command, *wrong]) == 2
        assert message in capsys.readouterr().err
