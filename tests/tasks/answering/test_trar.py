"""The commands with a nano TRAR: what differs from the other networks. Shapes in comments are of one picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import finetune
from conf.answering import AnsweringConfig
from config import load_config
from data.demo.next_to import render
from data.features.regions import Regions
from data.features.writer import new_store
from models.trar import TrarConfig, TrarModel
from models.trar.checkpoints import write_published
from tasks.answering.items import side_by_side
from tasks.answering.trar import read_words

NETWORK = {
    "orders": [0, 1],
    "routing": "hard",
    "layers": 2,
    "hidden": 8,
    "heads": 2,
    "feed_forward": 8,
    "word_width": 4,
    "pool_width": 8,
    "pooled_width": 8,
}
TRAIN = {
    "max_epochs": 4,
    "batch_size": 8,
    "lr": 0.01,
    "schedule": "trar",
    "warmup_epochs": 1,
    "schedule_factor": 0.2,
    "schedule_drops": "2,3",
    "tau_policy": "slow",
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "loss_reduction": "sum",
    "dropout": 0.0,
    "dtype": "float32",
    "tensorboard": False,
    "log_every": 1,
    "keep_checkpoints": 9,
}


def conf_file(folder: Path, **sections: Any) -> Path:
    """A configuration of a run in `folder`/run; `sections` add to its sections, `network` to model.config."""
    document = {
        "task": "visual-question-answering",
        "work_dir": str(folder / "run"),
        "model": {
            "type": "trar",
            "vocabulary": "train",
            "max_words": 5,
            "config": NETWORK | sections.get("network", {}),
        }
        | sections.get("model", {}),
        "data": {"format": "demo-next-to", "demo_images": 40} | sections.get("data", {}),
        "train": TRAIN | sections.get("train", {}),
        "eval": {"batch_size": 16, "bootstrap": 10} | sections.get("eval", {}),
    }
    file = folder / "conf.json"
    file.write_text(json.dumps(document))
    return file


def run(*arguments: Any, code: int = 0) -> None:
    assert finetune.main([str(argument) for argument in arguments]) == code


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    run(*arguments, code=2)
    return capsys.readouterr().err.splitlines()[-1]


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trar")
    run("--conf", conf_file(folder), "train")
    return folder


def test_rates_and_temperature_follow_the_epochs(trained: Path) -> None:
    # 38 pictures to learn from: 4 updates of 8 an epoch; 38 / 8 = 4.75 updates of warm-up at half the rate
    rates = [row["lr"] for row in history(trained) if "loss" in row]
    assert rates == pytest.approx([0.005] * 4 + [0.01] * 4 + [0.002] * 4 + [0.0004] * 4)
    folder = trained / "run" / "checkpoints"
    taus = [json.loads((folder / f"step-{step:06d}" / "config.json").read_text())["tau"] for step in (4, 8, 12, 16)]
    assert taus == pytest.approx([10, 6.7, 3.4, 0.1])


def test_eval_tells_the_span_of_every_layer(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--conf", trained / "conf.json", "eval")
    scores = json.loads(capsys.readouterr().out)
    [row, *_] = json.loads((trained / "run" / "predictions.json").read_text())
    assert {span: len(weights) for span, weights in row["spans"].items()} == {"0": 2, "1": 2}
    assert [sum(weights) for weights in zip(*row["spans"].values(), strict=True)] == pytest.approx([1, 1], abs=2e-3)
    assert set(scores["spans"]["all"]) == {"0", "1"}
    run("report", trained / "run")
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert "Attention spans" in page
    assert "<svg" in page


def test_published_evaluation_is_noisy_and_repeatable(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def spans(*options: str) -> Any:
        run("--conf", trained / "conf.json", *options, "eval")
        return json.loads(capsys.readouterr().out)["spans"]

    quiet, noisy = spans(), spans("--set", "eval.routing=published")
    assert noisy != quiet
    assert spans("--set", "eval.routing=published") == noisy
    assert spans() == quiet


@pytest.mark.parametrize("epoch", [1, 3])
def test_another_run_goes_on_from_any_epoch(epoch: int, trained: Path, tmp_path: Path) -> None:
    source = trained / "run" / "checkpoints" / f"epoch-{epoch}"
    run("--conf", conf_file(tmp_path, train={"resume_from": str(source)}), "train", "--resume")
    of_first, of_second = ([row for row in history(one) if "loss" in row] for one in (trained, tmp_path))
    assert [row["step"] for row in of_second] == list(range(4 * epoch + 1, 17))
    for key in ("lr", "loss"):
        assert [row[key] for row in of_second] == pytest.approx([row[key] for row in of_first[4 * epoch :]], rel=1e-4)


def test_an_epoch_that_was_not_kept_is_no_checkpoint(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = trained / "run" / "checkpoints" / "epoch-7"
    assert "epoch-7" in refused(capsys, "--conf", trained / "conf.json", "eval", "--checkpoint", missing)


def test_words_and_answers_come_from_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    conf = conf_file(
        tmp_path, model={"checkpoint": str(trained / "run")}, train={"max_steps": 1}, data={"demo_images": 60}
    )
    run("--conf", conf, "train", code=2)  # the folder of a run is none of a model
    best = trained / "run" / "checkpoints" / "best"
    run("--conf", conf, "--set", f"model.checkpoint={best}", "train")
    words, answers = (
        [json.loads((folder / name).read_text()) for folder in (best, tmp_path / "run" / "checkpoints" / "last")]
        for name in ("words.json", "answers.json")
    )
    assert words[0] == words[1]
    assert sorted(answers[0]) == sorted(answers[1])


def test_published_weights_are_evaluated(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = trained / "run" / "checkpoints" / "best"
    words, answers = (json.loads((best / name).read_text()) for name in ("words.json", "answers.json"))
    torch.manual_seed(0)
    model = TrarModel(TrarConfig(words=len(words), answers=len(answers), feature_width=16, dropout=0.0, **NETWORK))  # type: ignore[arg-type]
    write_published(tmp_path / "epoch4.pkl", model, optimizer=None, lr_base=1e-4, epoch=4)
    arguments = ("--conf", trained / "conf.json", "--checkpoint", tmp_path / "epoch4.pkl")
    fields = json.dumps({name: NETWORK[name] for name in ("orders", "routing", "heads")} | {"grid": 8})
    settings = ("--set", f"model.vocabulary={best / 'words.json'}", "--set", f"model.config={fields}")
    run(*arguments, *settings, "eval")
    assert 0 <= json.loads(capsys.readouterr().out)["accuracy"] <= 1
    render(tmp_path / "drawn", train=2, val=1, seed=1)
    assert "model.vocabulary gives" in refused(
        capsys,
        *arguments,
        *settings[2:],
        "--set",
        f"model.vocabulary={_list(tmp_path / 'w.json', ['PAD', 'UNK', 'CLS'])}",
        "eval",
    )


def _list(file: Path, words: list[str]) -> Path:
    file.write_text(json.dumps(words))
    return file


@pytest.mark.parametrize("loss", ["bce", "kld", "cross-entropy"])
def test_every_loss_trains_with_soft_routing(loss: str, tmp_path: Path) -> None:
    conf = conf_file(
        tmp_path, network={"routing": "soft"}, train={"loss": loss, "max_steps": 2, "gradient_accumulation": 2}
    )
    run("--conf", conf, "train")
    assert [row["step"] for row in history(tmp_path) if "loss" in row] == [1, 2]


def test_the_gradient_of_a_sum_is_that_of_a_mean_times_the_questions(tmp_path: Path) -> None:
    norms = []
    for name, reduction in (("a", "sum"), ("b", "mean")):
        (tmp_path / name).mkdir()
        soft = {"routing": "soft"}
        train = {"loss_reduction": reduction, "max_steps": 1, "batch_size": 4, "gradient_accumulation": 2}
        run("--conf", conf_file(tmp_path / name, network=soft, train=train), "train")
        norms.append(next(row["grad_norm"] for row in history(tmp_path / name) if "loss" in row))
    assert norms[0] == pytest.approx(8 * norms[1], rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": {"grid": 7}}, "a grid of 8x8 cells, and model.config.grid = 7"),
        ({"network": {"orders": [0, 8]}}, "order 8 does not fit a grid of 8x8"),
        ({"network": {"dropout": 0.2}}, "model.config.dropout follows from train.dropout"),
        ({"network": {"depth": 2}}, "unknown fields depth"),
        ({"network": {"hidden": "8"}}, "model.config"),
        ({"network": {"tower_width": 8}}, "16 wide are no square of pixels"),
        ({"model": {"start": "minilm", "vocabulary": None}}, "belong to lxmert"),
        ({"model": {"vocabulary": "nowhere.txt"}}, "nowhere.txt: cannot read it"),
        ({"data": {"format": "demo-pairs", "demo_images": 280}}, "reads one picture a question"),
    ],
)
def test_settings_that_do_not_fit(
    settings: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "--conf", conf_file(tmp_path, **settings), "train")


def own_files(folder: Path, shape: tuple[int, int], *, questions: list[str]) -> dict[str, Any]:
    """Questions about pictures a0, a1, ... whose store holds grids of this shape, 16 numbers a cell."""
    rng = np.random.default_rng(0)
    with new_store(folder / "store", dtype="float32", grid=shape) as store:
        for number in range(len(questions)):
            cells = rng.standard_normal((shape[0] * shape[1], 16)).astype("float32")
            cells *= number < 8  # pictures from the ninth on have no region at all
            store.add(Regions(f"a{number}", cells, grid=shape), "made")
        store.finish("made", [], None)
    rows = [{"image": f"a{n}.jpg", "question": text, "answer": str(n % 2)} for n, text in enumerate(questions)]
    for split in ("train", "val", "test"):
        kept = rows if split == "test" else [row for row in rows if row["question"].strip("?!")]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "val", "test")}
    return {"format": "plain", **files, "features": str(folder / "store"), "demo_images": 3000}


def test_a_grid_that_is_not_square_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = own_files(tmp_path, (2, 3), questions=["a"] * 9)
    assert "2x3 cells, which is not square" in refused(capsys, "--conf", conf_file(tmp_path, data=data), "train")


def test_empty_questions_and_empty_pictures_are_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = own_files(tmp_path, (3, 3), questions=["what", "?!", *["a word"] * 8])
    conf = conf_file(tmp_path, data=data, train={"max_steps": 2})
    run("--conf", conf, "train")
    for view in ([], ["--control", "question-only"], ["--control", "image-only"]):
        run("--conf", conf, "eval", "--split", "test", *view)
        name = ".".join(["predictions", "test", *view[1:], "json"])
        rows = json.loads((tmp_path / "run" / name).read_text())
        assert len(rows) == 10
        assert all(np.isfinite([share for _, share in row["top"]]).all() for row in rows)
    capsys.readouterr()


def test_a_tower_learns_from_pixels_that_questions_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from data.demo import render as draw

    draw(tmp_path / "drawn", images=14, seed=1)
    images = sorted((tmp_path / "drawn" / "images").glob("*.jpg"))
    store = tmp_path / "pixels"
    run(
        "features",
        "extract",
        "--images",
        images[0].parent,
        "--tower",
        "pixels",
        "--side",
        32,
        "--grid",
        4,
        "--out",
        store,
    )
    rows = [{"image": one.name, "question": word, "answer": word} for one in images for word in ("a", "b")]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"format": "plain", "train": str(tmp_path / "q.jsonl"), "held_out": {"image_tenth": 1}, "together": 2}
    data |= {"features": str(store), "images": str(images[0].parent), "demo_images": 3000}
    held = conf_file(tmp_path, network={"tower_width": 8}, data=data, train={"max_steps": 2})
    run("--conf", held, "train")
    run("--conf", held, "eval")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["n_images"] < len(images)
    run("--conf", held, "inference", "--image", images[0], "--question", "a")
    assert capsys.readouterr().out.startswith(str(images[0]))


def test_questions_about_a_picture_stand_together_in_shuffled_groups() -> None:
    draw = np.random.default_rng(3)
    pictures = np.repeat(np.arange(50), 5)
    found = side_by_side(draw.permutation(250), pictures, 2, draw)
    assert sorted(found) == list(range(250))
    seen = pictures[found]
    groups = np.flatnonzero(np.r_[True, seen[1:] != seen[:-1]])
    assert len(groups) > 120  # 150 groups of 2, 2 and 1, of which some meet by chance
    assert not (np.diff(seen) >= 0).all()


def test_words_of_question_files_are_numbered_as_they_come(tmp_path: Path) -> None:
    for name, text in (("a", "Is it red?"), ("b", "is it a dog")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"questions": [{"question": text}]}))
    found = read_words(f"{tmp_path}/a.json, {tmp_path}/b.json", iter(()))
    assert found.words == ("PAD", "UNK", "CLS", "is", "it", "red", "a", "dog")
    with pytest.raises(ValueError, match="no list of questions"):
        read_words(f"{tmp_path}/a.json,{_list(tmp_path / 'w.json', ['x'])}", iter(()))


def test_the_demo_learns_what_a_window_is_for() -> None:
    config = load_config("conf/demo_trar.json")
    assert isinstance(config, AnsweringConfig)
    assert (config.model.config["orders"], config.train.max_steps, config.train.batch_size) == ([0, 1, 2, 3], 600, 64)
