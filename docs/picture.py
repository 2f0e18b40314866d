"""Makes docs/demo.png and docs/report.png of trained runs of the drawn set; needs Chromium.

    python -m docs.picture demo work_dir/demo
    python -m docs.picture report work_dir/demo

demo.png: drawn scenes of the validation split with the captions that the run's best model writes, a row a style.
report.png: the page that `report` writes, wide in light colours and narrow in dark ones.
"""

import argparse
import html
import io
import random
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageChops

from data.reading import load_json
from data.run_folder import RunFolder
from report.contact_sheet import embedded_picture
from tasks.captioning.captioner import Captioner
from tasks.reporting import report_runs

DOCS = Path(__file__).resolve().parent
PLACES = ("on the beach", "in the meadow", "in the snow", "at night")
STYLES = ("Factual", "Humorous", "Romantic", "Poetic", "Cynical")
_DARK, _LIGHT = 0, 1  # of Chromium's preferredColorScheme
_WIDE, _NARROW, _TALL, _GAP = 850, 330, 2520, 10  # pixels of report.png
_GRID = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; padding: 10px; width: 880px; background: #f4f3f0; color: #1d1d1f;
  font: 15px/1.3 system-ui, sans-serif }
table { border-spacing: 6px 0; table-layout: fixed; width: 100% } th { width: 84px }
img { width: 100%; display: block; border-radius: 6px 6px 0 0 }
th { text-align: left; vertical-align: top; padding: 9px 0; color: #9a4b1f; font-size: 14px }
td { vertical-align: top; padding: 8px 10px; background: #fff } td.picture { padding: 0 }
</style><table>"""


def scenes(run: RunFolder, seed: int) -> list[str]:
    """A picture file of each place, of the validation split, drawn by `seed`."""
    records = load_json(run.drawn_data / "val.json")
    random.Random(seed).shuffle(records)
    found = []
    for place in PLACES:
        at = next(
            one for one in records if any(place in text for text in [one["comment"], *one["additional_comments"]])
        )
        found.append(str(run.drawn_data / "images" / f"{at['image_hash']}.jpg"))
    return found


def grid(pictures: Sequence[str], captions: Sequence[Mapping[str, str]]) -> str:
    """A page: a column a picture, a row a style."""
    shown = "".join(f'<td class="picture"><img src="{embedded_picture(path)[0]}"></td>' for path in pictures)
    rows = [f"<tr><th></th>{shown}</tr>"]
    for style in STYLES:
        cells = "".join(f"<td>{html.escape(said[style])}</td>" for said in captions)
        rows.append(f"<tr><th>{style}</th>{cells}</tr>")
    return _GRID + "".join(rows) + "</table>"


def photograph(page: Path, width: int, height: int, *, scheme: int = _LIGHT, scale: int = 1) -> Image.Image:
    """What Chromium shows of a page in a window of that size."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise ValueError("no Chromium is installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
        flags += [f"--blink-settings=preferredColorScheme={scheme}", f"--force-device-scale-factor={scale}"]
        flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"]
        command = [browser, *flags, f"--window-size={width},{height}", f"--screenshot={shot}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")


def trimmed(picture: Image.Image, margin: int) -> Image.Image:
    """Without the empty part below what is shown."""
    ground = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    box = ImageChops.difference(picture, ground).getbbox()
    return picture.crop((0, 0, picture.width, min(picture.height, (box[3] if box else 0) + margin)))


def demo(run: str, seed: int) -> Image.Image:
    folder = RunFolder(run)
    pictures = scenes(folder, seed)
    captions = Captioner.from_directory(folder.checkpoints / "best").caption(pictures, STYLES)
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "grid.html"
        page.write_text(grid(pictures, captions), encoding="utf-8")
        return trimmed(photograph(page, 900, 1600, scale=2), 20)


def report(runs: Sequence[str]) -> Image.Image:
    with tempfile.TemporaryDirectory() as place:
        page = report_runs(runs, f"{place}/report.html", captions=3, replicates=1000)
        text = page.read_text(encoding="utf-8").replace(f"{DOCS.parent}/", "")  # where the checkout lies says nothing
        page.write_text(text, encoding="utf-8")
        wide, narrow = photograph(page, _WIDE, _TALL), photograph(page, _NARROW, _TALL, scheme=_DARK)
    both = Image.new("RGB", (_WIDE + _GAP + narrow.width, _TALL), "white")
    both.paste(wide, (0, 0))
    both.paste(narrow, (_WIDE + _GAP, 0))
    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("demo", "report"))
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of scenes")
    given = parser.parse_args()
    made = demo(given.runs[0], given.seed) if given.what == "demo" else report(given.runs)
    made.quantize(128, dither=Image.Dither.NONE).save(DOCS / f"{given.what}.png", optimize=True)


if __name__ == "__main__":
    main()
