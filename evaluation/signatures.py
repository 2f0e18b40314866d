"""What a score was made with, in one line beside it, as sacrebleu does (Post, 2018): scores with other signatures are
not to be compared."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Raise it when a score of the same captions changes.
VERSION = 1
_BY_WORDS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr", "CIDEr-D", "METEOR", "SPICE")
_FREQUENCIES = ("CIDEr", "CIDEr-D")


def signatures(
    names: Iterable[str],
    *,
    references: Sequence[Sequence[str]],
    tokenizer: str,
    scorer: str,
    training: str | None,
    others: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:
    """Score -> `key:value|...|v:1`.

    Args:
        names: of the scores; those without a rule here or in `others` have no signature.
        references: raw, of each caption.
        tokenizer, scorer: what words are, and which program counts them.
        training: digest of the training captions that CIDEr-D takes document frequencies from; None = the references.
        others: score -> what else it depends on, such as the encoder of SBERT-sim.
    """
    common = {"refs": reference_signature(references)}
    found = {}
    for name in names:
        parts: dict[str, str] = {}
        if name in _BY_WORDS:
            parts = {"tok": tokenizer, "by": scorer}
        if name in _FREQUENCIES:
            parts["df"] = f"train-{training[:8]}" if name == "CIDEr-D" and training is not None else "refs"
        parts |= others.get(name, {})
        if parts:
            pairs = {**common, **parts, "v": str(VERSION)}
            found[name] = "|".join(f"{key}:{value}" for key, value in pairs.items())
    return found


def reference_signature(references: Sequence[Sequence[str]]) -> str:
    """How many there are of a caption, fewest to most, and a digest of all: `1-5-0f3a9c12`, whatever their order."""
    counts = [len(own) for own in references]
    span = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    return f"{span}-{digest(references)}"


def digest(references: Iterable[Sequence[str]]) -> str:
    """8 hexadecimal digits of a corpus, whatever the order of its images and of their captions."""
    lines = sorted(json.dumps(sorted(own)) for own in references)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


def differing(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Score -> its different signatures, for scores that runs made in different ways; runs without one do not count."""
    every = [found for one in metrics if isinstance(found := one.get("signatures"), Mapping)]
    names = dict.fromkeys(name for found in every for name in found)
    by_name = {name: sorted({str(found[name]) for found in every if name in found}) for name in names}
    return {name: different for name, different in by_name.items() if len(different) > 1}
