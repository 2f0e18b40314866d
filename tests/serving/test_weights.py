"""convert and compare-weights, on made weights of every system."""

import json

import pytest
import torch

import finetune
from models.lxmert import LxmertForAnswers, LxmertForPairs
from models.visualbert.naming import to_original
from models.visualbert.published import RELEASES, published_entry
from tests.conftest import SHARED, needs_shared
from tests.models.nano import nano_model
from tests.models.small_lxmert import config, lively
from tests.models.visualbert_nano import nano

NUMBERS = {"kind": "nlvr2", "loss": 0.5, "logits": {"values": [0.1, 0.2]}}


def run(*words: object) -> int:
    return finetune.main([str(word) for word in words])


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Output -> the largest difference, of the table on stdout."""
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["output", "shape", "largest", "mean"]
    return {line.split()[0]: float(line.split()[-2]) for line in lines[1:]}


def release(path, head="vqa", **changes):
    torch.save(to_original(nano(head, **changes).state_dict()), path)
    return path


@pytest.fixture
def folders(tmp_path):
    """Two nearly equal models of each system."""

    def saved(name: str, model) -> list:
        made = []
        for number in range(2):
            if number:
                with torch.no_grad():
                    next(model.parameters()).add_(1e-3 * torch.randn_like(next(model.parameters())))
            made.append(tmp_path / f"{name}{number}.bin")
            torch.save(model.state_dict(), made[-1])
        return made

    return saved


@pytest.mark.parametrize("head", ["vqa", "nlvr2", "vcr", "pretraining"])
def test_a_converted_release_is_the_same_model(tmp_path, capsys, head):
    source = release(tmp_path / "a.th", head)

    assert run("convert", source, "--out", tmp_path / "theirs", "--to", "transformers", "--heads", 2) == 0
    assert run("convert", tmp_path / "theirs", "--out", tmp_path / "back", "--to", "original") == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "theirs"), str(tmp_path / "back")]

    assert run("compare-weights", source, tmp_path / "back", "--heads", 2, "--tolerance", 0) == 0
    assert rows(capsys)["logits"] == 0
    assert run("compare-weights", tmp_path / "theirs", tmp_path / "back", "--tolerance", 0) == 0


def test_another_number_of_heads_is_another_model(tmp_path, capsys):
    source = release(tmp_path / "a.th")
    run("convert", source, "--out", tmp_path / "two", "--heads", 2)
    capsys.readouterr()

    assert run("compare-weights", source, tmp_path / "two") == 1  # the file is read with one head
    assert rows(capsys)["sequence"] > 1e-4


@pytest.mark.parametrize("kind", [LxmertForAnswers, LxmertForPairs])
def test_lxmert(folders, capsys, kind):
    one, other = folders("lxmert", lively(kind(config())))

    assert run("compare-weights", one, one, "--tolerance", 0) == 0
    assert {"encoder.language", "encoder.vision", "encoder.pooled", "head"} == rows(capsys).keys()
    assert run("compare-weights", one, other) == 1
    assert run("compare-weights", one, other, "--tolerance", 100) == 0


def test_ofa(tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        model = nano_model(60, seed)
        model.save_pretrained(tmp_path / name)

    assert run("compare-weights", tmp_path / "a", tmp_path / "a", "--tolerance", 0) == 0
    assert rows(capsys) == {"logits": 0, "encoder_last_hidden_state": 0}
    assert run("compare-weights", tmp_path / "a", tmp_path / "b") == 1


def test_published_numbers_are_found_by_the_releases_name(tmp_path, capsys):
    # [CLS] and [SEP] are entries 101 and 102 of the vocabulary of the releases
    source = release(tmp_path / "nlvr2_fine_tuned.th", "nlvr2", vocab_size=110, max_position_embeddings=128)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    published = tmp_path / "numbers.json"
    published.write_text(json.dumps({"models": [{"model": "visualbert-nlvr2", **NUMBERS}]}))
    words = ("compare-weights", source, "--published", published, "--vocabulary", tmp_path / "vocab.txt")

    assert run(*words) == 1
    assert rows(capsys).keys() == {"loss", "logits"}
    assert run(*words, "--tolerance", 100) == 0
    assert run(*words, "--release", "visualbert-vqa") == 2
    assert "has no numbers of visualbert-vqa" in capsys.readouterr().err


@needs_shared
def test_every_release_has_its_numbers():
    file = SHARED / "parity" / "visualbert" / "published_numbers.json"
    checkpoints = json.loads((file.parent / "checkpoints.json").read_text())["checkpoints"]
    assert {one["release_file"].removesuffix(".th"): one["hub_name"].split("/")[1] for one in checkpoints} == RELEASES
    for name in RELEASES:
        assert published_entry(json.loads(file.read_text()), name, file)["model"] == RELEASES[name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.th"], "two checkpoints, or one and --published"),
        (["a.th", "lxmert.bin"], "is a visual_bert and"),
        (["a.th", "a.th", "--release", "x"], "belong to --published"),
        (["a.th", "wide.th"], "do not read the same input_ids"),
        (["a.th", "none.bin"], "does not exist"),
        (["strange.bin", "a.th"], "of no known system"),
        (["a.th", "--published", "x.json"], "needs --vocabulary"),
    ],
)
def test_what_cannot_be_compared(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    release(tmp_path / "a.th")
    release(tmp_path / "wide.th", vocab_size=70)
    torch.save(lively(LxmertForAnswers(config())).state_dict(), tmp_path / "lxmert.bin")
    torch.save({"weight": torch.ones(2)}, tmp_path / "strange.bin")

    assert run("compare-weights", *words) == 2
    assert message in capsys.readouterr().err
