"""LXMERT and CATT against the original programs: states, heads, losses and gradients with the same weights."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.lxmert import LxmertForPretraining, LxmertModel
from models.lxmert.naming import original_names
from tests.parity.conftest import Golden
from tests.parity.lxmert_cases import (
    assert_close,
    config_of,
    feats_for,
    filled,
    shapes_of,
    sized_by,
    tensors,
)
from trainers.pretraining_losses import Labels, Part, pretraining_parts, total

#: Scores near the original's mask value of -10000 are rounded to 1e-3.
ALL_MASKED_TOLERANCE = 2e-3
GRADIENT_TOLERANCE = 1e-4
PARTS = {
    "Mask_LM": "words",
    "Matched": "matched",
    "Obj": "objects",
    "Attr": "attributes",
    "Feat": "features",
    "QA": "answers",
}


# --- the encoder -----------------------------------------------------------------------------------------------------


def encoder_run(golden: Golden, given: list[str], **options: Any) -> Any:
    data = tensors(golden)
    known = {
        "attention_mask": data["input_mask"],
        "token_type_ids": data["segment_ids"],
        "visual_attention_mask": data["visual_mask"],
    }
    model = filled(LxmertModel(config_of(golden)))
    with torch.no_grad():
        return model(
            data["input_ids"], data["feats"], data["boxes"], **{name: known[name] for name in given}, **options
        )


def row_tolerance(golden: Golden, run: str) -> np.ndarray:
    """The tolerance of each example [B, 1, 1]."""
    tolerance = np.full((golden.json["config"]["batch"], 1, 1), 1e-5)
    if "visual_attention_mask" in golden.json["runs"][run]:
        hidden = golden.arrays["visual_mask"].sum(1) == 0
        tolerance[hidden] = ALL_MASKED_TOLERANCE
    return tolerance


def assert_rows_close(found: Tensor, expected: np.ndarray, tolerance: np.ndarray) -> None:
    difference = np.abs(found.numpy() - expected)
    assert (difference <= tolerance.reshape(-1, *[1] * (difference.ndim - 1))).all(), difference.max()


@pytest.mark.goldens("lxmert_encoder*", system="lxmert")
def test_states_of_the_encoder(golden: Golden) -> None:
    for run, given in golden.json["runs"].items():
        found = encoder_run(golden, given, skip_padding=False)
        tolerance = row_tolerance(golden, run)
        for name in ("language", "vision", "pooled"):
            assert_rows_close(getattr(found, name), golden.arrays[f"{run}_{name}"], tolerance)


@pytest.mark.goldens("lxmert_encoder*", system="lxmert")
def test_nothing_that_is_there_changes_when_padding_is_skipped(golden: Golden) -> None:
    words = golden.arrays["input_mask"].astype(bool)
    for run, given in golden.json["runs"].items():
        found = encoder_run(golden, given)
        tolerance = row_tolerance(golden, run)
        there = words if "attention_mask" in given else np.ones_like(words)
        language = torch.where(torch.from_numpy(there)[..., None], found.language, torch.zeros(()))
        assert_rows_close(language, golden.arrays[f"{run}_language"] * there[..., None], tolerance)
        assert_rows_close(found.vision, golden.arrays[f"{run}_vision"], tolerance)
        assert_rows_close(found.pooled, golden.arrays[f"{run}_pooled"], tolerance)


@pytest.mark.goldens("lxmert_encoder*", system="lxmert")
def test_states_after_every_layer(golden: Golden) -> None:
    config, stride = config_of(golden), golden.json["stage_stride"]
    model = filled(LxmertModel(config))
    encoder = model.encoder
    parts: dict[str, nn.Module] = {"embeddings": model.embeddings, "visual_embeddings": encoder.visn_fc}
    parts |= {f"l{i}": layer for i, layer in enumerate(encoder.layer)}
    parts |= {f"r{i}": layer for i, layer in enumerate(encoder.r_layers)}
    for i, layer in enumerate(encoder.x_layers):
        parts |= {f"x{i}_lang": layer.lang_output, f"x{i}_visn": layer.visn_output}  # type: ignore[dict-item]
    found: dict[str, Tensor] = {}
    for name, part in parts.items():
        part.register_forward_hook(lambda _module, _args, output, name=name: found.update({name: output}))
    data = tensors(golden)
    with torch.no_grad():
        masks = (data["input_mask"], data["visual_mask"], data["segment_ids"])
        model(data["input_ids"], data["feats"], data["boxes"], *masks, skip_padding=False)
    tolerance = row_tolerance(golden, "padded_vmask")
    stages = {name.removeprefix("stage_") for name in golden.arrays if name.startswith("stage_")}
    assert stages == set(parts)
    for name in stages:
        assert_rows_close(found[name][:, :, ::stride], golden.arrays[f"stage_{name}"], tolerance)


@pytest.mark.goldens("lxmert_encoder*", system="lxmert")
def test_names_and_shapes_of_the_encoder(golden: Golden) -> None:
    assert shapes_of(LxmertModel(config_of(golden))) == golden.json["keys"]


# --- pre-training ----------------------------------------------------------------------------------------------------


def pretraining_case(golden: Golden) -> tuple[LxmertForPretraining, dict[str, Tensor | None], Labels]:
    """The model, its inputs and labels, as the original's defaults weigh them."""
    data = tensors(golden)
    given = golden.json["config"]
    shape = (given["batch"], given["boxes"], given["feat"])
    for name, how in golden.json.get("derived_inputs", {}).items():
        data[name] = feats_for(given["seed"] + seed_offset(how), shape)
    inputs: dict[str, Tensor | None] = {
        "input_ids": data["input_ids"],
        "visual_feats": data["feats"],
        "visual_pos": data["boxes"],
        "attention_mask": data["input_mask"],
        "visual_attention_mask": data["visual_mask"] if golden.json["visual_mask_given"] else None,
        "token_type_ids": data["segment_ids"],
    }
    labels = Labels(
        words=data["lm_labels"],
        matched=data["matched"],
        answers=data["ans"],
        masked=data["feat_mask"],
        objects=data["obj_labels"],
        object_confidence=data["obj_conf"],
        attributes=data["attr_labels"],
        attribute_confidence=data["attr_conf"],
        features=data["feat_labels"],
    )
    return filled(LxmertForPretraining(sized_by(golden, golden.json["keys"]))), inputs, labels


def seed_offset(how: str) -> int:
    """Of `feats_for(seed + 5, ...)`: 5."""
    found = re.search(r"feats_for\(seed\s*(?:\+\s*(\d+))?\s*,", how)
    assert found, how
    return int(found[1] or 0)


def parts_of(golden: Golden) -> tuple[LxmertForPretraining, dict[str, Part]]:
    model, inputs, labels = pretraining_case(golden)
    return model, pretraining_parts(model, inputs, labels, box_losses="published")


pretraining = pytest.mark.goldens(
    "lxmert_pretrain*", "catt_*", system="lxmert", when=lambda content: "loss_names" in content
)


@pretraining
def test_losses_of_pretraining(golden: Golden) -> None:
    _, parts = parts_of(golden)
    found = [parts[PARTS[name]].mean.item() for name in golden.json["loss_names"]]
    assert_close(found, golden.json["losses"])
    assert_close(found, golden.json["losses_in_float64"])
    # six numbers are added: each may be off by the tolerance
    assert_close(total(parts).item(), golden.json["total"], 6e-5)


@pretraining
def test_a_loss_alone_is_what_it_is_among_all(golden: Golden) -> None:
    model, inputs, labels = pretraining_case(golden)
    groups = {
        "lm": {"words"},
        "matched": {"matched"},
        "visual": {"masked", "objects", "object_confidence", "attributes", "attribute_confidence", "features"},
        "qa": {"answers"},
    }
    for name, fields in groups.items():
        if name in golden.json.get("parts", {}):
            alone = Labels(**{field: getattr(labels, field) for field in fields})
            parts = pretraining_parts(model, inputs, alone, box_losses="published")
            expected, of_each = golden.json["parts"][name]
            assert_close(total(parts).item(), expected, 3e-5)
            assert_close([part.mean.item() for part in parts.values()], of_each)
    # NaN in the original
    nothing = Labels(words=torch.full_like(inputs["input_ids"], -1), answers=torch.full_like(labels.answers, -1))  # type: ignore[arg-type]
    assert float(total(pretraining_parts(model, inputs, nothing, box_losses="masked")).detach()) == 0
    with pytest.raises(ValueError, match="without any label"):
        pretraining_parts(model, inputs, Labels(), box_losses="masked")


@pretraining
def test_outputs_of_pretraining(golden: Golden) -> None:
    model, inputs, _ = pretraining_case(golden)
    ids, feats, boxes, mask, visual_mask, types = inputs.values()
    assert ids is not None
    assert feats is not None
    assert boxes is not None
    with torch.no_grad():
        encoded = model.lxmert(ids, feats, boxes, mask, visual_mask, types, skip_padding=False)
        words, matched = model.cls(encoded.language, encoded.pooled)
        seen = model.obj_predict_head(encoded.vision)
        answers = model.answer_head(encoded.pooled)
    found = encoded._asdict() | {"word_logits": words, "matched_logits": matched, "answer_logits": answers}
    found |= {"obj_logits": seen["obj"], "attr_logits": seen["attr"], "feat_prediction": seen["feat"]}
    for name, output in found.items():
        assert_close(output[..., :: golden.json["strides"].get(name, 1)], golden.arrays[name])


@pretraining
def test_gradients_of_pretraining(golden: Golden) -> None:
    model, parts = parts_of(golden)
    total(parts).backward()
    names = original_names(model)
    norms = {names[name]: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    without = {names[name] for name, p in model.named_parameters() if p.grad is None}
    assert without == set(golden.json["without_gradient"])
    whole = np.linalg.norm(list(norms.values()))
    assert whole == pytest.approx(golden.json["grad_norm"], rel=GRADIENT_TOLERANCE)
    expected = golden.json.get("grad_norms", {})
    # what is mathematically 0 (a bias of keys) is rounding noise in both
    assert {name: norms[name] for name in expected} == pytest.approx(expected, rel=GRADIENT_TOLERANCE, abs=2e-6)


@pretraining
def test_names_and_shapes_of_pretraining(golden: Golden) -> None:
    assert shapes_of(LxmertForPretraining(sized_by(golden, golden.json["keys"]))) == golden.json["keys"]


@pytest.mark.goldens("catt_contrasts*", system="lxmert", when=lambda content: "original" in content)
def test_each_option_of_causal_attention_changes_what_it_changes_in_the_original(golden: Golden) -> None:
    for pair, expected in golden.json["max_abs_difference_of_language"].items():
        cases = [beside(golden, name) for name in pair.split(" / ")]
        assert expected > 1
        if None in cases:  # the folder does not hold what was compared
            continue
        found = []
        for case in cases:
            assert case is not None
            model, inputs, _ = pretraining_case(case)
            ids, feats, boxes, *masks = inputs.values()
            with torch.no_grad():
                found.append(model.lxmert(ids, feats, boxes, *masks, skip_padding=False).language)
        assert (found[0] - found[1]).abs().max().item() == pytest.approx(expected, abs=2e-5)


def beside(golden: Golden, name: str) -> Golden | None:
    """The case of that name in the same folder; its file may carry a suffix."""
    folder = golden.path.parent
    files = [folder / f"{name}.json", *sorted(folder.glob(f"{name}_*.json"))]
    return next((Golden(file) for file in files if file.exists()), None)
