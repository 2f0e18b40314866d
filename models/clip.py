"""Pictures and sentences in one space: a CLIP model (Radford et al., arXiv:2103.00020) in a folder that the user names.

Pictures are prepared as CLIP does it: the shorter side is resized (bicubic), the middle is cut out, and pixels are
normalised as the folder's preprocessor_config.json says, or as OpenAI's models do.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from data.images import decode
from data.reading import load_json, open_file

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """`name`: of the folder, for what is reported."""

    def __init__(self, name: str, model: Any, tokenizer: Any, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        self.name, self.model, self.tokenizer = name, model.eval().requires_grad_(False), tokenizer
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """A folder as transformers saves it. Nothing is downloaded; ValueError where it holds no CLIP model."""
        from transformers import AutoTokenizer, CLIPModel

        path = Path(folder)
        try:
            if load_json(path / "config.json").get("model_type") != "clip":
                raise ValueError("its config.json is not of the type clip")
            model = CLIPModel.from_pretrained(path, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            settings = path / "preprocessor_config.json"
            known = load_json(settings) if settings.exists() else {}
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(
                f"eval.clip: {path} holds no CLIP model of transformers ({str(error).splitlines()[0]}): name a folder "
                "with config.json, weights and tokenizer, or set it to null"
            ) from error
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(
            path.name,
            nn.Module.to(model, device),
            tokenizer,
            known.get("image_mean", MEAN),
            known.get("image_std", STD),
        )

    @torch.inference_mode()
    def texts(self, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        """float32 [texts, D] of length 1; each different text is encoded once."""
        different = list(dict.fromkeys(texts))
        longest = self.model.config.text_config.max_position_embeddings
        rows: dict[str, np.ndarray] = {}
        for start in range(0, len(different), batch_size):
            part = different[start : start + batch_size]
            batch = self.tokenizer(part, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            found = self.model.get_text_features(**batch.to(self.model.device))
            rows.update(zip(part, unit(found), strict=True))
        return np.stack([rows[text] for text in texts])

    @torch.inference_mode()
    def images(self, paths: Sequence[str], *, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Path -> float32 [D] of length 1; pictures that cannot be read are left out."""
        rows: dict[str, np.ndarray] = {}
        pixels: dict[str, Tensor] = {}
        different = list(dict.fromkeys(paths))
        for number, path in enumerate(different, 1):
            # A broken picture has no score; that it is broken, its caption's row says.
            with contextlib.suppress(ValueError, OSError), open_file(path) as stream:
                pixels[path] = self.pixels(decode(stream))
            if pixels and (len(pixels) == batch_size or number == len(different)):
                batch = torch.stack(list(pixels.values())).to(self.model.device)
                rows.update(zip(pixels, unit(self.model.get_image_features(pixel_values=batch)), strict=True))
                pixels = {}
        return rows

    def pixels(self, image: Image.Image) -> Tensor:
        """A picture in RGB -> [3, side, side]."""
        side = self.model.config.vision_config.image_size
        scale = side / min(image.size)
        width, height = (max(side, round(length * scale)) for length in image.size)
        left, top = (width - side) // 2, (height - side) // 2
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        cut = np.asarray(resized.crop((left, top, left + side, top + side)), dtype=np.float32)
        return (torch.from_numpy(cut / 255).permute(2, 0, 1) - self.mean) / self.std


def unit(found: Any) -> np.ndarray:
    """What transformers returns, a tensor or an output that holds one, as [N, D] of length 1."""
    vectors: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return normalize(vectors.float(), dim=-1).cpu().numpy()
