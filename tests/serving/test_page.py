"""The page of the server in a real browser: a photo in, a style chosen, captions out, and what goes wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.web import Server
from tasks.captioning.captioner import Captioner
from tests.models.nano import STYLES
from tests.nano_run import nano_run
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
        "document.getElementById('intensity').value = 4; document.getElementById('beam_size').value = 3; 1"
    )
    press_go(browser)
    browser.wait("document.querySelectorAll('.card').length === 3")
    assert browser.evaluate("document.querySelectorAll('.card li').length") == 9
    assert "image" in browser.evaluate("JSON.stringify(captionsBody())")
    assert browser.evaluate("captionsBody().intensity") == 4
    assert browser.evaluate("captionsBody().beam_size") == 3


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
