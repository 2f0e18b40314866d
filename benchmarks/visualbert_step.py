"""VisualBERT: seconds of a training step, and inputs a second; prints one JSON object.

    python benchmarks/visualbert_step.py [--layers 4] [--batch 16] [--rounds 3] [--vocabulary vocab.txt]

A step is forward, loss and backward of the same weights on the same batch: ours beside transformers' class, turn about.
Texts have the lengths of VQA's questions and of COCO's caption pairs and are padded to the longest of the batch; images
have 100 regions of 2048 numbers (vqa, captions), or 2 x 144 of 1024 (nlvr2). `padded` gives transformers' class texts
padded to 128, as its examples do.

Inputs are batches of VQA fine-tuning and of caption pairs with masked words, regions included: ours beside the original
data set's steps, told plainly: a tokenizer in Python for every text, the list of the vocabulary made for each replaced
word, a file of features an image, arrays padded one by one.
"""

import argparse
import json
import platform
import random
import statistics
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from data.features import FeatureStore, import_features
from models.visualbert import HEADS, VisualBERTConfig, VisualBERTModel
from models.wordpiece import load_wordpiece
from preprocessors.visualbert.captions import CaptionPairs, caption_text
from preprocessors.visualbert.collate import Item, collate
from preprocessors.visualbert.draws import item_draws
from preprocessors.visualbert.pieces import WordPieces
from preprocessors.visualbert.questions import question_text

WORDS = (
    "a man the woman young boy two dogs red frisbee runs through green grass is jumping over muddy field with joy on "
    "what color how many people are wearing glasses kitchen counter motorbike countryside hippopotamus umbrella"
).split()
#: Cases: head, words of a text, regions, width of a region, words that are masked.
CASES: dict[str, tuple[str, tuple[int, int], int, int, bool]] = {
    "vqa": ("vqa", (6, 16), 100, 2048, False),
    "nlvr2": ("nlvr2", (10, 32), 288, 1024, False),
    "captions": ("pretraining", (20, 36), 100, 2048, True),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4, help="of the released models' 12")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the matrix products")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--vocabulary", help="bert-base-uncased's vocab.txt: measure inputs too")
    parser.add_argument("--items", type=int, default=256, help="inputs of a round")
    return parser.parse_args()


# --- a step ----------------------------------------------------------------------------------------------------------


def step_case(args: argparse.Namespace, name: str) -> dict[str, float]:
    head, lengths, regions, width, masked = CASES[name]
    labels: dict[str, Any] = {"num_labels": 3129} if head == "vqa" else {}
    config = VisualBERTConfig(head=head, visual_embedding_dim=width, num_hidden_layers=args.layers, **labels)
    torch.manual_seed(0)
    ours = VisualBERTModel(config).to(args.device)
    fields = {field: value for field, value in config.to_dict().items() if field != "head"}
    theirs = getattr(transformers, HEADS[head])(transformers.VisualBertConfig.from_dict(fields)).to(args.device)
    theirs.load_state_dict(ours.state_dict())
    batch = {
        key: value.to(args.device) for key, value in step_batch(args.batch, lengths, regions, width, masked).items()
    }
    batch |= step_targets(head, args.batch, args.device)
    plain, longer = for_theirs(batch, head), for_theirs(padded(batch, 128), head)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours_s": lambda: ours(**batch).loss,
        "theirs_s": lambda: theirs(**plain).loss,
        "padded_s": lambda: theirs(**longer).loss,
    }
    models = {"ours_s": ours, "theirs_s": theirs, "padded_s": theirs}
    with torch.autocast(args.device, getattr(torch, args.dtype), enabled=args.dtype != "float32"):
        times = turn_about({way: stepping(models[way].train(), loss) for way, loss in ways.items()}, args)
    return times | {
        "faster": times["theirs_s"] / times["ours_s"],
        "faster_than_padded": times["padded_s"] / times["ours_s"],
    }


def stepping(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def step_batch(rows: int, lengths: tuple[int, int], regions: int, width: int, masked: bool) -> dict[str, Tensor]:
    words = torch.randint(lengths[0], lengths[1] + 1, (rows,))
    words[0] = lengths[1]
    mask = torch.arange(lengths[1]) < words[:, None]
    batch = {
        "input_ids": torch.randint(1000, 30000, mask.shape) * mask,
        "text_mask": mask.long(),
        "segment_ids": torch.zeros(mask.shape, dtype=torch.long),
        "features": torch.rand(rows, regions, width),
        "box_mask": torch.ones(rows, regions, dtype=torch.long),
        "box_types": torch.zeros(rows, regions, dtype=torch.long),
    }
    if masked:
        chosen = (torch.rand(mask.shape) < 0.15) & mask
        chosen[0, 1] = True
        batch["word_labels"] = torch.where(chosen, batch["input_ids"], -1)
    return batch


def step_targets(head: str, rows: int, device: str) -> dict[str, Tensor]:
    if head == "vqa":
        return {"labels": torch.rand(rows, 3129, device=device)}
    return {"labels": torch.randint(0, 2, (rows,), device=device)}


def padded(batch: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    """The same texts with padding up to `length`."""
    extra = length - batch["input_ids"].shape[1]
    texts = {"input_ids": 0, "text_mask": 0, "segment_ids": 0, "word_labels": -1}
    return {
        name: nn.functional.pad(tensor, (0, extra), value=texts[name]) if name in texts else tensor
        for name, tensor in batch.items()
    }


def for_theirs(batch: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """Keywords of transformers' classes; labels cover the regions there, -100 is none."""
    given = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["text_mask"],
        "token_type_ids": batch["segment_ids"],
        "visual_embeds": batch["features"],
        "visual_attention_mask": batch["box_mask"],
        "visual_token_type_ids": batch["box_types"],
    }
    if head != "pretraining":
        return given | {"labels": batch["labels"]}
    words = batch["word_labels"].where(batch["word_labels"] >= 0, -100)
    longer = nn.functional.pad(words, (0, batch["features"].shape[1]), value=-100)
    return given | {"labels": longer, "sentence_image_labels": batch["labels"]}


# --- inputs ----------------------------------------------------------------------------------------------------------


def input_cases(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    tokenizer = load_wordpiece(args.vocabulary)
    pieces, entries = WordPieces.of(tokenizer), tokenizer.get_vocab()
    generator = random.Random(0)
    images = [f"COCO_train2014_{number:012d}" for number in range(64)]
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(7, 14))) for _ in range(args.items)]
    of_text = [images[number % len(images)] for number in range(args.items)]
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "fc6")
        files.mkdir()
        for image in images:
            np.save(files / f"{image}.npy", np.random.default_rng(0).random((100, 2048), np.float32))
        import_features([files], Path(folder, "store"))
        store = FeatureStore(Path(folder, "store"))
        pairs = CaptionPairs(of_text)
        plain = Plain(entries, files)
        chunks = [range(start, min(start + args.batch, args.items)) for start in range(0, args.items, args.batch)]

        def our_questions() -> None:
            for chunk in chunks:
                split = pieces.split_all([texts[n] for n in chunk])
                collate([
                    Item([question_text(pieces, text)], store[of_text[n]].features)
                    for n, text in zip(chunk, split, strict=True)
                ])  # fmt: skip

        def our_captions() -> None:
            for chunk in chunks:
                draws = [item_draws(0, 0, n) for n in chunk]
                seconds = [pairs.draw(n, drawn)[0] for n, drawn in zip(chunk, draws, strict=True)]
                split = pieces.split_all([texts[n] for n in (*chunk, *seconds)])
                collate([
                    Item([caption_text(pieces, first, second, drawn)], store[of_text[n]].features, label=1)
                    for n, first, second, drawn in zip(chunk, split, split[len(chunk) :], draws, strict=False)
                ])  # fmt: skip

        def plain_questions() -> None:
            for chunk in chunks:
                plain.batch([plain.question(texts[n], of_text[n]) for n in chunk])

        def plain_captions() -> None:
            for chunk in chunks:
                plain.batch([plain.pair(texts[n], generator.choice(texts), of_text[n]) for n in chunk])

        for name, ours, theirs in (
            ("vqa", our_questions, plain_questions),
            ("captions", our_captions, plain_captions),
        ):
            times = turn_about({"ours": ours, "plain": theirs}, args)
            rates = {f"{way}_per_s": args.items / seconds for way, seconds in times.items()}
            result[name] = rates | {"faster": times["plain"] / times["ours"]}
    return result


class Plain:
    """The original's way to an input, in words of our own: one text, one image, one array after the other."""

    def __init__(self, vocabulary: Mapping[str, int], files: Path) -> None:
        self.vocabulary = vocabulary
        self.files = files

    def question(self, text: str, image: str) -> dict[str, np.ndarray]:
        return self.fields(["[CLS]", *self.tokens(text), "?", "[MASK]", "[SEP]"], 0, None, image)

    def pair(self, first: str, second: str, image: str) -> dict[str, np.ndarray]:
        sides = [self.masked(self.tokens(text)) for text in (first, second)]
        tokens = ["[CLS]", *sides[0][0], "[SEP]", *sides[1][0], "[SEP]"]
        labels = [-1, *sides[0][1], -1, *sides[1][1], -1]
        return self.fields(tokens, len(sides[1][0]) + 1, labels, image)

    def fields(self, tokens: list[str], second: int, labels: list[int] | None, image: str) -> dict[str, np.ndarray]:
        ids = [self.vocabulary[token] for token in tokens]
        fields = {
            "ids": np.array(ids),
            "mask": np.array([1] * len(ids)),
            "segments": np.array([0] * (len(ids) - second) + [1] * second),
            "features": np.load(self.files / f"{image}.npy"),
        }
        return fields | ({"labels": np.array(labels)} if labels else {})

    def masked(self, tokens: list[str]) -> tuple[list[str], list[int]]:
        result, labels = [], []
        for token in tokens:
            u = random.random() / 0.15
            labels.append(self.vocabulary[token] if u < 1 else -1)
            if u < 0.8:
                token = "[MASK]"
            elif u < 0.9:
                token = random.choice(list(self.vocabulary.items()))[0]
            result.append(token)
        return result, labels

    def tokens(self, text: str) -> list[str]:
        words: list[str] = [""]
        for character in unicodedata.normalize("NFD", text.lower()):
            category = unicodedata.category(character)
            if character.isspace() or category.startswith("P"):
                words += [character, ""]
            elif category != "Mn":
                words[-1] += character
        return [piece for word in words if word.strip() for piece in self.pieces(word)]

    def pieces(self, word: str) -> list[str]:
        """The longest entries from the left."""
        found, start = [], 0
        while start < len(word):
            end = len(word)
            while end > start and ("##" if start else "") + word[start:end] not in self.vocabulary:
                end -= 1
            if end == start:
                return ["[UNK]"]
            found.append(("##" if start else "") + word[start:end])
            start = end
        return found

    def batch(self, rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
        """Every array padded on its own to the largest, then stacked."""
        batch = {}
        for name in rows[0]:
            most = max(len(row[name]) for row in rows)
            tensors = []
            for row in rows:
                array = np.full((most, *row[name].shape[1:]), -1 if name == "labels" else 0, row[name].dtype)
                array[: len(row[name])] = row[name]
                tensors.append(torch.from_numpy(array))
            batch[name] = torch.stack(tensors)
        return batch


# --- time ------------------------------------------------------------------------------------------------------------


def turn_about(tasks: Mapping[str, Callable[[], Any]], args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each task: one to warm up, then round after round."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(args.rounds + 1):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            if args.device == "cuda":
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    args = parse()
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    result |= {"device": args.device, "layers": args.layers, "batch": args.batch, "dtype": args.dtype}
    result["step"] = {name: step_case(args, name) for name in args.cases}
    if args.vocabulary:
        result["inputs"] = input_cases(args)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
