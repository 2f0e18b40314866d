"""The models that a server has: each reads pictures, and answers many requests in one pass."""

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from data.run_folder import RunFolder
from models.ofa.mixtures import mixture_text, parse_mixture, with_intensity
from models.ofa.styles import STYLE_MAP_FILE, StyleMap
from serving.judging import Judges, find_judges
from tasks.answering.models import SETTINGS_FILE

#: Of a style in a mixture: what is further away means nothing to a model.
GREATEST_WEIGHT = 20.0


@dataclass(frozen=True)
class CaptionAsk:
    """Captions of a picture in some styles.

    Attributes:
        picture: what `Captions.prepare` made of it; `digest` tells pictures apart.
        styles: what the model is asked for, intensity included; `names`, what the client calls each.
        search, guidance: settings of the search, and strengths of style and image, as pairs of name and value.
    """

    digest: str
    picture: Any
    styles: tuple[str, ...]
    names: tuple[str, ...]
    search: tuple[tuple[str, Any], ...] = ()
    guidance: tuple[tuple[str, float], ...] = ()

    @property
    def kind(self) -> Hashable:
        return self.search, self.guidance

    @property
    def size(self) -> int:
        return len(self.styles)


@dataclass(frozen=True)
class LookAsk:
    """Where the model looks in a picture for each word of a caption in a style."""

    picture: Any
    style: str
    caption: str

    @property
    def kind(self) -> Hashable:
        return LookAsk

    @property
    def size(self) -> int:
        return 1


@dataclass(frozen=True)
class AnswerAsk:
    """A question about pictures, and how many answers are wanted."""

    pictures: tuple[Any, ...]
    question: str
    top: int = 5

    @property
    def kind(self) -> Hashable:
        return self.top

    @property
    def size(self) -> int:
        return 1


class Captions:
    """A captioner that serves."""

    task: ClassVar[str] = "captions"

    def __init__(
        self, name: str, folder: Path, *, device: str = "auto", most: int = 32, judged_by: Sequence[Path] = ()
    ) -> None:
        """`judged_by`: folders that may hold the judges of style that an evaluation wrote."""
        from tasks.captioning.captioner import Captioner

        self.name, self.most = name, most
        self.captioner: Any = Captioner.from_directory(folder, device=device)
        self.styles = self.captioner.styles
        self._known = self.captioner.preprocessor.style_map
        self._transform = self.captioner.preprocessor.builder.transform
        self.judges = find_judges(judged_by, self._known)

    @property
    def mixes(self) -> bool:
        """Whether styles can be mixed and made stronger."""
        return len(self.styles) > 1 and self.captioner.preprocessor.builder.prompt.tokenize_style

    @property
    def area(self) -> tuple[float, float, float, float]:
        """The part of a picture that the model sees, in shares of its width and height: left, top, right, bottom."""
        margin = (1 - self._transform.patch_image_size / self._transform.max_image_size) / 2
        return margin, margin, 1 - margin, 1 - margin

    @property
    def draft_size(self) -> int:
        """The side in pixels that is enough of a picture."""
        return self._transform.max_image_size

    def prepare(self, picture: Image.Image) -> Any:
        """The few pixels that the model reads: what waits in the queue is small, whatever was sent."""
        return self._transform.resize(picture)

    def canonical(self, style: str) -> str:
        """The name of a style, or a mixture of styles, as the model knows it.

        ValueError, with the nearest names, for one that it does not, and for a mixture that it cannot write in.
        """
        self.check(style)
        mixture = parse_mixture(style, self._known)
        if mixture is None:
            return self.captioner.canonical(style)
        if max(map(abs, mixture.values())) > GREATEST_WEIGHT:
            raise ValueError(f'style "{style[:100]}": a weight is above {GREATEST_WEIGHT:g}: lower it')
        return mixture_text(mixture)

    def of_adapter(self, adapter: str, styles: Sequence[str]) -> list[str]:
        """ValueError: there are none."""
        raise ValueError(f"the model {self.name} has no adapters: leave adapter out, or serve it with --adapter")

    def check(self, style: str) -> None:
        """ValueError for a style, a mixture or a description that the model cannot write in."""
        from tasks.captioning.mixing import own_vectors

        preprocessor = self.captioner.preprocessor
        if not own_vectors(self.captioner.model, preprocessor, [style]):
            preprocessor.builder.prompt.text(style)

    def strengthened(self, style: str, intensity: float) -> str:
        """What is asked for so that a style, or a mixture, is so strong."""
        return with_intensity(style, intensity, self._known)

    def run(self, asked: Sequence[Any]) -> Sequence[Any]:
        """The answers to requests of one kind."""
        if isinstance(asked[0], LookAsk):
            return [self.captioner.looked_at(one.picture, one.style, one.caption) for one in asked]
        return self._captions(asked)

    def _captions(self, asked: Sequence[CaptionAsk]) -> list[dict[str, list[Any]]]:
        """For each request its styles with the captions of all beams; styles of one picture share a pass."""
        from tasks.captioning.decoding import Guidance

        wanted: dict[str, dict[str, None]] = {}
        pictures = {}
        for ask in asked:
            wanted.setdefault(ask.digest, {}).update(dict.fromkeys(ask.styles))
            pictures[ask.digest] = ask.picture
        strengths = dict(asked[0].guidance)
        guidance = Guidance(**strengths) if strengths else None
        found: dict[tuple[str, str], list[Any]] = {}
        for part in _parts(wanted, self.most):
            rows = self.captioner.caption_pictures(
                [(pictures[digest], styles) for digest, styles in part], dict(asked[0].search), guidance
            )
            for (digest, styles), beams in zip(part, rows, strict=True):
                found |= {(digest, style): beam for style, beam in zip(styles, beams, strict=True)}
        return [
            {name: found[ask.digest, style] for name, style in zip(ask.names, ask.styles, strict=True)} for ask in asked
        ]


class AdaptedCaptions(Captions):
    """A captioner with several adapters, whose requests share passes; styles are written ADAPTER/STYLE."""

    mixes = False

    def __init__(
        self, name: str, folder: Path, adapters: Mapping[str, str], *, device: str = "auto", most: int = 32
    ) -> None:
        from tasks.captioning.opening import open_captioner

        self.name, self.most = name, most
        self.captioner = open_captioner(folder, adapters, device=device)
        self.styles = self.captioner.styles
        self._transform = self.captioner.transform
        self.judges = Judges({}, StyleMap.from_styles(self.styles))

    def of_adapter(self, adapter: str, styles: Sequence[str]) -> list[str]:
        """Styles of an adapter (all where none is named) as ADAPTER/STYLE. ValueError, with the known ones."""
        return self.captioner.of_adapter(adapter, styles)

    def canonical(self, style: str) -> str:
        return self.captioner.canonical(style)

    def check(self, style: str) -> None:
        self.captioner.check(style)

    def strengthened(self, style: str, intensity: float) -> str:
        """ValueError for an intensity: an adapter's styles are not mixed."""
        if intensity != 1.0:
            raise ValueError("intensity does not go with adapters: leave it out, or export the adapter")
        return style


class Answers:
    """A model that answers questions, and serves."""

    task: ClassVar[str] = "answers"
    styles: tuple[str, ...] = ()
    draft_size = None

    def __init__(self, name: str, folder: Path, *, device: str = "auto", most: int = 32) -> None:
        from tasks.answering.pictures import PictureAsker

        self.name = name
        self.asker = PictureAsker(folder, device=device)
        self.images = self.asker.settings.images
        self._one_at_a_time = threading.Lock()

    def prepare(self, picture: Image.Image) -> Any:
        """The features of a picture."""
        with self._one_at_a_time:
            return self.asker.regions(picture)

    def run(self, asked: Sequence[AnswerAsk]) -> list[Sequence[tuple[str, float]]]:
        """For each request the best answers with their probabilities."""
        from tasks.answering.pictures import AskedAbout

        return self.asker.ask([AskedAbout(ask.question, ask.pictures) for ask in asked], asked[0].top)


System = Captions | Answers


def open_systems(
    folders: Sequence[str],
    names: Sequence[str] | None = None,
    *,
    device: str = "auto",
    most: int = 32,
    adapters: Mapping[str, str] | None = None,
) -> dict[str, System]:
    """The models in exported folders, checkpoints or runs, by name: one of `names`, or the folder's; they must differ.

    With `adapters`, by name, there is one model, whose requests may name one of them. Raises ValueError for a folder
    that is none, and for two of one name.
    """
    if adapters and len(folders) != 1:
        raise ValueError(f"adapters are of one model, and there are {len(folders)}: name the model that they are of")
    systems: dict[str, System] = {}
    for given, name in zip(folders, names or [Path(one).resolve().name for one in folders], strict=True):
        folder = Path(given)
        best = RunFolder(folder).checkpoints / "best"
        place = best if best.is_dir() else folder
        if name in systems:
            raise ValueError(f"{given}: another model is called {name!r} already: rename one of the folders")
        if adapters:
            systems[name] = AdaptedCaptions(name, place, adapters, device=device, most=most)
        elif (place / SETTINGS_FILE).is_file():
            systems[name] = Answers(name, place, device=device, most=most)
        elif (place / STYLE_MAP_FILE).is_file():
            run = place.resolve().parents[1]
            judged_by = [place, *([run] if RunFolder(run).checkpoints == place.resolve().parent else [])]
            systems[name] = Captions(name, place, device=device, most=most, judged_by=judged_by)
        else:
            raise ValueError(
                f"{given} holds no model of this project (no {STYLE_MAP_FILE}, no {SETTINGS_FILE}): name a run, a "
                "checkpoint or an exported folder"
            )
    return systems


def _parts(wanted: Mapping[str, Mapping[str, None]], most: int) -> list[list[tuple[str, list[str]]]]:
    """Passes of at most `most` pairs of picture and style; a picture is divided only where it must be."""
    parts: list[list[tuple[str, list[str]]]] = []
    room = 0
    for digest, asked in wanted.items():
        styles = list(asked)
        for start in range(0, len(styles), most):
            piece = styles[start : start + most]
            if len(piece) > room:
                parts.append([])
                room = most
            parts[-1].append((digest, piece))
            room -= len(piece)
    return parts
