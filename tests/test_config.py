"""The configuration: every key, every flag, every way to get it wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.typed import keys_of
from config import FLAGS, FLAT, KEYS, Config, load_config, parse_config, schema, schema_text
from tests.conftest import ROOT

DEMO: dict[str, Any] = {"model": {"preset": "tiny", "vocabulary": "train"}, "data": {"format": "demo"}}
PHOTOS: dict[str, Any] = {
    "model": {"checkpoint": "somewhere/ofa"},
    "data": {"image_dir": "photos", "train": "train.json"},
}


def value_at(config: Config, key: str) -> Any:
    section, _, leaf = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, leaf)


def changed(base: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    section, _, leaf = key.rpartition(".")
    if not section:
        return {**base, leaf: value}
    return {**base, section: {**base.get(section, {}), leaf: value}}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- reading ---------------------------------------------------------------------------------------------------------


def test_defaults_fill_what_a_file_leaves_out_and_types_are_python_s() -> None:
    config = parse_config(changed(DEMO, "train.lr", 1))
    assert config.train.lr == 1.0
    assert isinstance(config.train.lr, float)
    assert config.train.adam_betas == (0.9, 0.999)
    assert config.style.prompt.count("{}") == 1
    assert config.model.config == {}
    assert parse_config(DEMO).model.config is not config.model.config  # no shared mutable default


def test_a_configuration_survives_json() -> None:
    config = parse_config(changed(PHOTOS, "train.checkpoint_every", 50), sets=["model.config.d_model=64"])
    assert parse_config(json.loads(json.dumps(config.to_dict()))) == config


@given(
    lr=st.floats(1e-9, 1.0),
    seed=st.integers(0, 2**32 - 1),
    betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    every=st.one_of(st.just("epoch"), st.integers(1, 10**6)),
    steps=st.one_of(st.none(), st.integers(1, 10**6)),
)
def test_any_values_in_range_survive_a_round_trip(lr, seed, betas, every, steps) -> None:
    train = {"lr": lr, "adam_betas": list(betas), "checkpoint_every": every, "max_steps": steps}
    config = parse_config({**DEMO, "seed": seed, "train": train})
    assert (config.train.lr, config.seed, config.train.adam_betas) == (lr, seed, betas)
    assert (config.train.checkpoint_every, config.train.max_steps) == (every, steps)
    assert parse_config(config.to_dict()) == config


def test_comments_are_strings_and_are_dropped() -> None:
    assert parse_config({**DEMO, "_about": "a run"}) == parse_config(DEMO)
    with pytest.raises(ValueError, match="_about = 3 must be a string"):
        parse_config({**DEMO, "_about": 3})


def test_files_are_read_with_a_byte_order_mark_too(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(DEMO), encoding="utf-8-sig")
    assert load_config(path) == parse_config(DEMO)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "seed": 1,\n "work_dir" "x"\n}', r"line 3, column 13: not JSON: Expecting ':' delimiter"),
        ('{"seed": 1', "line 1"),
        ("", "line 1, column 1"),
        ("[1]", "a configuration is a JSON object"),
        ('{"train": {"lr": 1, "lr": 2}}', 'key "lr" stands twice'),
    ],
)
def test_broken_files_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "broken.json", text)
    with pytest.raises(ValueError, match=message) as error:
        load_config(path)
    assert str(path) in str(error.value)


def test_files_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'{"work_dir": "\xe9"}')
    with pytest.raises(ValueError, match="not UTF-8"):
        load_config(tmp_path / "latin.json")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "latin.json" / "x.json"):
        with pytest.raises(FileNotFoundError, match=r"no configuration file .*--conf"):
            load_config(path)


# --- wrong keys, types, ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "unknown", "nearest"),
    [
        ({"train": {"learning_rate": 1}}, "train.learning_rate", None),
        ({"train": {"warmup_proportoin": 0.1}}, "train.warmup_proportoin", "train.warmup_proportion"),
        ({"train": {"beam_size": 5}}, "train.beam_size", "eval.beam_size"),
        ({"lr": 1e-5}, "lr", "train.lr"),
        ({"batch_size": 1}, "batch_size", "train.batch_size or eval.batch_size"),
        ({"trian": {"lr": 1}}, "trian", "train"),
        ({"img_adr": "x"}, "img_adr", "img_addr"),
        ({"sed": 1}, "sed", "seed"),
        ({"qqqqqq": 1}, "qqqqqq", None),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(document, unknown, nearest) -> None:
    with pytest.raises(ValueError, match="unknown key") as error:
        parse_config({**DEMO, **document}, where="c.json")
    message = str(error.value)
    assert message.startswith(f'c.json: unknown key "{unknown}"; ')
    assert message.endswith(f"did you mean {nearest}?" if nearest else "`finetune.py conf --schema` lists all keys")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.batch_size", True, "must be integer"),
        ("train.batch_size", 8.0, "must be integer"),
        ("train.batch_size", None, "must be integer"),
        ("train.lr", True, "must be number"),
        ("train.lr", float("nan"), "must be number"),
        ("train.lr", float("inf"), "must be number"),
        ("train.lr", "2e-5", "must be number; write 2e-5 without quotes"),
        ("train.freeze_resnet", 1, "must be true or false"),
        ("train.freeze_resnet", "true", "must be true or false; write true without quotes"),
        ("train.adam_betas", [0.9], "must be list of 2 numbers"),
        ("train.adam_betas", [0.9, "x"], "must be list of 2 numbers"),
        ("train.max_steps", "all", "must be integer or null"),
        ("train.checkpoint_every", "epochs", 'must be "epoch" or integer; did you mean "epoch"'),
        ("train.schedule", "cosin", 'or "vqa_constant"; did you mean "cosine"'),
        ("train.objective", "sct", 'must be "cross-entropy" or "scst"; did you mean "scst"'),
        ("train.best_metric", "cider", 'did you mean "CIDEr"'),
        ("model.preset", "bas", 'did you mean "base"'),
        ("model.config", 3, "must be object"),
        ("work_dir", 3, "must be string"),
        ("task", "captioning", "stylish-image-captioning"),
    ],
)
def test_wrong_types(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        parse_config(changed(DEMO, key, value), where="c.json")
    assert str(error.value).startswith(f"c.json: {key} = ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "limits"),
    [
        ("train.batch_size", 0, ">= 1"),
        ("train.gradient_accumulation", 0, ">= 1"),
        ("train.captions_per_image", 0, ">= 1"),
        ("train.lr", 0, "> 0"),
        ("train.lr_end", -1e-9, ">= 0"),
        ("train.warmup_proportion", 1.0, ">= 0 and < 1"),
        ("train.label_smoothing", 1, "< 1"),
        ("train.dropout", 1.0, "< 1"),
        ("train.adam_betas", [0.9, 1.0], "< 1"),
        ("train.checkpoint_every", 0, ">= 1"),
        ("train.max_steps", 0, ">= 1"),
        ("data.patch_image_size", 31, ">= 32"),
        ("data.num_workers", -1, ">= 0"),
        ("eval.beam_size", 0, ">= 1"),
        ("seed", -1, ">= 0"),
        ("seed", 2**32, "<= "),
    ],
)
def test_values_out_of_range(key: str, value: Any, limits: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        parse_config(changed(DEMO, key, value), where="c.json")
    assert str(error.value).startswith(f"c.json: {key} = {json.dumps(value)} must be ")
    assert limits in str(error.value)


def test_a_section_is_an_object() -> None:
    with pytest.raises(ValueError, match='"train" is a section and must be an object, not 3'):
        parse_config({**DEMO, "train": 3})


# --- contradictions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "changes", "named"),
    [
        (DEMO, {"data.patch_image_size": 480}, ["data.patch_image_size = 480", "data.max_image_size = 256"]),
        (DEMO, {"eval.min_len": 17}, ["eval.min_len = 17", "eval.max_len_b = 16"]),
        (DEMO, {"train.lr": 1e-5, "train.lr_end": 1e-4}, ["train.lr_end = 0.0001", "train.lr = 1e-05"]),
        (DEMO, {"data.image_dir": "x"}, ["data.image_dir", 'data.format = "demo"']),
        (DEMO, {"data.val": "x"}, ["data.val", 'data.format = "demo"']),
        (DEMO, {"data.styles": "x"}, ["data.styles", 'data.format = "demo"']),
        (DEMO, {"data.format": "coco"}, ["data.image_dir", "img_addr"]),
        (PHOTOS, {"data.train": None}, ["data.train, data.val, data.test"]),
        (PHOTOS, {"data.image_suffix": "jpg"}, ['".jpg"']),
        (
            DEMO,
            {"train.rdrop_alpha": 1, "train.dropout": 0, "train.drop_path": 0},
            ["train.rdrop_alpha", "train.dropout"],
        ),
        (DEMO, {"model.preset": None}, ["model.checkpoint", "model.preset", "model.config"]),
        (DEMO, {"model.vocabulary": None}, ["model.vocabulary"]),
        (DEMO, {"model.revision": "v1"}, ["model.revision", "model.checkpoint"]),
        (DEMO, {"model.config": {"dropout": 0.2}}, ["model.config.dropout", "train.dropout"]),
        (DEMO, {"model.config": {"vocab_size": 9}}, ["model.config.vocab_size", "model.vocabulary_size"]),
        (PHOTOS, {"model.vocabulary": "train"}, ["model.vocabulary", "model.checkpoint"]),
        (PHOTOS, {"model.preset": "base"}, ["model.preset", "model.checkpoint"]),
        (PHOTOS, {"model.resnet_weights": "r.pth"}, ["model.resnet_weights", "model.checkpoint"]),
        (DEMO, {"style.prompt": " describe it."}, ["style.prompt", "{}"]),
        (DEMO, {"style.prompt": " {} and {}"}, ["style.prompt", "{}"]),
        (DEMO, {"style.prompt": " {style} {}"}, ["style.prompt", "{}"]),
        (DEMO, {"style.unknown_style": "token", "style.tokenize_style": False}, ["style.tokenize_style"]),
        (DEMO, {"work_dir": ""}, ["work_dir"]),
    ],
)
def test_contradictions_name_both_sides(base: dict[str, Any], changes: dict[str, Any], named: list[str]) -> None:
    parse_config(base)
    document = base
    for key, value in changes.items():
        document = changed(document, key, value)
    with pytest.raises(ValueError, match=r"^c\.json: ") as error:
        parse_config(document, where="c.json")
    assert all(name in str(error.value) for name in named)


def test_a_fairseq_file_may_name_its_size() -> None:
    config = parse_config({**PHOTOS, "model": {"checkpoint": "ofa_base.pt", "preset": "base"}})
    assert (config.model.checkpoint, config.model.preset) == ("ofa_base.pt", "base")


# --- overrides -------------------------------------------------------------------------------------------------------


def test_flag_over_set_over_file() -> None:
    document = changed(DEMO, "train.lr", 1e-3)
    assert parse_config(document).train.lr == 1e-3
    assert parse_config(document, sets=["train.lr=2e-3"]).train.lr == 2e-3
    assert parse_config(document, sets=["train.lr=2e-3", "train.lr=4e-3"]).train.lr == 4e-3
    assert parse_config(document, sets=["train.lr=2e-3"], flags={"lr": "3e-3", "lr_end": None}).train.lr == 3e-3


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("train.lr=2e-5", "train.lr", 2e-5),
        ("train.freeze_resnet=true", "train.freeze_resnet", True),
        ("train.adam_betas=[0.8, 0.9]", "train.adam_betas", (0.8, 0.9)),
        ("train.checkpoint_every=100", "train.checkpoint_every", 100),
        ("train.checkpoint_every=epoch", "train.checkpoint_every", "epoch"),
        ("train.early_stop_patience=null", "train.early_stop_patience", None),
        ("work_dir=2024", "work_dir", "2024"),
        ("work_dir=a=b", "work_dir", "a=b"),
        ('work_dir="quoted"', "work_dir", "quoted"),
        (" seed = 3", "seed", 3),
        ("style.prompt= a {} caption", "style.prompt", " a {} caption"),
    ],
)
def test_set_reads_json_or_text(text: str, key: str, expected: Any) -> None:
    assert value_at(parse_config(DEMO, sets=[text]), key) == expected


def test_free_form_objects_merge_by_key() -> None:
    document = changed(DEMO, "model.config", {"d_model": 64, "encoder_layers": 2})
    config = parse_config(document, sets=["model.config.d_model=32", 'model.config={"resnet_type": "resnet18"}'])
    assert config.model.config == {"d_model": 32, "encoder_layers": 2, "resnet_type": "resnet18"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lr", "expected key=value"),
        ("=3", "expected key=value"),
        ("train.lrr=3", 'unknown key "train.lrr"; did you mean train.lr'),
        ("lr=3", 'unknown key "lr"; did you mean train.lr'),
        ("trian.lr=3", 'unknown key "trian'),
        ("train.lr=fast", '--set: train.lr = "fast" must be number'),
        ("train=3", "must be an object"),
    ],
)
def test_set_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="--set") as error:
        parse_config(DEMO, sets=[text])
    assert message in str(error.value)


FLAG_VALUES = {
    "objective": ("train.objective", "scst", "scst"),
    "checkpoint": ("model.checkpoint", "runs/best", "runs/best"),
    "max_epoches": ("train.max_epochs", "3", 3),
    "batch_size": ("train.batch_size", "8", 8),
    "num_workers": ("data.num_workers", "0", 0),
    "lr": ("train.lr", "2e-5", 2e-5),
    "lr_end": ("train.lr_end", "1e-7", 1e-7),
    "warm_up": ("train.warmup_proportion", "0.01", 0.01),
    "weight_decay": ("train.weight_decay", "0.001", 0.001),
    "patch_image_size": ("data.patch_image_size", "96", 96),
    "max_image_size": ("data.max_image_size", "512", 512),
    "beam_size": ("eval.beam_size", "3", 3),
    "max_len": ("eval.max_len_b", "20", 20),
    "freeze_resnet": ("train.freeze_resnet", "true", True),
    "work_dir": ("work_dir", "7", "7"),
    "seed": ("seed", "11", 11),
}


def test_every_flag_sets_its_key() -> None:
    assert FLAG_VALUES.keys() == FLAGS.keys()
    for flag, (key, text, expected) in FLAG_VALUES.items():
        assert FLAGS[flag] == key
        step1 = {"checkpoint": "runs/best"} if flag == "objective" else {}  # step 2 needs one
        assert value_at(parse_config(DEMO, flags={**step1, flag: text}), key) == expected


def test_a_flag_s_error_names_the_flag() -> None:
    with pytest.raises(ValueError, match=r"^--lr: train.lr = -1 must be > 0$"):
        parse_config(DEMO, flags={"lr": "-1"})


def test_a_checkpoint_on_the_command_line_replaces_the_file_s_model() -> None:
    document = {**DEMO, "model": {"config": {"d_model": 64}, "vocabulary": "train", "vocabulary_size": 600}}
    for overrides in ({"flags": {"checkpoint": "runs/best"}}, {"sets": ["model.checkpoint=runs/best"]}):
        model = parse_config(document, **overrides).model
        assert (model.checkpoint, model.config, model.vocabulary) == ("runs/best", {}, None)
    model = parse_config(document, sets=["model.revision=v2"], flags={"checkpoint": "a/b"}).model
    assert (model.checkpoint, model.revision) == ("a/b", "v2")
    with pytest.raises(ValueError, match=r"model\.vocabulary"):
        parse_config(document, sets=["model.vocabulary=train"], flags={"checkpoint": "runs/best"})


# --- what other code reads from it -----------------------------------------------------------------------------------


def test_reader_arguments() -> None:
    config = parse_config({**PHOTOS, "work_dir": "w"})
    assert config.splits() == ["train"]
    assert config.reader_arguments("train") == {
        "format": "personality",
        "annotations": "train.json",
        "image_dir": "photos",
        "styles": None,
        "image_suffix": ".jpg",
        "default_style": "Factual",
    }
    for name in ("val", "format"):
        with pytest.raises(ValueError, match=f'no split "{name}"'):
            config.reader_arguments(name)
    demo = parse_config({**DEMO, "work_dir": "w"})
    assert demo.splits() == ["train", "val", "test"]
    assert demo.reader_arguments("test")["annotations"] == "w/demo_data/test.json"


def test_the_schema_covers_every_key_and_says_what_it_means() -> None:
    rows = json.loads(json.dumps(schema()))
    assert [row["key"] for row in rows] == list(keys_of(Config))
    assert len(rows) > 60
    assert all(len(row["meaning"]) >= 10 and row["type"] for row in rows)
    assert {row["key"].rpartition(".")[0] for row in rows} == {
        *("", "model", "style", "data", "train", "style_mlm", "style_matching", "scst", "eval")
    }
    text = schema_text()
    assert all(f"{key} = " in text for key in keys_of(Config))
    assert all(flat in text for flat in [*FLAT, "dataset_path"])


def test_defaults_pass_their_own_checks() -> None:
    for key in KEYS.values():
        default = list(key.default) if isinstance(key.default, tuple) else key.default
        assert key.check(default, "default") == key.default


def test_importing_the_configuration_imports_nothing_heavy() -> None:
    code = (
        "import config, sys; print([m for m in ('torch', 'transformers', 'modelscope', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
