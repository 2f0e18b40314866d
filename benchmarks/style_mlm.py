"""Seconds of an update of step 1 with and without style-MLM, its questions read by the encoder or by the decoder.

    python -m benchmarks.style_mlm [--images 24] [--captions 3] [--encoder-layers 1] [--rounds 9] [--tasks mask_style]

The network of `conf/flickrstyle_lite0.json` on kept features of 7x7, drawn words, all three forms in one process,
in turn: the median of `--rounds` updates each after one to warm up. `rows` are those that the encoder reads.
"""

import argparse
import json
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.ofa import OFAConfig, OFAModel
from models.ofa.styles import StyleMap
from models.ofa.tokenization import OFATokenizer
from preprocessors.collate import collate
from preprocessors.images import ImageTransform
from preprocessors.items import ItemBuilder
from preprocessors.prompts import Prompt
from preprocessors.style_tasks import StyleTasks
from trainers.cross_entropy import CrossEntropy
from trainers.optimizer import adamw

STYLES = ("Factual", "Humorous", "Romantic")
WEIGHTS = {"mask_style": 0.1, "mask_caption": 0.5}
SIZES: dict[str, Any] = {
    "d_model": 256,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 1024,
    "decoder_ffn_dim": 1024,
    "resnet_type": "resnet18",  # never run: features of its width are given
    "image_bucket_size": 7,
    "token_bucket_size": 64,
    "max_position_embeddings": 128,
    "vocab_size": 5000,
}


@dataclass(frozen=True)
class Ask:
    style: str
    caption: str
    image_id: str = ""
    references: tuple[str, ...] = ()


def batch_of(builder: ItemBuilder, tasks: StyleTasks | None, images: int, captions: int, channels: int) -> Any:
    rng, items = random.Random(0), []
    for image in range(images):
        asked = [
            Ask(STYLES[k % len(STYLES)], " ".join(rng.choices("a the dog runs red man in with park".split(), k=12)))
            for k in range(captions)
        ]
        features = np.random.default_rng(image).standard_normal((1, channels, 7, 7)).astype(np.float16)
        items.append(builder.item(features, asked, torch.Generator().manual_seed(image), tasks, "a cat"))
    return collate(items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--captions", type=int, default=3)
    parser.add_argument("--encoder-layers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", nargs="+", choices=list(WEIGHTS), default=list(WEIGHTS))
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = OFATokenizer.train(["a dog runs in the park"], vocab_size=300, num_codes=8)
    prompt = Prompt("{}", True, StyleMap.from_styles(STYLES), "error", "decoder")
    builder = ItemBuilder(tokenizer, prompt, ImageTransform(224, 224, train=False), 18, True)
    model = OFAModel(OFAConfig(**SIZES, encoder_layers=args.encoder_layers)).train()
    model.encoder.embed_images.requires_grad_(False).eval()
    optimizer = adamw(model, lr=5e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01)
    on: dict[str, Any] = dict.fromkeys(args.tasks, True)
    forms = {
        "none": None,
        "encoder": StyleTasks(**on, mask_ratio=0.3),
        "decoder": StyleTasks(**on, mask_ratio=0.3, place="decoder"),
    }
    weights = {name: WEIGHTS[name] for name in args.tasks}
    channels = model.encoder.embed_images.channels
    batches = {name: batch_of(builder, one, args.images, args.captions, channels) for name, one in forms.items()}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(args.rounds + 1):
        for name, batch in batches.items():
            objective = CrossEntropy(pad=1, label_smoothing=0.1, task_weights=weights if forms[name] else {})
            started = time.perf_counter()
            (objective(model, batch, 0).loss_sum / objective.count(batch, 0)).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds[name].append(time.perf_counter() - started)
    report = {
        name: {"update_s": round(statistics.median(seconds[name][1:]), 3), "rows": len(batches[name]["input_ids"])}
        for name in forms
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
