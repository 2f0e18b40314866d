"""The model card of an exported model that answers questions."""

import json
from collections.abc import Mapping
from typing import Any

from serving.model_card import CODE_LICENSE


def answerer_card(
    name: str,
    *,
    conf: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    parameters: int,
    data_license: str | None,
) -> str:
    """A README.md in Markdown.

    Args:
        name: of the model.
        conf: the run's configuration, nested; metrics: of metrics.json; None where they are not known.
        settings: of the checkpoint's answering.json.
        parameters: of the model, in all.
        data_license: of the training data, as the user gives it.
    """
    model, data = ((conf or {}).get(section) or {} for section in ("model", "data"))
    start = model.get("checkpoint") or model.get("start")
    lines = [
        "---",
        f"license: {CODE_LICENSE if data_license is None else 'other'}",
        "pipeline_tag: visual-question-answering",
        f"tags: [visual-question-answering, {settings['type']}]",
        *_index(name, metrics),
        "---",
        "",
        f"# {name}",
        "",
        f"A network of type {settings['type']} with {parameters / 1e6:.1f} M parameters that answers questions about "
        f"{'pairs of pictures' if settings['images'] > 1 else 'pictures'}.",
        "",
        "## How it was made",
        "",
        "    python finetune.py --conf conf.json train",
        "",
        f"Started from: {start or 'nothing (no pretrained weights)'}. Training questions: "
        f"{data.get('train') or 'the drawn set'}. Features: {settings['width']} numbers a region, made by "
        f"{settings['detector'] or 'an unknown detector'}.",
        "",
        *_table(metrics),
        "## Licences",
        "",
        f"- Code: {CODE_LICENSE}.",
        f"- Training data: {data_license or 'not stated; see where the questions and pictures come from'}.",
        "",
        "## Use",
        "",
        "```python",
        "import tasks.answering.modelscope  # of a Stylecap checkout",
        "from modelscope.pipelines import pipeline",
        "",
        'answer = pipeline("visual-question-answering", model="FOLDER")',
        'answer({"image": "a.jpg", "text": "what is it?"})',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _index(name: str, metrics: Mapping[str, Any] | None) -> list[str]:
    """The header's part that hubs show as results."""
    accuracy = (metrics or {}).get("accuracy")
    if accuracy is None:
        return []
    split = json.dumps((metrics or {}).get("split", "val"))
    return [
        "model-index:",
        f"- name: {json.dumps(name)}",
        "  results:",
        "  - task: {type: visual-question-answering}",
        f"    dataset: {{name: {split}, type: {split}}}",
        "    metrics:",
        f"      - {{type: accuracy, value: {100 * accuracy:.2f}}}",
    ]


def _table(metrics: Mapping[str, Any] | None) -> list[str]:
    if metrics is None:
        return []
    found = {key: value for key, value in metrics.items() if key.startswith("accuracy") and isinstance(value, float)}
    rows = [f"| {key} | {100 * value:.1f} |" for key, value in found.items()]
    split, number = metrics.get("split", "?"), metrics.get("n_questions")
    return [f"## Scores x 100 on {number} questions of split {split}", "", "| | |", "| --- | --- |", *rows, ""]
