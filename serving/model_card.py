"""The model card of an exported run: what it is, what made it, how good it is; with the header that the hubs read."""

import json
from collections.abc import Mapping
from typing import Any

_SCORES = ("CIDEr", "CIDEr-D", "BLEU-1", "BLEU-4", "ROUGE-L", "METEOR", "SPICE")
CODE_LICENSE = "apache-2.0"  # of this project and of OFA's public weights


def model_card(
    name: str,
    *,
    command: str,
    conf: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    styles: Mapping[str, str],
    parameters: int,
    data_license: str | None,
    links: Mapping[str, str] | None = None,
    adapter_of: str | None = None,
) -> str:
    """A README.md in Markdown.

    Args:
        name: of the model.
        command: that made it.
        conf: the run's configuration, nested; None where it is not known.
        metrics: of metrics.json; None where it was not evaluated.
        styles: style -> token of the vocabulary.
        parameters: of the model, in all.
        data_license: of the training data, as the user gives it.
        links: tracker -> where it shows the run.
        adapter_of: the model that this is a LoRA adapter of; None for a whole model.
    """
    start = ((conf or {}).get("model") or {}).get("checkpoint")
    data = (conf or {}).get("data") or {}
    lines = [
        "---",
        f"license: {CODE_LICENSE if data_license is None else 'other'}",
        "pipeline_tag: image-to-text",
        "tags: [image-captioning, stylish-captioning, ofa]",
        *_index(name, metrics),
        "---",
        "",
        f"# {name}",
        "",
        f"{_kind(parameters, adapter_of)} that captions images in {len(styles)} styles: "
        f"{', '.join(list(styles)[:12])}{', …' if len(styles) > 12 else ''}.",
        "",
        "## How it was made",
        "",
        f"    {command}",
        "",
        f"Started from: {start or 'nothing (no pretrained weights)'}. Training captions: "
        f"{data.get('train') or 'the rendered set'}.",
        *(f"Followed in {tracker}: <{url}>" for tracker, url in (links or {}).items()),
        "",
        *_table(metrics),
        "## Licences",
        "",
        f"- Code, and the public OFA weights that a run may start from: {CODE_LICENSE}.",
        f"- Training data: {data_license or 'not stated; see where the captions and photographs come from'}.",
        "",
        "## Use",
        "",
        "```python",
        "import tasks.captioning.modelscope  # of a Stylecap checkout",
        "from modelscope.pipelines import pipeline",
        "",
        'captioner = pipeline("image-captioning", model="FOLDER")',
        f'captioner({{"image": "a.jpg", "style": {json.dumps(next(iter(styles), ""), ensure_ascii=False)}}})',
        "```",
        "",
        "`OFAModel.from_pretrained(FOLDER)` reads the same folder. Captions repeat what their training data believes",
        "about people and places; look at them before anyone else does.",
    ]
    return "\n".join(lines) + "\n"


def _index(name: str, metrics: Mapping[str, Any] | None) -> list[str]:
    """The header's part that hubs show as results."""
    found = {score: value for score in _SCORES if (value := (metrics or {}).get(score)) is not None}
    rows = [f"      - {{type: {score.lower()}, value: {100 * value:.2f}}}" for score, value in found.items()]
    if not rows:
        return []
    split = json.dumps((metrics or {}).get("split", "val"))
    task = "  - task: {type: image-to-text}"
    data = f"    dataset: {{name: {split}, type: {split}}}"
    return ["model-index:", f"- name: {json.dumps(name)}", "  results:", task, data, "    metrics:", *rows]


def _table(metrics: Mapping[str, Any] | None) -> list[str]:
    if metrics is None:
        return []
    head = "| | " + " | ".join(_SCORES) + " |"
    rows = {"all": metrics} | dict(metrics.get("per_style") or {})
    cells = {row: [scores.get(name) for name in _SCORES] for row, scores in list(rows.items())[:13]}
    lines = [
        f"| {row} | " + " | ".join("–" if value is None else f"{100 * value:.1f}" for value in values) + " |"
        for row, values in cells.items()
    ]
    accuracy = ((metrics.get("style") or {}).get("accuracy")) if metrics else None
    said = [] if accuracy is None else ["", f"Style accuracy {100 * accuracy:.1f}%, by a classifier of human captions."]
    title = f"## Scores x 100 on {metrics.get('n_captions')} captions of split {metrics.get('split', '?')}"
    return [title, "", head, "|" + " --- |" * (len(_SCORES) + 1), *lines, *said, ""]


def _kind(parameters: int, adapter_of: str | None) -> str:
    if adapter_of is None:
        return f"An OFA of {parameters / 1e6:.1f} M parameters"
    return f"A LoRA adapter of {parameters / 1e3:.1f} thousand parameters, of the OFA `{adapter_of}`,"
