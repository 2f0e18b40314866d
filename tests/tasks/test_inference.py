"""Captions on demand, from each source of requests, and what is written of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.samples import Sample
from tasks.captioning.captioner import Captioner
from tasks.captioning.inference import read_requests, run_inference
from tests.models.nano import STYLES
from tests.nano_run import CAPTIONS, SEARCH, nano_run


def requests_file(folder: Path, content: Any) -> str:
    path = folder / "requests.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_every_image_in_every_style(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    images = [str(tmp_path / "images" / f"{i}.png") for i in (5, 0)]
    results = run_inference(config, images=images, styles=["cynical", "Sweet"])
    assert [(r["image"], r["style"]) for r in results] == [(i, s) for i in images for s in ("Cynical", "Sweet")]
    captioner = Captioner.from_directory(tmp_path / "run" / "checkpoints" / "best")
    (again,) = captioner.caption([Sample(images[0], "", "Sweet", "", ())], batch_size=1, progress=False, **SEARCH)
    assert results[1]["caption"] == again
    assert all("reference" not in result for result in results)


def test_without_styles_an_image_is_captioned_in_all_that_the_model_knows(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    (tmp_path / "styles.txt").write_text("Other\n")  # what counts is the checkpoint's own list
    results = run_inference(config, images=[str(tmp_path / "images" / "1.png")])
    assert [result["style"] for result in results] == list(STYLES)


def test_files_of_the_run_hold_the_results(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    run = tmp_path / "run"
    run_inference(config, images=[str(tmp_path / "images" / "1.png")], styles=["Sweet"])
    results = run_inference(config, images=[str(tmp_path / "images" / "2.png")], styles=["Humorous"])
    assert json.loads((run / "inference.json").read_text()) == results
    page = (run / "inference.html").read_text()
    assert "Humorous" in page
    assert "Sweet" not in page
    assert not list(run.glob(".*.tmp"))


def test_results_go_where_they_are_asked_to(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    run_inference(config, images=[str(tmp_path / "images" / "1.png")], styles=["Sweet"], output=str(tmp_path / "out/a"))
    assert {path.name for path in (tmp_path / "out" / "a").iterdir()} == {
        f"inference.{suffix}" for suffix in ("json", "html")
    }


def test_requests_of_a_file(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    path = str(tmp_path / "images" / "3.png")
    asked = [
        {"image": path, "style": "Sweet", "reference": "a dear thing"},
        {"image_hash": "4", "style": "humorous"},
    ]
    results = run_inference(config, json_file=requests_file(tmp_path, asked))
    assert [(r["image"], r["style"], r.get("reference")) for r in results] == [
        (path, "Sweet", "a dear thing"),
        (str(tmp_path / "images" / "4.png"), "Humorous", None),
    ]
    assert "a dear thing" in (tmp_path / "run" / "inference.html").read_text()


def test_random_pictures_come_with_their_references_and_the_seed_draws_them(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    drawn = [run_inference(config, random_n=2, split="train", seed=seed) for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({tuple(result["image"] for result in results) for results in drawn}) > 1
    for results in drawn:
        assert len({result["image"] for result in results}) == 2
        assert [result["style"] for result in results] == [*STYLES, *STYLES]
        assert all(r["reference"] == f"{CAPTIONS[r['style']][0]} {Path(r['image']).stem}" for r in results)


def test_random_pictures_in_given_styles(tmp_path: Path) -> None:
    results = run_inference(nano_run(tmp_path), random_n=9, styles=["humorous"])
    assert sorted(Path(result["image"]).stem for result in results) == ["4", "5"]
    assert {result["style"] for result in results} == {"Humorous"}
    assert results[0]["reference"].startswith(CAPTIONS["Humorous"][0])


# --- what a user can get wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sources", [{}, {"images": ["a.jpg"], "random_n": 1}])
def test_exactly_one_source_is_needed(tmp_path: Path, sources: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one source: --image, --json or --random"):
        run_inference(nano_run(tmp_path, checkpoint=False), **sources)


def test_styles_do_not_go_with_requests_that_name_theirs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--style does not go with --json"):
        run_inference(nano_run(tmp_path, checkpoint=False), json_file="x.json", styles=["Sweet"])


def test_an_unknown_style_and_a_missing_image_are_named(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    with pytest.raises(ValueError, match="unknown style 'Humorus': did you mean Humorous"):
        run_inference(config, images=[str(tmp_path / "images" / "1.png")], styles=["Humorus"])
    with pytest.raises(ValueError, match="nowhere.jpg does not exist"):
        run_inference(config, images=["nowhere.jpg"], styles=["Sweet"])
    assert not (tmp_path / "run" / "inference.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "broken JSON"),
        ({"image": "a.jpg"}, "expected a list of requests"),
        ([], "expected a list of requests"),
        ([{"image": "a", "style": "S"}, "b"], "request 1: expected an object"),
        ([{"image": "a"}], "request 0: key 'style' is missing"),
        ([{"style": "Sweet"}], "request 0: exactly one of the keys 'image' and 'image_hash'"),
        ([{"image": "a", "image_hash": "b", "style": "S"}], "request 0: exactly one of the keys"),
        ([{"image": "a", "stile": "S"}], r"request 0: unknown key 'stile': did you mean 'style'\?"),
        ([{"image": "a", "style": 3}], "request 0: key 'style' must be a string"),
        ([{"image": "a", "style": "S", "reference": []}], "request 0: key 'reference' must be a string"),
    ],
)
def test_a_broken_request_is_named_by_index_and_key(tmp_path: Path, content: Any, message: str) -> None:
    path = requests_file(tmp_path, content)
    with pytest.raises(ValueError, match=f"requests.json: {message}"):
        read_requests(path, image_dir="images", image_suffix=".jpg")


def test_a_hash_needs_a_folder_and_a_file_must_exist(tmp_path: Path) -> None:
    path = requests_file(tmp_path, [{"image_hash": "a", "style": "Sweet"}])
    with pytest.raises(ValueError, match="request 0: key 'image_hash' needs data.image_dir"):
        read_requests(path, image_dir=None, image_suffix=".jpg")
    with pytest.raises(ValueError, match="gone.json: cannot read the requests"):
        read_requests(str(tmp_path / "gone.json"), image_dir=None, image_suffix=".jpg")
