"""Exported models: what is in them, that they work, and what is refused when they come back."""

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import metadata_load

import finetune
from config import Config
from serving.hubs import push
from serving.sharing import export_run, import_archive, verify
from tasks.captioning.captioner import Captioner
from tasks.evaluating import run_evaluation
from tests.conftest import ROOT
from tests.models.nano import noisy_picture
from tests.nano_run import SEARCH, nano_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = nano_run(tmp_path_factory.mktemp("sharing"), eval={"bootstrap": 0})
    run_evaluation(config)
    folder = Path(config.work_dir)
    (folder / "conf.json").write_text(json.dumps(config.to_dict()))
    (folder / "checkpoints" / "best" / "training_state.pt").write_bytes(b"of no use to others")
    return config


def caption(folder: Path, config: Config) -> list[str]:
    from tasks.captioning.records import open_split

    samples = open_split(config, "val").requests()
    return Captioner.from_directory(folder).caption(samples, batch_size=4, progress=False, **SEARCH)


def test_a_folder_captions_as_the_run_does(run: Config, tmp_path: Path):
    folder = export_run(run.work_dir, str(tmp_path / "model"))
    assert caption(folder, run) == caption(Path(run.work_dir) / "checkpoints" / "best", run)
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "conf.json", "metrics.json", "document_frequency.pkl", "style_map.json"} <= names
    assert "training_state.pt" not in names
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_card_says_what_it_is_in_words_and_for_the_hubs(run: Config, tmp_path: Path):
    folder = export_run(run.work_dir, str(tmp_path / "model"), data_license="CC BY 4.0")
    text = (folder / "README.md").read_text()
    found = metadata_load(folder / "README.md")
    assert found is not None
    assert found["license"] == "other"
    metrics = json.loads((folder / "metrics.json").read_text())
    scores = {row["type"]: row["value"] for row in found["model-index"][0]["results"][0]["metrics"]}
    assert scores["cider"] == pytest.approx(100 * metrics["CIDEr"], abs=0.01)
    for words in ("CC BY 4.0", "no pretrained weights", "Sweet", f"{100 * metrics['CIDEr']:.1f}", "finetune.py"):
        assert words in text


def test_the_card_links_to_trackers(run: Config, tmp_path: Path):
    trackers = Path(run.work_dir) / "trackers.json"
    trackers.write_text(json.dumps({"wandb": {"id": "7", "url": "https://wandb.invalid/7"}, "mlflow": {"id": "8"}}))
    folder = export_run(run.work_dir, str(tmp_path / "model"))
    trackers.unlink()
    text = (folder / "README.md").read_text()
    assert "Followed in wandb: <https://wandb.invalid/7>" in text
    assert "mlflow" not in text


def test_an_archive_comes_back_as_it_was(run: Config, tmp_path: Path):
    folder = export_run(run.work_dir, str(tmp_path / "model"))
    archive = export_run(run.work_dir, str(tmp_path / "model.tar.gz"))
    back = import_archive(str(archive), str(tmp_path / "deep" / "back"))
    assert {p.name: p.read_bytes() for p in back.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert caption(back, run) == caption(folder, run)
    with tarfile.open(archive) as tar:
        assert {(member.uid, member.uname) for member in tar} == {(0, "")}


def test_nothing_is_overwritten(run: Config, tmp_path: Path):
    for name in ("model", "model.tar.gz"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match="exists already"):
            export_run(run.work_dir, str(tmp_path / name))
        with pytest.raises(ValueError, match="exists already"):
            import_archive("any.tar.gz", str(tmp_path / name))
        assert (tmp_path / name).read_text() == "mine"


def test_a_failure_leaves_nothing(run: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("serving.sharing._write_checksums", full)
    with pytest.raises(OSError, match="no space"):
        export_run(run.work_dir, str(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no checkpoint"):
        export_run(str(tmp_path), str(tmp_path / "model"))
    (tmp_path / "public").mkdir()
    with pytest.raises(ValueError, match=r"has no style_map.json"):
        export_run(str(tmp_path), str(tmp_path / "model"), checkpoint=str(tmp_path / "public"))


def archive_of(path: Path, *members: tuple[str, bytes | None, dict[str, Any]]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, content, fields in members:
            member = tarfile.TarInfo(name)
            member.size = len(content or b"")
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content) if content is not None else None)
    return str(path)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("/etc/passwd", {}),
        ("model/../../escaped", {}),
        ("../model/escaped", {}),
        ("../escaped", {}),
        ("model/link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("model/hard", {"type": tarfile.LNKTYPE, "linkname": "model/a"}),
        ("model/device", {"type": tarfile.CHRTYPE}),
        ("model/pipe", {"type": tarfile.FIFOTYPE}),
        ("model/deep/file", {}),
        ("other/file", {}),
        ("file", {}),
    ],
)
def test_members_that_have_no_business_there_are_refused(name: str, fields: dict[str, Any], tmp_path: Path):
    content = None if fields else b"evil"
    archive = archive_of(tmp_path / "a.tar.gz", ("model/a", b"x", {}), (name, content, fields))
    with pytest.raises(ValueError, match="refused"):
        import_archive(archive, str(tmp_path / "out" / "model"))
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_archives_that_are_damaged_or_changed(run: Config, tmp_path: Path):
    archive = export_run(run.work_dir, str(tmp_path / "model.tar.gz"))
    (tmp_path / "cut.tar.gz").write_bytes(archive.read_bytes()[:2000])
    for path, message in (
        (tmp_path / "cut.tar.gz", "cannot be unpacked"),
        (tmp_path / "no.tar.gz", "cannot be unpacked"),
    ):
        with pytest.raises(ValueError, match=message):
            import_archive(str(path), str(tmp_path / "out"))
    with pytest.raises(ValueError, match="is empty"):
        import_archive(archive_of(tmp_path / "empty.tar.gz"), str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"has no checksums.json"):
        import_archive(archive_of(tmp_path / "foreign.tar.gz", ("model/a", b"x", {})), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_every_change_is_seen(run: Config, tmp_path: Path):
    folder = export_run(run.work_dir, str(tmp_path / "model"))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"model.safetensors is not what it was"):
        verify(folder)
    weights.unlink()
    with pytest.raises(ValueError, match=r"model.safetensors is missing"):
        verify(folder)
    weights.write_bytes(whole)
    (folder / "more").touch()
    with pytest.raises(ValueError, match="more is not listed"):
        verify(folder)


# --- hubs ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_sends_nothing(run: Config, tmp_path: Path):
    folder = export_run(run.work_dir, str(tmp_path / "model"))
    sent: list[tuple[str, Path, bool]] = []
    plan = push(str(folder), "hf:me/mine", private=True, dry_run=True, upload=lambda *args: sent.append(args))
    assert (plan["hub"], plan["repository"], plan["sent"]) == ("Hugging Face", "me/mine", False)
    assert plan["files"]["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert sent == []
    push(str(folder), "ms:me/mine", private=False, dry_run=False, upload=lambda *args: sent.append(args))
    assert sent == [("me/mine", folder, False)]


def test_what_is_not_sent(run: Config, tmp_path: Path):
    for destination in ("me/mine", "hf:mine", "xy:me/mine", "hf:me/", "hf:a/b/c"):
        with pytest.raises(ValueError, match="hf:owner/name or ms:owner/name"):
            push(str(tmp_path), destination, private=True, dry_run=True)
    with pytest.raises(ValueError, match=r"has no checksums.json"):
        push(str(tmp_path), "hf:me/mine", private=True, dry_run=True)
    with pytest.raises(ValueError, match="is no folder"):
        push(str(tmp_path / "none"), "hf:me/mine", private=True, dry_run=True)


def test_the_commands(run: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    archive, folder = tmp_path / "model.tar.gz", tmp_path / "back"
    assert finetune.main(["export", run.work_dir, "--out", str(archive), "--data-license", "mine"]) == 0
    assert finetune.main(["import", str(archive), "--out", str(folder)]) == 0
    assert finetune.main(["push", str(folder), "--to", "ms:me/mine", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [str(archive), str(folder)]
    assert json.loads(lines[2])["sent"] is False


def test_the_example_of_the_guide_runs(run: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(# files:.*?)```", text, flags=re.DOTALL)
    assert len(example.splitlines()) <= 10
    export_run(run.work_dir, str(tmp_path / "MODEL_DIR"))
    for name in ("a.jpg", "b.jpg"):
        noisy_picture(tmp_path / name, 3)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert len(capsys.readouterr().out.splitlines()) >= 2
