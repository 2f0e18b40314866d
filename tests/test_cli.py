"""The command line: what it wires, what it prints where, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import finetune
from conf.typed import keys_of
from config import FLAGS, KEYS, Config
from tests.conftest import ROOT

CONF = {"model": {"preset": "tiny", "vocabulary": "train"}, "data": {"format": "demo"}}


@pytest.fixture
def conf(tmp_path: Path) -> str:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({**CONF, "work_dir": str(tmp_path / "run")}))
    return str(path)


class Calls(list[tuple[str, tuple[Any, ...], dict[str, Any]]]):
    """What the commands called, in stand-ins for the modules that do the work."""

    error: BaseException | None = None

    def stand_in(self, name: str, result: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.append((name, args, kwargs))
            print("chatter of a library")  # noqa: T201
            if self.error:
                raise self.error
            return result

        return run


class Report(SimpleNamespace):
    def to_json(self) -> dict[str, Any]:
        return {"faults": self.faults}

    def to_text(self) -> str:
        return f"faults: {self.faults}"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    captions = [{"image": "a.jpg", "style": "Sweet", "caption": "how lovely"}]
    functions = {
        ("tasks.training", "run_training"): {"CIDEr": 1.0},
        ("tasks.evaluating", "run_evaluation"): {"CIDEr": 0.5, "METEOR": None},
        ("tasks.captioning.inference", "run_inference"): captions,
        ("tasks.examining", "examine_splits"): {name: Report(faults=[]) for name in ("train", "val", "test")},
    }
    modules: dict[str, ModuleType] = {}
    for (module, function), result in functions.items():
        modules.setdefault(module, ModuleType(module)).__dict__[function] = calls.stand_in(function, result)
    for name in ("trainers", "metrics", "models"):
        modules[name] = ModuleType(name)
    for name, stand_in in modules.items():
        stand_in.__path__ = []
        monkeypatch.setitem(sys.modules, name, stand_in)
    return calls


def run_fails(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "finetune.py"), *args], cwd=cwd or ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("finetune.py: error: ")
    return done


# --- quick and quiet -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args", [["--help"], ["train", "--help"], ["conf", "--schema"], ["conf", "--schema", "--json"], ["conf"]]
)
def test_help_and_schema_import_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys, finetune\n"
        "try: code = finetune.main(sys.argv[1:])\n"
        "except SystemExit as done: code = done.code\n"
        "heavy = [name for name in ('torch', 'transformers', 'modelscope', 'numpy', 'PIL') if name in sys.modules]\n"
        "sys.stderr.write(f'{code} {heavy}')"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "0 []"
    assert done.stdout


def test_help_shows_every_flag_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        finetune.main(["train", "--help"])
    assert done.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag, key in FLAGS.items():
        assert f"--{flag}" in text
        assert f"[{key}]" in text
        assert KEYS[key].metadata["meaning"].split()[0] in text
    assert "--max_epochs" in text


def test_the_schema_is_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune.main(["conf", "--schema"]) == 0
    assert "train.lr = 5e-05  (number, > 0)  --lr\n    peak learning rate" in capsys.readouterr().out
    assert finetune.main(["conf", "--schema", "--json"]) == 0
    assert {row["key"] for row in json.loads(capsys.readouterr().out)} == set(keys_of(Config))


def test_without_conf_the_embedded_default_is_used(capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert finetune.main(["conf"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["format"] == "demo"


# --- options before and after the subcommand -------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert finetune.main(args) == 0
    return json.loads(capsys.readouterr().out)


def test_options_stand_before_or_after_the_subcommand(conf: str, capsys) -> None:
    before = shown(capsys, "--conf", conf, "--lr", "2e-5", "--set", "seed=3", "conf")
    after = shown(capsys, "conf", "--conf", conf, "--lr", "2e-5", "--set", "seed=3")
    both = shown(capsys, "--conf", conf, "--set", "seed=1", "conf", "--set", "seed=3", "--lr=2e-5")
    assert before == after == both
    assert (before["train"]["lr"], before["seed"]) == (2e-5, 3)
    assert shown(capsys, "--lr", "1e-3", "conf", "--conf", conf, "--lr", "2e-5")["train"]["lr"] == 2e-5


def test_flag_over_set_over_file_on_the_command_line(conf: str, capsys) -> None:
    assert shown(capsys, "--conf", conf, "conf", "--set", "train.lr=3e-5")["train"]["lr"] == 3e-5
    assert shown(capsys, "--conf", conf, "conf", "--lr", "4e-5", "--set", "train.lr=3e-5")["train"]["lr"] == 4e-5


def test_every_flag_is_accepted(conf: str, capsys) -> None:
    switches = [f"--{flag}" for flag, key in FLAGS.items() if KEYS[key].kind is bool]
    assert switches == ["--freeze_resnet"]
    args = ["--max_epoches", "3", "--batch_size", "8", "--num_workers", "0", "--lr", "2e-5", "--lr_end", "1e-7"]
    args += ["--warm_up", "0.01", "--weight_decay", "0.001", "--patch_image_size", "96", "--max_image_size", "128"]
    args += ["--beam_size", "3", "--max_len", "20", "--work_dir", "w", "--seed", "1", "--checkpoint", "runs/best"]
    args += ["--objective", "scst"]
    result = shown(capsys, "conf", "--conf", conf, *args, *switches)
    assert {f"--{flag}" for flag in FLAGS} == {arg for arg in [*args, *switches] if arg.startswith("--")}
    assert (result["train"]["max_epochs"], result["train"]["freeze_resnet"]) == (3, True)
    assert (result["eval"]["max_len_b"], result["model"]["checkpoint"]) == (20, "runs/best")
    assert shown(capsys, "conf", "--conf", conf, "--max_epochs", "4")["train"]["max_epochs"] == 4


# --- commands --------------------------------------------------------------------------------------------------------


RANKS = {"rank": 0, "ranks": 1, "local_rank": 0}


def test_train(conf: str, calls: Calls, capsys) -> None:
    assert finetune.main(["--conf", conf, "train", "--batch_size", "8", "--checkpoint", "runs/best"]) == 0
    ((name, (config,), keywords),) = calls
    assert (name, keywords) == ("run_training", {"resume": False, "allow_changed_data": False} | RANKS)
    assert (config.train.batch_size, config.model.checkpoint) == (8, "runs/best")
    assert capsys.readouterr().out == ""
    assert finetune.main(["--conf", conf, "train", "--resume"]) == 0
    assert calls[1][2]["resume"] is True


def test_eval_writes_one_line_of_json(conf: str, calls: Calls, capsys) -> None:
    assert finetune.main(["--conf", conf, "eval", "--checkpoint", "runs/best", "--batch_size", "8"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"CIDEr": 0.5, "METEOR": None}
    assert out.count("\n") == 1
    assert "chatter of a library" in err
    ((_, (config, checkpoint, split, control), _),) = calls
    assert (checkpoint, split, control) == ("runs/best", "val", None)
    assert config.model.checkpoint is None  # what is scored is no part of how it was trained
    assert (config.eval.batch_size, config.train.batch_size) == (8, KEYS["train.batch_size"].default)


def test_eval_takes_the_split_from_the_command_line_or_the_file(conf: str, calls: Calls) -> None:
    assert finetune.main(["--conf", conf, "eval", "--split", "test"]) == 0
    assert finetune.main(["--conf", conf, "eval", "--set", "eval.split=train", "--control", "constant"]) == 0
    assert [args[1:] for _, args, _ in calls] == [(None, "test", None), (None, "train", "constant")]


def test_inference_takes_the_strength_of_guidance(conf: str, calls: Calls) -> None:
    command = ["--conf", conf, "inference", "--image", "a.jpg"]
    for text, strength in (("0.3", 0.3), ('{"Sweet": 0.5}', {"Sweet": 0.5})):
        assert finetune.main([*command, "--guidance", text]) == 0
        assert calls[-1][1][0].eval.style_guidance == strength
    assert finetune.main([*command, "--set", "eval.style_guidance=0.2"]) == 0
    assert calls[-1][1][0].eval.style_guidance == 0.2
    assert finetune.main([*command, "--guidance", "much"]) == 2
    assert finetune.main([*command, "--guidance", '{"Sweet": "much"}']) == 2


def test_inference_writes_captions(conf: str, calls: Calls, capsys) -> None:
    styles = "Sweet, Articulate (Well-spoken, Expressive)"
    assert finetune.main(["--conf", conf, "inference", "--image", "a.jpg", "b.jpg", "--style", styles]) == 0
    assert capsys.readouterr().out == "a.jpg\tSweet\thow lovely\n"
    ((_, _, keywords),) = calls
    assert keywords == {
        "checkpoint": None,
        "images": ["a.jpg", "b.jpg"],
        "styles": ["Sweet", "Articulate (Well-spoken, Expressive)"],
        "json_file": None,
        "random_n": None,
        "split": "val",
        "output": None,
    }


def test_inference_from_a_file_or_at_random(conf: str, calls: Calls) -> None:
    assert finetune.main(["--conf", conf, "inference", "--json", "requests.json", "--output", "o"]) == 0
    assert finetune.main(["--conf", conf, "inference", "--random", "4", "--split", "test"]) == 0
    first, second = (keywords for _, _, keywords in calls)
    assert (first["json_file"], first["output"], first["styles"]) == ("requests.json", "o", None)
    assert (second["random_n"], second["split"]) == (4, "test")


def test_doctor_reports_every_split(conf: str, calls: Calls, capsys, monkeypatch) -> None:
    assert finetune.main(["--conf", conf, "doctor"]) == 0
    assert capsys.readouterr().out == "\n\n".join(["faults: []"] * 3) + "\n"
    assert [name for name, _, _ in calls] == ["examine_splits"]
    bad = {name: Report(faults=["gone"]) for name in ("train", "val", "test")}
    monkeypatch.setattr(sys.modules["tasks.examining"], "examine_splits", lambda config: bad)
    assert finetune.main(["--conf", conf, "doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {name: {"faults": ["gone"]} for name in ("train", "val", "test")}


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("style\n unknown"), FileNotFoundError("no\nmodel"), OSError("disk full")])
def test_a_mistake_is_one_line_and_exit_code_2(conf: str, calls: Calls, capsys, error: Exception) -> None:
    calls.error = error
    assert finetune.main(["--conf", conf, "eval"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"finetune.py: error: {' '.join(str(error).split())}"
    assert "Traceback" not in err
    assert finetune.main(["--conf", conf, "--verbose", "eval"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130_and_a_bug_keeps_its_traceback(conf: str, calls: Calls) -> None:
    calls.error = KeyboardInterrupt()
    assert finetune.main(["--conf", conf, "train"]) == 130
    calls.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        finetune.main(["--conf", conf, "train"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["train", "--lrr", "1"], "--lrr"),
        (["--conf", "none.json", "train"], "no configuration file none.json"),
        (["train", "--lr", "fast"], '--lr: train.lr = "fast" must be number'),
        (["train", "--set", "train.lrr=1"], "did you mean train.lr?"),
        (["train", "--resume", "--checkpoint", "x"], "give one of them"),
        (["inference"], "--image --json --random"),
        (["inference", "--random", "0"], "1 or more"),
        (["inference", "--random", "2", "--json", "x"], "not allowed with"),
        (["eval", "--split", "dev"], "dev"),
    ],
)
def test_wrong_command_lines(args: list[str], message: str) -> None:
    assert message in run_fails(*args).stderr


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "train_conf.json").write_text('{\n "seed": 1,\n}')
    assert "train_conf.json: line 3, column 1: not JSON" in run_fails("conf", cwd=tmp_path).stderr


def test_the_default_configuration_is_found_from_any_folder(tmp_path: Path):
    command = [sys.executable, str(ROOT / "finetune.py"), "conf", "--jq", ".work_dir"]
    here = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == here
    own = {**CONF, "work_dir": "mine"}
    (tmp_path / "train_conf.json").write_text(json.dumps(own))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "mine\n"
    assert "no configuration file" in run_fails("--conf", "other.json", "conf", cwd=tmp_path).stderr


@pytest.mark.parametrize("options", [["--strict"], ["--tokenizer", "characters"], ["--bootstrap", "7"]])
def test_options_of_eval_reach_the_configuration(conf: str, calls: Calls, options: list[str]):
    assert finetune.main(["--conf", conf, "eval", *options]) == 0
    [(_, (config, *_), _)] = calls
    found = {"--strict": config.eval.strict, "--tokenizer": config.eval.tokenizer, "--bootstrap": config.eval.bootstrap}
    expected = {"--strict": False, "--tokenizer": "ptb", "--bootstrap": 1000}
    assert found == expected | {options[0]: {"--strict": True, "--bootstrap": 7}.get(options[0], "characters")}


def test_options_of_eval_that_contradict_the_configuration(conf: str, capsys: pytest.CaptureFixture[str]):
    sets = ["--set", "eval.scorer=pycocoevalcap"]
    assert finetune.main(["--conf", conf, *sets, "eval", "--tokenizer", "characters"]) == 2
    assert "brings its own tokenizer" in capsys.readouterr().err


def test_what_a_terminal_cannot_show_is_written_all_the_same(tmp_path: Path):
    name = tmp_path / "c.json"
    name.write_text(json.dumps({**CONF, "work_dir": "half \ud83d 你"}))
    command = [sys.executable, str(ROOT / "finetune.py"), "--conf", str(name), "conf"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["work_dir"] == "half \ud83d 你"
