"""What a VisualBERT loses when it is asked as its users of today ask it, through transformers' class and its defaults.

Scores the best checkpoint of a run of `conf/demo_visualbert.json` on its split val: as it was trained, with visual
types of 1 (transformers' default; the original trains with 0), without the `? [MASK]` behind the question (which
transformers' class does not add; it then reads the last word), and with both.

    python benchmarks/visualbert_defaults.py --conf conf/demo_visualbert.json
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor
from transformers import VisualBertForQuestionAnswering

from config import load_config
from data.run_folder import RunFolder
from tasks.answering.records import read_records
from tasks.answering.task import open_checkpoint

ROWS = 256
ENDING = 2  # ? and [MASK]


def cut(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same batch with `[SEP]` in place of `? [MASK] [SEP]`."""
    found = {name: tensor.clone() for name, tensor in batch.items()}
    lengths = found["text_mask"].sum(1)
    rows = torch.arange(len(lengths))
    found["input_ids"][rows, lengths - 1 - ENDING] = found["input_ids"][rows, lengths - 1]
    for back in range(ENDING):
        for name in ("input_ids", "text_mask"):
            found[name][rows, lengths - 1 - back] = 0
    return found


def asked(model: Any, batch: Mapping[str, Tensor], types: int | None) -> Tensor:
    """Logits of transformers' class; `types` None is its default."""
    given = {} if types is None else {"visual_token_type_ids": torch.full_like(batch["box_mask"], types)}
    return model(
        input_ids=batch["input_ids"],
        attention_mask=batch["text_mask"],
        token_type_ids=batch["segment_ids"],
        visual_embeds=batch["features"],
        visual_attention_mask=batch["box_mask"],
        **given,
    ).logits


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default="conf/demo_visualbert.json", metavar="FILE")
    parser.add_argument("--work_dir", metavar="DIR", help="of the run; default: the configuration's")
    args = parser.parse_args()
    config = load_config(args.conf, [f"work_dir={args.work_dir}"] if args.work_dir else [])
    best = Path(RunFolder(config.work_dir).path) / "checkpoints" / "best"
    records = read_records(config, "val")
    answerer = open_checkpoint(config, best, records)
    theirs = VisualBertForQuestionAnswering.from_pretrained(best).eval()
    right = dict.fromkeys(("as trained", "types 1", "no ? [MASK]", "both"), 0)
    for start in range(0, len(records), ROWS):
        questions = [records.questions[row] for row in range(start, min(start + ROWS, len(records)))]
        batch = answerer.reader.collate([answerer.reader(one.text, records.regions(one)) for one in questions])
        short = cut(batch)
        for name, (given, types) in zip(right, ((batch, 0), (batch, None), (short, 0), (short, None)), strict=True):
            found = asked(theirs, given, types).argmax(1).tolist()
            right[name] += sum(answerer.answers[row] == one.answer for row, one in zip(found, questions, strict=True))
    print(json.dumps({name: round(100 * count / len(records), 1) for name, count in right.items()}))


if __name__ == "__main__":
    main()
