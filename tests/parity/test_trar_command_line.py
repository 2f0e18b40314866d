"""The flags and defaults of the public code's run.py, and how they are told here."""

import json
import re
from typing import Any

import pytest

from conf.answering import AnsweringConfig
from conf.trar_flags import FLAGS, translate
from conf.typed import keys_of
from config import load_config
from models.trar import TrarConfig
from models.trar.configuration import PUBLISHED_FORMS, PUBLISHED_NAMES, published_settings
from tests.conftest import ROOT
from tests.parity.conftest import Golden
from trainers.trar_schedule import POLICIES

DOCS = ROOT / "docs" / "trar_flags.md"
OF_COMMAND_LINE = pytest.mark.goldens("command_line*", system="trar", when=lambda case: "flags" in case)


@OF_COMMAND_LINE
def test_every_flag_of_the_public_code_is_taken(golden: Golden) -> None:
    own = {f"--{flag.name}": flag for flag in FLAGS}
    assert {flag["flag"] for flag in golden.json["flags"]} <= set(own)
    for told in golden.json["flags"]:
        flag = own[told["flag"]]
        assert (flag.sets, flag.required) == (told["sets"], told["required"])
        assert flag.kind.__name__ == told["type"]
        assert list(flag.choices or ()) == list(told["choices"] or ())


@OF_COMMAND_LINE
def test_the_published_sizes_are_the_defaults_of_each_head(golden: Golden) -> None:
    cells = {"vqa": "FRCN_FEAT_SIZE", "clevr": "GRID_FEAT_SIZE"}
    for head, yaml in golden.json["yaml_defaults"].items():
        settings = golden.json["defaults_before_yaml"] | yaml | {"DATASET": head}
        number, width = golden.json["defaults_before_yaml"]["FEAT_SIZE"][head][cells[head]]
        sizes: dict[str, Any] = {"words": 9, "answers": 5, "feature_width": width}
        published = TrarConfig(**sizes, **published_settings(settings))
        assert published == TrarConfig(words=9, answers=5, head=head, pool_padding=True, **PUBLISHED_FORMS[head])
        assert published.cells == number


@OF_COMMAND_LINE
def test_the_page_lists_every_flag_and_every_key(golden: Golden) -> None:
    text = DOCS.read_text(encoding="utf-8")
    for told in golden.json["flags"]:
        assert f"| `{told['flag']}` | {told['sets']} |" in text
    keys = set().union(*golden.json["yaml_defaults"].values())
    elsewhere = {"MODEL_USE", "OPT", "USE_BBOX_FEAT", "BATCH_SIZE", "GRAD_ACCU_STEPS"}  # fixed here, or flags
    missing = [key for key in keys - elsewhere if not re.search(rf"\b{key}\b", text)]
    assert missing == []


def test_the_page_shows_the_table() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for flag in FLAGS:
        [row] = [line for line in text.splitlines() if line.startswith(f"| `--{flag.name}` |")]
        assert row.endswith(f"| {flag.here} |")
        assert all(f"`{choice}`" in row for choice in flag.choices or ())
    for field, name in PUBLISHED_NAMES.items():
        key = "train.dropout" if field == "dropout" else f"model.config.{field}"
        assert re.search(rf"\| {name}\b.*\| `{key}` \|", text), name


def test_every_key_of_the_page_is_there() -> None:
    keys = set(re.findall(r"`((?:train|data|eval|model)\.\w+)", DOCS.read_text(encoding="utf-8")))
    assert keys - set(keys_of(AnsweringConfig)) == set()


@OF_COMMAND_LINE
def test_the_recipes_have_the_published_values(golden: Golden) -> None:
    for head, yaml in golden.json["yaml_defaults"].items():
        config = load_config(ROOT / "conf" / f"trar_{head}.json")
        train, own = config.train, config.model.config
        assert {name: own[field] for field, name in PUBLISHED_NAMES.items() if name in yaml and field != "dropout"} == {
            name: yaml[name] for field, name in PUBLISHED_NAMES.items() if name in yaml and field != "dropout"
        }
        assert own["head"] == head
        assert train.dropout == yaml["DROPOUT_R"]
        assert train.tau_policy == POLICIES[yaml["TAU_POLICY"]]
        assert (train.lr, train.schedule_factor, train.warmup_epochs) == (
            yaml["LR_BASE"],
            yaml["LR_DECAY_R"],
            yaml["WARMUP_EPOCH"],
        )
        assert [int(part) for part in train.schedule_drops.split(",")] == yaml["LR_DECAY_LIST"]
        assert (train.max_epochs, train.keep_checkpoints) == (yaml["MAX_EPOCH"], yaml["MAX_EPOCH"])
        assert (train.batch_size * train.gradient_accumulation, train.gradient_accumulation) == (
            yaml["BATCH_SIZE"],
            yaml["GRAD_ACCU_STEPS"],
        )
        assert (train.loss, train.loss_reduction) == ({"ce": "cross-entropy"}.get(yaml["LOSS_FUNC"], "bce"), "sum")
        assert (train.adam_betas, train.adam_eps, train.weight_decay, train.clip_norm) == ((0.9, 0.98), 1e-9, 0.0, 0.0)
        assert (train.schedule, train.optimizer, train.dtype) == ("trar", "adamw", "float32")


MUST = "--RUN {} --MODEL trar --DATASET {}"
VQA = load_config(ROOT / "conf" / "trar_vqa.json")
TRAIN = "work_dir/trar/vqa/v2_OpenEnded_mscoco_{}2014_questions.json"
NOTES = "work_dir/trar/vqa/v2_mscoco_{}2014_annotations.json"
OWN = f"--set model.vocabulary={VQA.model.vocabulary} --set model.config={json.dumps(VQA.model.config)}"


@pytest.mark.parametrize(
    ("flags", "gpus", "command"),
    [
        (MUST.format("train", "vqa"), "cpu", "train --conf conf/trar_vqa.json"),
        (
            MUST.format("train", "clevr") + " --GPU 0,1 --VERSION mine --SEED 3 --NW 4 --PINM True",
            "0,1",
            "train --conf conf/trar_clevr.json --work_dir work_dir/trar/mine --set seed=3 --set data.num_workers=4 "
            "--set train.batch_size=16 --set train.gradient_accumulation=2",
        ),
        (
            MUST.format("train", "vqa") + " --BS 32 --ACCU 4 --SPLIT train+val --EVAL_EE False --VERB True",
            "cpu",
            "train --conf conf/trar_vqa.json --verbose --set data.val=null --set data.val_answers=null "
            f"--set data.train={TRAIN.format('train')},{TRAIN.format('val')} "
            f"--set data.train_answers={NOTES.format('train')},{NOTES.format('val')} "
            "--set train.batch_size=8 --set train.gradient_accumulation=4",
        ),
        (
            MUST.format("train", "clevr") + " --SPLIT train+val --EVAL_EE True",
            "cpu",
            "train --conf conf/trar_clevr.json --set data.val=null --set data.val_answers=null --set data.train="
            "work_dir/trar/clevr/CLEVR_train_questions.json,work_dir/trar/clevr/CLEVR_val_questions.json",
        ),
        (
            MUST.format("train", "vqa") + " --RESUME True --CKPT_V mine --CKPT_E 10",
            "cpu",
            "train --resume --conf conf/trar_vqa.json --set train.resume_from=work_dir/trar/mine/checkpoints/epoch-10",
        ),
        (MUST.format("train", "vqa") + " --RESUME True", "cpu", "train --resume --conf conf/trar_vqa.json"),
        (
            MUST.format("test", "vqa") + " --CKPT_PATH epoch13.pkl --CKPT_V mine --CKPT_E 1 --SAVE_PRED True",
            "cpu",
            f"eval --split test --conf conf/trar_vqa.json --checkpoint epoch13.pkl --set eval.top=100000 {OWN}",
        ),
    ],
)
def test_flags_are_told_as_a_command(flags: str, gpus: str, command: str) -> None:
    found = translate(flags.split())
    assert (found.gpus, " ".join(found.arguments)) == (gpus, command)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (MUST.format("train", "clevr") + " --SPLIT train+val+vg", "CLEVR has train and val"),
        (MUST.format("train", "vqa") + " --RESUME True --CKPT_PATH a.pkl", "holds no run to go on from"),
        ("--RUN train", "--MODEL, --DATASET"),
        (MUST.format("fly", "vqa"), "invalid choice: 'fly'.*docs/trar_flags.md"),
        (MUST.format("train", "vqa") + " --ORDERS 0", "unrecognized arguments: --ORDERS 0"),
        (MUST.format("train", "vqa") + " --BS 10 --ACCU 3", "--BS 10 is not divisible by --ACCU 3 times 1 GPUs"),
        (MUST.format("train", "vqa") + " --CKPT_PATH a", "add --RESUME True"),
        (MUST.format("val", "vqa") + " --CKPT_E 3", "--CKPT_V and --CKPT_E together"),
    ],
)
def test_flags_that_do_not_go_together(flags: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translate(flags.split())
