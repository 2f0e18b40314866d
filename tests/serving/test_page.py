"""The page of the server in a real browser: a photo in, a style chosen, captions out, and what goes wrong."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.run_folder import RunFolder
from metrics.style_classifier import StyleClassifier
from rewards.kept_classifier import save
from serving.web import Server
from tasks.captioning.captioner import Captioner
from tests.models.nano import STYLES
from tests.nano_run import CAPTIONS, nano_run
from tests.serving.browser import CHROMIUM, Browser, browsing
from tests.serving.served import ask, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
TAB, SPACE, ENTER = ("Tab", 9), (" ", 32, " "), ("Enter", 13, "\r")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    nano_run(root)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root / "run") as server:
        yield server


@pytest.fixture(scope="module")
def browser(root: Path) -> Iterator[Browser]:
    with browsing(root / "profile") as browser:
        yield browser


def judged_run(root: Path) -> Path:
    """The run with a judge of style beside it."""
    folder = root / "judged"
    if not folder.exists():
        shutil.copytree(root / "run", folder)
        texts = [text for style in STYLES for text in CAPTIONS[style]]
        styles = [style for style in STYLES for _ in CAPTIONS[style]]
        save(StyleClassifier.fit(texts, styles, features="characters"), RunFolder(folder).style_evaluator)
    return folder


def load(browser: Browser, server: Server, **shape) -> None:
    browser.requests.clear()
    browser.messages.clear()
    browser.open("about:blank", width=100)
    browser.open(server.url, **({"width": 1280} | shape))
    browser.wait("document.querySelectorAll('#styles input').length > 0")


def choose(browser: Browser, file: Path) -> None:
    browser.choose_file("#file", file)
    browser.wait("document.getElementById('photo').naturalWidth > 0")


def press_go(browser: Browser) -> None:
    browser.evaluate("document.getElementById('go').click()")
    browser.wait("!document.getElementById('go').disabled")


def told(browser: Browser) -> str:
    return str(browser.wait("!document.getElementById('error').hidden && document.getElementById('error').textContent"))


def cards(browser: Browser) -> dict[str, str]:
    found = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.card')].map(card => "
        "[card.querySelector('h3').textContent, card.querySelector('p').textContent]))"
    )
    assert isinstance(found, dict)
    return found


def test_upload_choose_caption(browser: Browser, server: Server, root: Path) -> None:
    load(browser, server)
    choose(browser, root / "images" / "1.png")
    browser.evaluate(
        "const box = document.getElementById('search'); box.value = 'umor'; box.dispatchEvent(new Event('input')); 1"
    )
    shown = "[...document.querySelectorAll('#styles label')].filter(l => !l.hidden).map(l => l.textContent.trim())"
    assert browser.evaluate(shown) == ["Humorous"]
    browser.evaluate("document.querySelector('#styles label:not([hidden]) input').click()")
    assert browser.evaluate("document.getElementById('count').textContent") == "(1 chosen)"
    press_go(browser)
    browser.wait("document.querySelectorAll('.card').length === 1")
    captioner = Captioner.from_directory(root / "run" / "checkpoints" / "best", device="cpu")
    (expected,) = captioner.caption([root / "images" / "1.png"])
    collapsed = {style: " ".join(text.split()) for style, text in cards(browser).items()}
    assert collapsed == {"Humorous": " ".join(expected["Humorous"].split())}
    assert browser.evaluate("document.querySelectorAll('.card li').length") == 2
    browser.evaluate("document.getElementById('none').click()")
    press_go(browser)
    browser.wait("document.querySelectorAll('.card').length === 3")
    assert tuple(cards(browser)) == STYLES
    assert browser.messages == []
    others = [url for url in browser.requests if not url.startswith((f"{server.url}/", "data:", "blob:", "about:"))]
    assert others == []


def test_intensity_and_decoding_reach_the_model(browser: Browser, server: Server, root: Path) -> None:
    load(browser, server)
    choose(browser, root / "images" / "1.png")
    browser.evaluate(
        "document.getElementById('intensity').value = 1.5; document.getElementById('beam_size').value = 3;"
        "document.getElementById('style_guidance').value = 4; 1"
    )
    press_go(browser)
    browser.wait("document.querySelectorAll('.card').length === 3")
    assert browser.evaluate("document.querySelectorAll('.card li').length") == 9
    assert "image" in browser.evaluate("JSON.stringify(captionsBody())")
    assert browser.evaluate("captionsBody().intensity") == 1.5
    assert browser.evaluate("captionsBody().style_guidance") == 4
    assert browser.evaluate("captionsBody().beam_size") == 3


def test_a_mixture_of_two_styles_is_captioned(browser: Browser, server: Server, root: Path) -> None:
    load(browser, server)
    choose(browser, root / "images" / "1.png")
    for change in ("first.value = 'Sweet'", "second.value = 'Sweet'", "part.value = 35"):
        name = change.partition(".")[0]
        browser.evaluate(f"at('{name}').{change.partition('.')[2]}; at('{name}').dispatchEvent(new Event('input')); 1")
    assert browser.evaluate("mixture()") is None  # of one style
    browser.evaluate("at('second').value = 'Humorous'; at('second').dispatchEvent(new Event('input')); 1")
    assert browser.evaluate("at('count').textContent") == "(1 chosen)"
    press_go(browser)
    browser.wait("document.querySelectorAll('.card').length === 1")
    mixture = "0.65*Sweet + 0.35*Humorous"
    captioner = Captioner.from_directory(root / "run" / "checkpoints" / "best", device="cpu")
    (expected,) = captioner.caption([root / "images" / "1.png"], styles=[mixture])
    assert " ".join(cards(browser)[mixture].split()) == " ".join(expected[mixture].split())
    assert browser.messages == []


def test_judges_are_asked_where_there_are_any(browser: Browser, server: Server, root: Path) -> None:
    load(browser, server)
    choose(browser, root / "images" / "1.png")
    press_go(browser)
    browser.wait("document.querySelectorAll('.card').length === 3")
    assert browser.evaluate("document.querySelectorAll('.judged').length") == 0
    with serving(judged_run(root)) as other:
        load(browser, other)
        choose(browser, root / "images" / "1.png")
        press_go(browser)
        browser.wait("document.querySelectorAll('.card').length === 3")
        told = browser.evaluate("[...document.querySelectorAll('.judged')].map(line => line.textContent)")
        found = browser.evaluate("rows")
        assert len(told) == 3
        for line, row in zip(told, found, strict=True):
            assert line.startswith(f"style judge {100 * row['characters_score']:.0f}% ")
            assert ("likeliest" in line) == (row["characters_style"] != row["style"])
        assert browser.evaluate("table().split('\\r\\n')[0]").startswith('"style","caption","score","characters_score"')


def test_a_word_shows_where_the_model_looked(browser: Browser, server: Server, root: Path) -> None:
    load(browser, server)
    choose(browser, root / "images" / "1.png")
    browser.evaluate(
        "rows = [{style: 'Sweet', caption: 'a red cat', score: -1, beams: []}];asked = captionsBody(); show()"
    )
    browser.evaluate("document.querySelector('.look').click()")
    browser.wait("document.querySelectorAll('.word').length === 3")
    pressed = "[...document.querySelectorAll('.word')].map(word => word.getAttribute('aria-pressed'))"
    assert browser.evaluate(pressed) == ["true", "false", "false"]
    assert browser.evaluate("document.activeElement.textContent") == "a"
    sides = [("width", "clientWidth"), ("height", "clientHeight")]
    assert all(browser.evaluate(f"at('overlay').{one} === at('photo').{other}") for one, other in sides)
    darkness = (
        "(() => { const c = at('overlay'), p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return p.filter((_, i) => i % 4 === 3); })()"
    )
    alpha = f"(() => {{ const d = {darkness}; return [Math.min(...d), Math.max(...d)]; }})()"
    least, most = browser.evaluate(alpha)
    assert least < 40 < most  # bright somewhere, dark elsewhere
    browser.press(*TAB)
    browser.press(*ENTER)
    assert browser.evaluate(pressed) == ["false", "true", "false"]
    assert "“red”" in browser.evaluate("at('looking').textContent")
    browser.press(*ENTER)
    assert browser.evaluate(pressed) == ["false", "false", "false"]
    assert browser.evaluate("at('overlay').hidden")
    browser.evaluate("former = image")
    choose(browser, root / "images" / "2.png")
    browser.wait("image !== former")
    browser.evaluate("document.querySelector('.word').click()")
    assert "Another photo" in told(browser)
    assert browser.messages == []


def test_what_goes_wrong_is_told(browser: Browser, server: Server, root: Path, tmp_path: Path) -> None:
    load(browser, server)
    press_go(browser)
    assert told(browser) == "Choose a photo first."
    (tmp_path / "note.txt").write_text("no image")
    browser.choose_file("#file", tmp_path / "note.txt")
    browser.wait("document.getElementById('error').textContent.includes('is no image')")
    (tmp_path / "broken.png").write_bytes(b"no image")
    browser.choose_file("#file", tmp_path / "broken.png")
    browser.wait("!document.getElementById('photo').hidden")
    press_go(browser)
    assert "cannot be read" in told(browser)
    assert browser.evaluate("document.querySelectorAll('.card').length") == 0


def test_the_table_is_saved_as_csv(browser: Browser, server: Server, root: Path) -> None:
    load(browser, server)
    table = browser.evaluate(
        "rows = [{style: 'Sweet', caption: 'a \"dear\" dog, truly', score: -1.5, beams: []},"
        "{style: 'Dry', caption: '=1+1', score: -2, beams: []}]; table()"
    )
    assert table == ('"style","caption","score"\r\n"Sweet","a ""dear"" dog, truly","-1.5"\r\n"Dry","\'=1+1","-2"')


def test_the_keyboard_is_enough(browser: Browser, server: Server, root: Path) -> None:
    load(browser, server)
    choose(browser, root / "images" / "2.png")
    browser.evaluate("document.getElementById('search').focus()")
    focus = "document.activeElement.type + ' ' + (document.activeElement.value || document.activeElement.id)"
    for _ in range(10):
        browser.press(*TAB)
        if browser.evaluate(focus) == "checkbox Sweet":
            break
    assert browser.evaluate(focus) == "checkbox Sweet"
    browser.press(*SPACE)
    for _ in range(20):
        browser.press(*TAB)
        if browser.evaluate("document.activeElement.id") == "go":
            break
    browser.press(*ENTER)
    browser.wait("document.querySelectorAll('.card').length === 1")
    assert list(cards(browser)) == ["Sweet"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window_and_text_is_readable(
    browser: Browser, server: Server, root: Path, width: int, dark: bool
) -> None:
    load(browser, server, width=width, dark=dark)
    choose(browser, root / "images" / "0.png")
    press_go(browser)
    browser.wait("document.querySelectorAll('.card').length === 3")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    colours = browser.evaluate(
        "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name].match(/[0-9.]+/g).map(Number))"
    )
    text, ground = (sum(colour[:3]) for colour in colours)
    assert abs(text - ground) > 450
    assert (ground < text) == dark
    for element in ("go", "camera", "none"):
        assert browser.evaluate(f"document.getElementById('{element}').getBoundingClientRect().height") >= 40


def test_a_key_is_asked_for_where_the_server_wants_one(browser: Browser, root: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("letmein")
    with serving(root / "run", key_file=str(tmp_path / "key")) as server:
        browser.open(server.url, width=1280)
        browser.wait("!document.getElementById('locked').hidden")
        assert "API key" in told(browser)
        browser.evaluate(
            "const key = document.getElementById('key'); key.value = 'letmein'; key.dispatchEvent(new Event('change'))"
        )
        browser.wait("document.querySelectorAll('#styles input').length === 3")
        browser.wait("document.getElementById('error').hidden")


def test_the_page_names_no_other_server(server: Server) -> None:
    for path in ("/", "/page.css", "/page.js"):
        status, text = ask(server, path)
        assert status == 200
        assert "http:" not in text
        assert "https:" not in text
