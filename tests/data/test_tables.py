"""Tables of one's own: every form gives the same split, and what is wrong with one is said with its place."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from data import read_split
from data.samples import Split
from data.tables import read_records

ROWS = [
    {"file_name": "a.jpg", "text": "what a dear dog", "style": "Sweet"},
    {"file_name": "a.jpg", "text": 'a dog, "so what"', "style": "Dry"},
    {"file_name": "b.jpg", "text": "un été", "style": "Sweet"},
]
EXPECTED = [(row["file_name"], row["style"], row["text"]) for row in ROWS]
PICTURES = {"a.jpg": b"first picture", "b.jpg": b"second picture"}


def as_jsonl(path: Path, rows: Any = ROWS) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return path


def as_csv(path: Path, rows: Any = ROWS, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_parquet(path: Path, *, held: bool) -> Path:
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = [{"bytes": PICTURES[row["file_name"]] if held else None, "path": row["file_name"]} for row in ROWS]
    columns = {"image": pyarrow.array(images, kind)}
    columns |= {name: pyarrow.array([row[name] for row in ROWS]) for name in ("text", "style")}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def as_tar(path: Path, *, as_json: bool) -> Path:
    with tarfile.open(path, "w") as tar:
        for number, row in enumerate(ROWS):
            members = {"jpg": PICTURES[row["file_name"]]}
            if as_json:
                members["json"] = json.dumps({"caption": row["text"], "style": row["style"]}).encode()
            else:
                members |= {"txt": row["text"].encode(), "style": row["style"].encode(), "xyz": b"ignored"}
            for end, content in members.items():
                info = tarfile.TarInfo(f"part/{number:04d}.{end}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def read(path: Path, name: str = "train", **settings: Any) -> Split:
    settings = {"format": "table", "image_dir": None} | settings
    return read_split(name, annotations=path, **settings)


def rows_of(split: Split, folder: Path) -> list[tuple[str, str, str]]:
    return [(str(Path(one.image).relative_to(folder)), one.style, one.caption) for one in split]


@pytest.mark.parametrize("end", ["jsonl", "csv", "tsv", "json", "parquet"])
def test_tables_that_name_pictures(tmp_path: Path, end: str) -> None:
    file = tmp_path / f"metadata.{end}"
    if end == "json":
        file.write_text(json.dumps(ROWS))
    elif end == "parquet":
        as_parquet(file, held=False)
    elif end == "jsonl":
        as_jsonl(file)
    else:
        as_csv(file, delimiter="," if end == "csv" else "\t")
    split = read(file)
    assert rows_of(split, tmp_path) == EXPECTED
    assert split.n_images == 2
    assert split.styles == ("Dry", "Sweet")
    (tmp_path / "elsewhere").mkdir()
    assert read(file, image_dir=tmp_path / "elsewhere")[0].image == str(tmp_path / "elsewhere" / "a.jpg")
    if end in ("jsonl", "csv", "parquet"):
        assert rows_of(read(tmp_path), tmp_path) == EXPECTED


@pytest.mark.parametrize("form", ["parquet", "tar", "tar of json"])
def test_tables_that_hold_pictures(tmp_path: Path, form: str) -> None:
    if form == "parquet":
        file = as_parquet(tmp_path / "part-0.parquet", held=True)
    else:
        file = as_tar(tmp_path / "part-0.tar", as_json=form == "tar of json")
    split = read(file, unpack_to=tmp_path / "out")
    assert [(Path(one.image).read_bytes(), one.style, one.caption) for one in split] == [
        (PICTURES[name], style, text) for name, style, text in EXPECTED
    ]
    assert split.n_images == 2
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len(written) == 2
    again = read(tmp_path, unpack_to=tmp_path / "out")
    assert [one.image for one in again] == [one.image for one in split]
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_several_shards_are_one_split(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "1.jsonl", ROWS[:2])
    as_jsonl(tmp_path / "2.jsonl", ROWS[2:])
    assert rows_of(read(tmp_path), tmp_path) == EXPECTED


def test_columns_by_other_names_lists_of_captions_and_no_style(tmp_path: Path) -> None:
    file = as_jsonl(tmp_path / "x.jsonl", [{"foto": "a.jpg", "zin": ["een hond", "nog een"], "Image": "wrong.jpg"}])
    split = read(file, columns={"image": "foto", "caption": "zin"}, default_style="Plain")
    assert rows_of(split, tmp_path) == [("a.jpg", "Plain", "een hond"), ("a.jpg", "Plain", "nog een")]


def test_a_column_says_which_split(tmp_path: Path) -> None:
    rows = [row | {"split": name} for row, name in zip(ROWS, ("train", "training", "validation"), strict=True)]
    file = as_csv(tmp_path / "x.csv", rows)
    assert rows_of(read(file), tmp_path) == EXPECTED[:2]
    assert rows_of(read(file, "val"), tmp_path) == EXPECTED[2:]
    with pytest.raises(ValueError, match="empty"):
        read(file, "test")


def test_some_images_are_held_out_where_one_table_has_all(tmp_path: Path) -> None:
    rows = [
        {"image": f"{number}.jpg", "text": f"{number} {k}", "style": "Dry"} for number in range(400) for k in range(2)
    ]
    file = as_jsonl(tmp_path / "x.jsonl", rows)
    shared = ("train", "val", "test")
    splits = {name: read(file, name, held_out=0.1, shared=shared) for name in shared}
    images = {name: set(split.image_ids) for name, split in splits.items()}
    assert sum(map(len, splits.values())) == 800
    assert len(images["train"] | images["val"] | images["test"]) == sum(map(len, images.values())) == 400
    assert 20 < len(images["val"]) < 60
    assert 20 < len(images["test"]) < 60
    more = as_jsonl(tmp_path / "y.jsonl", [*rows[::-1], {"image": "new.jpg", "text": "x", "style": "Dry"}])
    assert set(read(more, "val", held_out=0.1, shared=shared).image_ids) - {"new.jpg"} == images["val"]


def conversation(style: str | None, text: Any, image: Any = "a.jpg") -> dict[str, Any]:
    system = [] if style is None else [{"role": "system", "content": style}]
    said = [{"role": "user", "content": "<image>describe it"}, {"role": "assistant", "content": text}]
    return {"messages": [*system, *said], "images": [image]}


def test_conversations(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "in parts"}]
    rows = [conversation("Sweet", "dear dog"), conversation("x", "dog") | {"style": "Dry"}, conversation(None, parts)]
    file = as_jsonl(tmp_path / "x.jsonl", rows)
    split = read(file, format="messages")
    assert rows_of(split, tmp_path) == [
        ("a.jpg", "Sweet", "dear dog"),
        ("a.jpg", "Dry", "dog"),
        ("a.jpg", "Factual", "in parts"),
    ]
    named = as_jsonl(tmp_path / "y.jsonl", [conversation("Sweet", "dog", {"bytes": None, "path": "b.jpg"})])
    assert rows_of(read(named, format="messages"), tmp_path) == [("b.jpg", "Sweet", "dog")]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{"a": "x"}], {}, r"line 1: no column is known as the image \(it has 'a'\): name it in data.columns.image"),
        ([{"image": "x"}], {}, "known as the caption"),
        (ROWS, {"columns": {"image": "filename"}}, "no column 'filename'.*did you mean 'file_name'"),
        (ROWS, {"columns": {"picture": "file_name"}}, "data.columns has 'picture': choose among image, caption"),
        ([{"image": "", "text": "x"}], {}, "line 1: no image"),
        ([{"image": 3, "text": "x"}], {}, "line 1: no image"),
        ([{"image": "a", "text": 3}], {}, "column 'text': expected a text, or a list of texts"),
        ([{"image": "a", "text": []}], {}, "expected a text, or a list"),
        ([{"image": "a", "text": "x"}], {"format": "messages"}, "messages must be a list"),
        ([conversation(None, "")], {"format": "messages"}, "no message of the role assistant"),
        ([conversation(None, 3)], {"format": "messages"}, "needs the texts role and content"),
        ([conversation(None, "x") | {"images": ["a", "b"]}], {"format": "messages"}, "2 images"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, rows: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(as_jsonl(tmp_path / "x.jsonl", rows), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"image": "a", "text": "b"}\n{', "line 2: broken JSON"),
        ("x.jsonl", b"[]", "line 1: expected an object"),
        ("x.jsonl", b"\xff\xfe", "cannot read the table"),
        ("x.json", b"{}", "expected a list of objects"),
        ("x.csv", b"a,b\n1\n", "line 2: 1 cells, but line 1 names 2 columns"),
        ("x.csv", b"a,a\n1,2\n", "two columns have the same name"),
        ("x.csv", b'a,b\n"1,2', "cannot read the table"),
        ("x.parquet", b"no parquet", "no Parquet file"),
        ("x.tar", b"no tar at all", "cannot read the table"),
        ("x.xlsx", b"", "must end in one of .jsonl, .csv"),
    ],
)
def test_damaged_tables(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such table"):
        read(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="has no metadata.jsonl"):
        read(tmp_path)
    with pytest.raises(ValueError, match="needs the image folder"):
        read_split("train", format="coco", annotations=tmp_path / "x.json", image_dir=None)


def test_a_tar_is_read_as_it_comes(tmp_path: Path) -> None:
    file = as_tar(tmp_path / "x.tar", as_json=False)
    found = list(read_records(file))
    assert [where for where, _ in found] == ["sample part/0000", "sample part/0001", "sample part/0002"]
    assert found[0][1] == {"jpg": b"first picture", "txt": ROWS[0]["text"], "style": "Sweet"}
