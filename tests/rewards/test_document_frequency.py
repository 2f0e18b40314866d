import os
import pickle
from collections import defaultdict
from pathlib import Path

import pytest

from metrics.cider import DocumentFrequency
from rewards.document_frequency import fingerprint, read_table, table_of_corpus, tokenize_references, write_table
from tests.metrics.originals import modelscope_cider_d

CORPUS = [["A dog runs.", "The dog"], ["A cat's nap"]]
OTHER = [["Sonnenuntergang am Meer", "zwei alte Boote"]]


def test_counts_images_not_captions(tmp_path: Path) -> None:
    table = table_of_corpus(tmp_path / "df.p", CORPUS, end_word="<eos>")
    assert table.documents == 2
    assert table.counts[("dog",)] == 1  # twice, but in one image
    assert table.counts[("a",)] == 2
    assert table.counts[("runs", "<eos>")] == 1  # the end is a word of its own, the full stop none
    assert table.counts[("cat", "'s")] == 1
    assert ("runs.",) not in table.counts


def test_read_back_and_counted_again_only_when_the_data_changed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "df.p"
    first = table_of_corpus(path, CORPUS)
    written = path.stat().st_mtime_ns
    reordered = [[*of_image][::-1] for of_image in CORPUS[::-1]]
    assert table_of_corpus(path, reordered) == first
    assert path.stat().st_mtime_ns == written
    changed = table_of_corpus(path, [*CORPUS, ["a bird"]])
    assert changed.documents == 3
    assert table_of_corpus(path, [*CORPUS, ["a bird"]]) == changed
    assert table_of_corpus(path, [*CORPUS, ["a bird"]], end_word="<eos>").counts[("bird", "<eos>")] == 1
    assert os.listdir(path.parent) == ["df.p"]


def test_a_broken_file_is_counted_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "df.p"
    path.write_bytes(b"nothing")
    assert table_of_corpus(path, CORPUS).documents == 2
    assert "built anew" in caplog.text
    assert read_table(path, CORPUS).documents == 2


def test_other_scst_code_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "df.p"
    table_of_corpus(path, CORPUS)
    score, _ = modelscope_cider_d(df=str(path)).compute_score(
        {0: ["a cat 's nap"]}, [{"image_id": 0, "caption": ["a cat 's unseen nap"]}]
    )
    assert score > 0


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_reads_the_form_of_other_scst_code(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "words.p"
    counts = defaultdict(float, {("a",): 2.0, ("a", "dog"): 1.0})
    path.write_bytes(pickle.dumps({"ref_len": 2, "document_frequency": counts}, protocol=protocol))
    assert read_table(path) == DocumentFrequency(2.0, dict(counts))


def test_reads_a_pickle_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "words.p"
    text = (
        b"(dp0\nS'ref_len'\np1\nI40\nsS'document_frequency'\np2\nccollections\ndefaultdict\np3\n(c__builtin__\nfloat\n"
        b"p4\ntp5\nRp6\n(S'a'\np7\nVdog\np8\ntp9\nF3.0\nss."
    )
    path.write_bytes(text)
    assert read_table(path) == DocumentFrequency(40.0, {("a", "dog"): 3.0})


class _Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.target}",)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    path, proof = tmp_path / "words.p", tmp_path / "proof"
    path.write_bytes(pickle.dumps({"ref_len": 2, "document_frequency": {("a",): _Evil(proof)}}))
    with pytest.raises(ValueError, match=r"words\.p.*could run code"):
        read_table(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"ref_len": 3},
        {"ref_len": 0, "document_frequency": {}},
        {"ref_len": float("nan"), "document_frequency": {}},
        {"ref_len": 3, "document_frequency": {"a": 1}},
        {"ref_len": 3, "document_frequency": {("a",): "1"}},
        {"ref_len": 3, "document_frequency": {("a",): float("nan")}},
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "words.p"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"words\.p"):
        read_table(path)


def test_a_table_of_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "df.p"
    table_of_corpus(path, CORPUS)
    with pytest.raises(ValueError, match="other training captions"):
        read_table(path, OTHER)
    write_table(path, DocumentFrequency.of(tokenize_references(CORPUS)))  # no fingerprint
    assert read_table(path, CORPUS).documents == 2
    with pytest.raises(ValueError, match="knows 0 of the 6 words"):
        read_table(path, OTHER)


def test_missing_file_and_empty_corpus(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.p"):
        read_table(tmp_path / "nowhere.p")
    with pytest.raises(ValueError, match="training captions"):
        table_of_corpus(tmp_path / "df.p", [[" "], []])


def test_fingerprint_tells_corpora_apart() -> None:
    seen = {
        fingerprint(corpus, end_word=end)
        for corpus in (CORPUS, OTHER, [["A dog runs."], ["The dog"], ["A cat's nap"]], [*CORPUS, CORPUS[0]], [])
        for end in (None, "<eos>")
    }
    assert len(seen) == 10


def test_a_failed_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "df.p"
    old = table_of_corpus(path, CORPUS)

    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        table_of_corpus(path, OTHER)
    monkeypatch.undo()
    assert read_table(path, CORPUS) == old
    assert os.listdir(tmp_path) == ["df.p"]
