"""VisualBERT: inputs a second beside the original data set's way; prints one JSON object.

    python benchmarks/visualbert_inputs.py vocab.txt [--items 256] [--batch 16] [--rounds 3]

Inputs are batches of VQA fine-tuning and of caption pairs with masked words, from raw texts to tensors. An image has
100 regions of 2048 numbers: from a feature store in half precision here, from a float32 file an image there. The
original's way is told plainly: a tokenizer in Python for every text, the list of the vocabulary made for each replaced
word, every array padded on its own, as AllenNLP does it. The vocabulary is bert-base-uncased's.
"""

import argparse
import json
import platform
import random
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor
from transformers import BertTokenizer

from benchmarks.visualbert_step import turn_about
from data.features import FeatureStore, import_features
from data.questions import Question, Questions
from models.wordpiece import load_wordpiece
from preprocessors.visualbert.captions import CaptionPairs
from preprocessors.visualbert.draws import item_draws
from preprocessors.visualbert.pretraining import PretrainingReader
from preprocessors.visualbert.reader import AnswerReader
from tasks.answering.records import Records

WORDS = (
    "a man the woman young boy two dogs red frisbee runs through green grass is jumping over muddy field with joy on "
    "what color how many people are wearing glasses kitchen counter motorbike countryside hippopotamus umbrella"
).split()
IMAGES, REGIONS, WIDTH, LIMIT = 64, 100, 2048, 128


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocabulary", help="bert-base-uncased's vocab.txt")
    parser.add_argument("--items", type=int, default=256, help="inputs of a round")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.set_defaults(device="cpu")
    return parser.parse_args()


class Ours:
    """The readers of fine-tuning and pre-training, item by item as a loader's worker calls them, and their batches."""

    def __init__(self, tokenizer: BertTokenizer, texts: Sequence[str], images: Sequence[str], store: FeatureStore):
        asked = (Question(n, (image,), text, "yes") for n, (text, image) in enumerate(zip(texts, images, strict=True)))
        self.records = Records(Questions("train", asked), store)
        self.reader = AnswerReader(tokenizer, LIMIT, images=1, width=WIDTH)
        self.pretraining = PretrainingReader(tokenizer, LIMIT, width=WIDTH)
        self.pairs = CaptionPairs(images)

    def questions(self, chunk: Sequence[int]) -> dict[str, Any]:
        items = []
        for n in chunk:
            question = self.records.questions[n]
            items.append(self.reader(question.text, self.records.regions(question)))
        return self.reader.collate(items)

    def captions(self, chunk: Sequence[int]) -> dict[str, Any]:
        return self.pretraining.collate([self.caption(n) for n in chunk])

    def caption(self, n: int) -> dict[str, Any]:
        caption, draws = self.records.questions[n], item_draws(0, 0, n)
        [picture] = self.records.regions(caption)
        second, same = self.pairs.draw(n, draws)
        text = self.records.questions[second].text
        return self.pretraining.captions(caption.text, text, same=same, picture=picture, draws=draws)


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
        """Every array padded on its own to the largest (ones times the padding's value), then stacked."""
        batch = {}
        for name in rows[0]:
            most = max(len(row[name]) for row in rows)
            tensors = []
            for row in rows:
                array = np.ones((most, *row[name].shape[1:]), row[name].dtype) * (-1 if name == "labels" else 0)
                array[: len(row[name])] = row[name]
                tensors.append(torch.from_numpy(array))
            batch[name] = torch.stack(tensors)
        return batch


def main() -> None:
    args = parse()
    tokenizer = load_wordpiece(args.vocabulary)
    generator = random.Random(0)
    names = [f"COCO_train2014_{number:012d}" for number in range(IMAGES)]
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(7, 14))) for _ in range(args.items)]
    images = [names[number % IMAGES] for number in range(args.items)]
    chunks = [range(start, min(start + args.batch, args.items)) for start in range(0, args.items, args.batch)]
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "fc6")
        files.mkdir()
        for name in names:
            np.save(files / f"{name}.npy", np.random.default_rng(0).random((REGIONS, WIDTH), np.float32))
        import_features([files], Path(folder, "store"))
        ours = Ours(tokenizer, texts, images, FeatureStore(Path(folder, "store")))
        plain = Plain(tokenizer.get_vocab(), files)
        other = random.Random(1)
        ways: dict[str, dict[str, Callable[[Sequence[int]], Any]]] = {
            "vqa": {
                "ours": ours.questions,
                "plain": lambda chunk: plain.batch([plain.question(texts[n], images[n]) for n in chunk]),
            },
            "captions": {
                "ours": ours.captions,
                "plain": lambda chunk: plain.batch(
                    [plain.pair(texts[n], other.choice(texts), images[n]) for n in chunk]
                ),
            },
        }
        for case, both in ways.items():
            times = turn_about({way: over(chunks, make) for way, make in both.items()}, args)
            rates = {f"{way}_per_s": args.items / seconds for way, seconds in times.items()}
            result[case] = rates | {"faster": times["plain"] / times["ours"]}
    print(json.dumps(result))


def over(chunks: Sequence[Sequence[int]], make: Callable[[Sequence[int]], Any]) -> Callable[[], None]:
    def task() -> None:
        for chunk in chunks:
            make(chunk)

    return task


if __name__ == "__main__":
    main()
