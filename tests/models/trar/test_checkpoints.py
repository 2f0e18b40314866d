"""TRAR's weights in files: ours, the public code's, and files that are broken or of something else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.trar.checkpoints import (
    load_checkpoint,
    load_published,
    read_published,
    save_checkpoint,
    write_published,
)
from tests.models.trar.nano import SIZES, nano_batch, nano_config, nano_model

WORDS = [f"word {number}" for number in range(SIZES["words"])]
ANSWERS = [f"answer {number}" for number in range(SIZES["answers"])]


def test_a_directory_gives_back_the_model_its_words_answers_and_temperature(tmp_path: Path) -> None:
    model = nano_model(routing="hard", orders=(0, 2), pooling="fc")
    model.tau = 0.37
    save_checkpoint(tmp_path / "best", model, WORDS, ANSWERS)
    again = load_checkpoint(tmp_path / "best")
    assert (list(again.words), list(again.answers)) == (WORDS, ANSWERS)
    assert again.model.tau == 0.37
    assert again.model.config == model.config
    assert not again.model.training
    assert torch.equal(again.model(*nano_batch()).logits, model(*nano_batch()).logits)


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", nano_model(), WORDS, ANSWERS)
    (tmp_path / "last" / "stray").touch()
    save_checkpoint(tmp_path / "last", nano_model(), WORDS, ANSWERS)
    files = {"config.json", "model.safetensors", "words.json", "answers.json"}
    assert {path.name for path in (tmp_path / "last").iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_evaluation_can_be_asked_for_when_a_directory_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best", nano_model(routing="hard"), WORDS, ANSWERS)
    model = load_checkpoint(tmp_path / "best", evaluation="published", binarize=True).model
    assert (model.config.evaluation, model.config.binarize) == ("published", True)


def test_words_of_another_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="11 words for a model with 12"):
        save_checkpoint(tmp_path / "best", nano_model(), WORDS[1:], ANSWERS)
    assert not (tmp_path / "best").exists()
    save_checkpoint(tmp_path / "best", nano_model(), WORDS, ANSWERS)
    (tmp_path / "best" / "answers.json").write_text(json.dumps(ANSWERS * 2))
    with pytest.raises(ValueError, match="10 answers for a model with 5"):
        load_checkpoint(tmp_path / "best")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "not valid JSON"),
        ("config.json", '{"model_type": "ofa"}', 'of type "trar"'),
        ("config.json", '{"model_type": "trar", "words": 12}', "answers missing"),
        ("config.json", '{"model_type": "trar", "words": "12", "answers": 5}', "config.json"),
        ("words.json", "{}", "holds a dict, not a list"),
        ("model.safetensors", "nothing", "damaged or truncated"),
    ],
)
def test_a_broken_directory_is_said_to_be(tmp_path: Path, name: str, text: str, message: str) -> None:
    save_checkpoint(tmp_path / "best", nano_model(), WORDS, ANSWERS)
    (tmp_path / "best" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "best")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read .*config.json"):
        load_checkpoint(tmp_path)


def published(path: Path, **changes: Any) -> dict[str, Any]:
    """An `epochN.pkl` of a nano network, and its content."""
    model = nano_model(pool_padding=True, **changes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    model(*nano_batch()).logits.sum().backward()
    optimizer.step()
    write_published(path, model, optimizer=optimizer.state_dict(), lr_base=2e-5, epoch=11)
    return torch.load(path, weights_only=True)


TOLD: dict[str, Any] = {"grid": 4, "heads": 2, "dropout": 0.0}


@pytest.mark.parametrize("head", ["vqa", "clevr"])
@pytest.mark.parametrize("pooling", ["avg", "attention", "fc"])
def test_sizes_head_and_pooling_come_from_published_weights(tmp_path: Path, head: str, pooling: str) -> None:
    published(tmp_path / "epoch11.pkl", head=head, pooling=pooling, orders=(0, 1), glimpses=2, routing="hard")
    model = load_published(tmp_path / "epoch11.pkl", orders=(0, 1), routing="hard", binarize=False, **TOLD)
    expected = nano_config(head=head, pooling=pooling, orders=(0, 1), glimpses=2, routing="hard", pool_padding=True)
    assert model.config == expected
    assert model.tau == 0.1
    assert load_published(tmp_path / "epoch11.pkl", orders=(0, 1), tau=0.5, **TOLD).tau == 0.5


def test_what_weights_do_not_tell_is_that_of_the_public_configuration(tmp_path: Path) -> None:
    published(tmp_path / "epoch11.pkl", head="clevr", orders=(0, 1, 3))
    config = load_published(tmp_path / "epoch11.pkl", heads=2).config
    assert (config.grid, config.orders, config.routing, config.binarize) == (14, (0, 1, 3), "hard", True)


def test_a_published_file_is_read_in_full_and_adam_goes_on_from_it(tmp_path: Path) -> None:
    content = published(tmp_path / "epoch11.pkl")
    assert list(content) == ["state_dict", "optimizer", "lr_base", "epoch"]
    assert content["optimizer"]["param_groups"][0]["fused"] is None
    saved = read_published(tmp_path / "epoch11.pkl")
    assert (saved.lr_base, saved.epoch) == (2e-5, 11)
    assert saved.optimizer is not None
    model = nano_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    optimizer.load_state_dict(saved.optimizer)
    assert len(optimizer.state) == len(list(model.parameters()))


def test_weights_of_several_gpus_and_bare_weights_are_read_too(tmp_path: Path) -> None:
    state = nano_model(pool_padding=True).state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "bare.pkl")
    saved = read_published(tmp_path / "bare.pkl")
    assert list(saved.state) == list(state)
    assert (saved.optimizer, saved.lr_base, saved.epoch) == (None, None, None)
    assert load_published(tmp_path / "bare.pkl", **TOLD).config.words == SIZES["words"]


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_code_in_a_published_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Intruder()}, tmp_path / "epoch1.pkl")
    with pytest.raises(ValueError, match="code beside its tensors, which was not run"):
        read_published(tmp_path / "epoch1.pkl")
    assert capsys.readouterr().out == ""


def test_files_that_are_no_checkpoint_are_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_published(tmp_path / "epoch1.pkl")
    (tmp_path / "epoch1.pkl").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="damaged or truncated"):
        read_published(tmp_path / "epoch1.pkl")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "epoch1.pkl")
    with pytest.raises(ValueError, match="no table of weights"):
        read_published(tmp_path / "epoch1.pkl")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"orders": (0, 1)}, r"route between 4 spans, orders=\[0, 1\] has 2: set orders"),
        ({"hidden": 16}, "hidden=16 is asked for, but the weights are of hidden=8"),
        ({"orders": (0, 1, 2, 9)}, "order 9 does not fit a grid of 4x4"),
        ({"heads": 3}, "hidden=8 is not divisible by heads=3"),
        ({"wheels": 4}, "wheels"),
    ],
)
def test_settings_that_do_not_fit_published_weights(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    published(tmp_path / "epoch11.pkl")
    with pytest.raises(ValueError, match=message):
        load_published(tmp_path / "epoch11.pkl", **TOLD | settings)


def test_weights_of_something_else(tmp_path: Path) -> None:
    torch.save({"state_dict": {"encoder.weight": torch.ones(2)}}, tmp_path / "epoch1.pkl")
    with pytest.raises(ValueError, match="they are not TRAR's"):
        load_published(tmp_path / "epoch1.pkl")
    state = nano_model(pool_padding=True).state_dict()
    del state["backbone.dec_list.1.norm3.a_2"]
    torch.save({"state_dict": state | {"extra": torch.ones(1)}}, tmp_path / "epoch1.pkl")
    with pytest.raises(ValueError, match=r"1 missing: backbone.dec_list.1.norm3.a_2; 1 unexpected: extra"):
        load_published(tmp_path / "epoch1.pkl", **TOLD)
