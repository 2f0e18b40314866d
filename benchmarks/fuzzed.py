"""Every reader of files that strangers write, with sound files of each: what `benchmarks.fuzz` breaks."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as save_tensors

from benchmarks.fuzz import Reader
from benchmarks.fuzzed_tables import read_picture, tables
from config import load_config
from data import read_split
from data.features.per_image import ImageFiles
from data.features.store import read_info
from data.features.tsv import TsvFile
from data.images import decode
from data.pictures import Pictures
from data.plain_files import read_npy
from data.questions.readers import read_questions
from data.questions.vocabulary import AnswerVocabulary
from data.readers import read_styles
from data.reading import open_file
from data.references import read_references
from evaluation.comparison import read_contributions
from evaluation.scoring import read_predictions
from evaluation.submissions import read_submission
from models.ofa.checkpoints import read_config, read_tensors
from models.ofa.configuration import OFAConfig
from models.ofa.styles import StyleMap
from models.ofa.tokenization import OFATokenizer
from models.wordpiece import load_wordpiece
from preprocessors.images import load_image
from rewards.document_frequency import read_table
from rewards.kept_classifier import load as load_classifier
from serving.archives import unpack
from sweeps.search import read_sweep, trials
from tasks.captioning.inference import read_requests
from trainers.checkpointing import STATE_FILE, load_state
from trainers.history import read_history

COCO = {
    "images": [{"id": 1, "file_name": "1.jpg"}, {"id": "b", "file_name": "2.jpg"}],
    "annotations": [{"image_id": 1, "caption": "a dog"}, {"image_id": "b", "caption": "one cat, \u00e9"}],
}
PERSONALITY = [
    {"personality": "Sweet", "image_hash": "a", "comment": "a dear dog", "additional_comments": ["how nice"]},
    {"personality": "Sour", "image_hash": "b", "comment": "a dog, again"},
]
KARPATHY = {
    "images": [
        {"filename": "1.jpg", "filepath": "val", "cocoid": 1, "split": "train", "sentences": [{"raw": "a dog"}]},
        {"filename": "2.jpg", "split": "restval", "sentences": [{"raw": "a cat"}, {"raw": "the cat"}]},
    ]
}
PLAIN = [{"image_id": 1, "caption": "a dog"}, {"image_id": "2", "caption": "a cat", "style": "Sweet"}]
VQA = {"data_subtype": "val2014", "questions": [{"question_id": 7, "image_id": 42, "question": "what?"}]}
GQA = {"07": {"imageId": "n1", "question": "who?", "answer": "man", "types": {"structural": "query"}}}
LXMERT = [{"question_id": 1, "img_id": "a", "sent": "is it?", "label": {"yes": 1.0, "no": 0.3}}]
PRETRAINING = [{"img_id": "a", "sentf": {"mscoco": ["a dog"], "vqa": ["what?"]}, "labelf": {"vqa": [{"dog": 1}]}}]
NLVR2 = {"identifier": "dev-1-2-0", "sentence": "two dogs", "label": "True", "synset": "dog"}
CLEVR = {"questions": [{"image_filename": "CLEVR_val_000000.png", "question": "how many?", "answer": "3"}]}
SWEEP = {"search": "random", "trials": 3, "parameters": {"train.lr": {"low": 1e-4, "high": 1e-3, "log": True}}}
HALVING = SWEEP | {"search": "halving", "budget": {"levels": [2, 4]}, "metric": "style.accuracy", "goal": "min"}
CONF = {"model": {"preset": "tiny", "vocabulary": "train"}, "data": {"format": "demo"}, "train": {"lr": 1e-4}}
HISTORY = b'{"step": 1, "epoch": 0, "loss": 2.5}\n{"step": 2, "epoch": 0, "val/CIDEr": 0.1}\n'


def readers(folder: Path) -> list[Reader]:
    """All readers; what stands beside the broken file is made in `folder`."""
    return [*_annotations(folder), *_questions(), *_settings(), *_pictures(folder), *_models(folder), *_runs(folder)]


def _text(*documents: Any) -> tuple[bytes, ...]:
    return tuple(json.dumps(document).encode() for document in documents)


def _annotations(folder: Path) -> list[Reader]:
    def split(form: str) -> Callable[[Path], Any]:
        return lambda path: list(read_split("train", format=form, annotations=path, image_dir=folder))

    lines = b"\n".join(_text(*PLAIN))
    by_image = {"1": ["a dog", "the dog"], "2": [{"caption": "a cat"}]}
    seeds = (*_text(PERSONALITY, COCO, KARPATHY, PLAIN, by_image, {"annotations": PLAIN}), lines)
    return [
        Reader("personality.json", _text(PERSONALITY), split("personality")),
        Reader("coco.json", _text(COCO), split("coco")),
        Reader("karpathy.json", _text(KARPATHY), split("karpathy")),
        Reader("references.json", seeds, lambda path: read_references(str(path), split="train", image_dir=".")),
        Reader("predictions.json", (*_text(PLAIN), lines), lambda path: read_predictions(str(path))),
        *(Reader(name, (content,), read) for name, content, read in tables(folder)),
        Reader("styles.txt", (b"Sweet\nSour\n\nOld Fashioned\n",), read_styles),
        Reader(
            "requests.json",
            _text([{"image": "a.jpg", "style": "Sweet"}, {"image_hash": "b", "style": "Sour", "reference": "a"}]),
            lambda path: read_requests(str(path), image_dir="images", image_suffix=".jpg"),
        ),
    ]


def _questions() -> list[Reader]:
    def of(form: str) -> Callable[[Path], Any]:
        return lambda path: list(read_questions("train", format=form, questions=path))

    plain = (b'{"image": "a", "question": "what?", "answers": ["dog", "cat"]}\n' * 2,)
    table = (b"image,question,answer,split\na.jpg,what?,dog|cat,train\nb.jpg,who?,me,train\n",)
    packed = (gzip.compress(json.dumps(LXMERT).encode()),)
    return [
        Reader("vqa.json", _text(VQA), of("vqa")),
        Reader("gqa.json", _text(GQA), of("gqa")),
        Reader("lxmert.json", _text(LXMERT), of("lxmert")),
        Reader("lxmert.json.gz", packed, of("lxmert")),
        Reader("pretraining.json", _text(PRETRAINING), of("lxmert-pretraining")),
        Reader("nlvr2.jsonl", (b"\n".join(_text(NLVR2, NLVR2)),), of("nlvr2")),
        Reader("clevr.json", _text(CLEVR), of("clevr")),
        Reader("plain.jsonl", plain, of("plain")),
        Reader("plain.csv", table, of("plain")),
        Reader("answers.json", _text(["yes", "no"], {"yes": 0, "no": 1}), AnswerVocabulary.read),
        Reader("vqa_submission.json", _text([{"question_id": 1, "answer": "a"}]), lambda p: read_submission("vqa", p)),
        Reader("nlvr2_submission.csv", (b"dev-1-2-0,True\n",), lambda path: read_submission("nlvr2", path)),
    ]


def _settings() -> list[Reader]:
    rows = (b"train.lr,train.dropout\n1e-4,0.1\n2e-4,0.2\n",)
    return [
        Reader("conf.json", _text(CONF), load_config),
        Reader("sweep.json", _text(SWEEP, HALVING), lambda path: trials(read_sweep(path))),
        Reader("sweep.csv", rows, lambda path: trials(read_sweep(path))),
        Reader("style_map.json", _text({"Sweet": "<code_0>", "Sour": "<code_1>"}), StyleMap.from_json),
    ]


def _pictures(folder: Path) -> list[Reader]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8))

    def picture(form: str, mode: str = "RGB", **options: Any) -> bytes:
        stream = io.BytesIO()
        noise.convert(mode).save(stream, form, **options)
        return stream.getvalue()

    seeds = [picture(form) for form in ("png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm", "ico", "tga")]
    seeds += [picture("png", "RGBA"), picture("png", "P", transparency=0), picture("jpeg", "CMYK")]
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds += [picture("jpeg", exif=exif), picture("webp", exif=exif), picture("tiff", compression="tiff_lzw")]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2):
            archive.writestr(f"images/{number}.png", seeds[0])

    def decoded(path: Path) -> None:
        with open_file(path) as stream:
            try:
                decode(stream)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error

    def in_zip(path: Path) -> None:
        pictures = Pictures(path)
        for image in pictures.ids():
            pictures.open(image)

    return [
        Reader("picture.png", tuple(seeds), lambda path: load_image(path, draft_size=8)),
        Reader("picture.jpg", tuple(seeds), decoded),
        Reader("sent.png", tuple(seeds), read_picture),
        Reader("pictures.zip", (packed.getvalue(),), in_zip),
        *_features(folder),
    ]


def _features(folder: Path) -> list[Reader]:
    values = np.random.default_rng(0).random((3, 4), dtype=np.float32)
    array, arrays, objects = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, values)
    np.savez(arrays, features=values, boxes=values, image_h=40, image_w=50)
    np.save(objects, np.array([{"id": 7, "boxes": values}, "text"], dtype=object), allow_pickle=True)
    import base64

    cells = [b"a", b"40", b"50", *[base64.b64encode(np.arange(3, dtype=kind).tobytes()) for kind in ("<i8", "<f4") * 2]]
    cells += [b"3", base64.b64encode(values.tobytes()), base64.b64encode(values.tobytes())]
    info = {"version": 1, "dtype": "float16", "grid": [2, 2], "width": 4, "images": 1, "rows": 4}

    def one_file(path: Path) -> None:
        list(ImageFiles(path.parent))

    def store(path: Path) -> None:
        read_info(path.parent)

    del folder
    return [
        Reader("npz/features.npz", (arrays.getvalue(),), one_file),
        Reader("npy/features.npy", (array.getvalue(),), one_file),
        Reader("features.tsv", (b"\t".join(cells) + b"\n",), lambda path: list(TsvFile(path))),
        Reader("store/store.json", _text(info), _tolerant(store)),
        Reader("objects.npy", (objects.getvalue(),), read_npy, slow=True),
    ]


def _tolerant(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """For a reader whose seed is not sound in itself: only how it fails is of interest."""

    def run(path: Path) -> None:
        try:
            read(path)
        except ValueError as error:
            if str(path.parent) not in str(error):
                raise

    return run


def _models(folder: Path) -> list[Reader]:
    state = {"encoder.layer_norm.weight": torch.ones(4), "encoder.layer_norm.bias": torch.zeros(4)}
    pickled, nested, legacy = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(state, pickled)
    torch.save({"model": state, "args": None, "step": 3}, nested)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    config = json.dumps(OFAConfig(vocab_size=50, d_model=8, encoder_layers=1).to_dict()).encode()
    vocabulary = folder / "vocabulary"
    OFATokenizer.train(["a dog", "the cat"], vocab_size=290, num_codes=2).save_pretrained(str(vocabulary))
    words = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ndog\n"

    def tokens(path: Path) -> None:
        for beside in vocabulary.iterdir():
            if beside.name != path.name and beside.name != "tokenizer.json":
                (path.parent / beside.name).write_bytes(beside.read_bytes())
        OFATokenizer.from_pretrained(str(path.parent))

    return [
        Reader("model.safetensors", (save_tensors(state),), read_tensors),
        Reader("model.pt", (pickled.getvalue(), nested.getvalue(), legacy.getvalue()), read_tensors),
        Reader("model/config.json", (config,), lambda path: read_config(path.parent)),
        Reader("vocabulary/vocab.json", ((vocabulary / "vocab.json").read_bytes(),), tokens),
        Reader("merges/merges.txt", ((vocabulary / "merges.txt").read_bytes(),), tokens),
        Reader("vocab.txt", (words,), load_wordpiece),
        Reader("archive.tar.gz", (_archive(),), _unpacked),
    ]


def _archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("config.json", "model.safetensors"):
            member = tarfile.TarInfo(f"model/{name}")
            member.size = 700
            tar.addfile(member, io.BytesIO(b"{} " + bytes(697)))
    return stream.getvalue()


def _unpacked(path: Path) -> None:
    """The broken bytes are what is packed: broken gzip data are found by their checksum."""
    import tempfile

    content = path.read_bytes()
    path.write_bytes(gzip.compress(content, 1))
    with tempfile.TemporaryDirectory(dir=path.parent) as out:
        unpack(path, Path(out))


def _runs(folder: Path) -> list[Reader]:
    state = io.BytesIO()
    torch.save({"step": 3, "epoch": 0, "rng": [{"cpu": torch.get_rng_state()}]}, state)
    table = pickle.dumps({"ref_len": 2, "document_frequency": {("a",): 2.0, ("a", "dog"): 1.0}}, protocol=2)
    classifier = io.BytesIO()
    styles: dict[str, Any] = {"styles": np.array(["Sour", "Sweet"]), "features": "words", "format": 1}
    styles["fingerprint"] = "x"
    np.savez_compressed(classifier, weights=np.zeros((2, 65536), np.float32), bias=np.zeros(2), **styles)
    row: dict[str, Any] = {"image_id": "1", "style": "Sweet", "caption": "a dog", "references": ["a dog"]}
    row |= {"scores": {"CIDEr": 0.5}, "bleu": [2, 2, 2, 1, 2, 1, 0, 0, 0, 0]}

    def contributions(path: Path) -> None:
        (path.parent / "metrics.json").write_text('{"CIDEr": 0.5, "n_captions": 1, "split": "val"}')
        read_contributions(path.parent)

    del folder
    return [
        Reader("history.jsonl", (HISTORY,), read_history),
        Reader("run/predictions.json", _text([row]), _tolerant(contributions)),
        Reader(f"checkpoint/{STATE_FILE}", (state.getvalue(),), lambda path: load_state(path.parent)),
        Reader("classifier.npz", (classifier.getvalue(),), load_classifier),
        Reader("frequencies.p", (table,), read_table, slow=True),
    ]
