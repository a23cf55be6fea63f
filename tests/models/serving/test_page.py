"""The page of a server in a real browser shows predictions, and loads nothing from another server."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import pytest

pytest.importorskip("torch")

from tests.cli.browser import BROWSER, Page, page
from tests.models.serving.running import running
from trainer.models.serving.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.models.serving.running import Running
    from trainer.models.packaged import PackagedModel

pytestmark = [
    pytest.mark.torch,
    pytest.mark.trains,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium"),
]
TOKEN: Final = "a-token-of-16-characters"  # noqa: S105
PREDICTION: Final = "document.getElementById('prediction').innerText"
DRAW: Final = """(() => {
  const canvas = document.getElementById('drawing'), box = canvas.getBoundingClientRect();
  canvas.setPointerCapture = () => {};
  const at = (kind, place) => canvas.dispatchEvent(
    new PointerEvent(kind, {clientX: box.left + place, clientY: box.top + place, buttons: 1, pointerId: 1}));
  at('pointerdown', 60); at('pointermove', 200); at('pointerup', 200);
})()"""
FILL: Final = """(() => {
  for (const [name, value] of [['height', 1.5], ['width', 2], ['color', 'red']]) document.getElementById('column-' + name).value = value;
  document.querySelector('#input button.main').click();
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with page() as opened:
        yield opened


def shown(browser: Page, expression: str) -> str:
    """Wait until an expression has a value, and return it."""
    end = time.monotonic() + 20
    while not (value := browser.value(expression)):
        assert time.monotonic() < end, browser.complaints
        time.sleep(0.05)
    return str(value)


def tried(browser: Page, server: Running, action: str, *, ready: str, dark: bool = False) -> str:
    """Open the page, run the action, and return the prediction that the page shows."""
    address = f"http://127.0.0.1:{server.port}/"
    browser.open(address, width=390, dark=dark)
    shown(browser, f"document.querySelector('{ready}') !== null")
    browser.value(action)
    text = shown(browser, PREDICTION)
    assert all(url.startswith((address, f"blob:{address}")) for url in browser.requests)
    assert browser.complaints == []
    assert browser.value("document.documentElement.scrollWidth") == 390
    return text


@pytest.mark.parametrize("dark", [False, True])
def test_a_drawn_picture_shows_its_class_and_scores(browser: Page, pictures: Running, *, dark: bool) -> None:
    lines = tried(browser, pictures, DRAW, ready="#drawing", dark=dark).split("\n")
    assert lines[0] in {"ant", "bee", "cat"}
    assert lines[1] == lines[0]
    assert float(lines[2]) == pytest.approx(max(map(float, lines[2::2])))


def test_a_drawing_becomes_an_array_with_the_range_of_the_golden_samples(browser: Page, arrays: Running) -> None:
    sent = "window.sent = []; const own = window.fetch; window.fetch = (...words) => (window.sent.push(words[1].body), own(...words));"
    lines = tried(browser, arrays, sent + DRAW, ready="#drawing").split("\n")
    assert lines[0] in {"ant", "bee", "cat"}
    (rows,) = json.loads(str(browser.value("window.sent[0]")))["inputs"]["image"][0]
    low, high = arrays.get("/package").json["inputs"][0]["range"]
    values = [value for row in rows for value in row]
    assert (len(rows), len(values)) == (4, 16)
    assert low <= min(values) < max(values) <= high


def test_a_form_has_the_columns_of_the_table(browser: Page, table: Running) -> None:
    expected = table.post("/predict", {"rows": [{"height": "1.5", "width": "2", "color": "red"}]}).json
    assert str(expected["predictions"][0]["output"]) in tried(browser, table, FILL, ready="#column-color")


def test_a_json_field_takes_tensors_and_shows_errors(browser: Page, tensors: Running) -> None:
    send = "document.querySelector('#input button.main').click()"
    assert "output" in tried(browser, tensors, send, ready="#json")
    browser.value("document.getElementById('json').value = '{'; " + send)
    assert "is not valid JSON" in shown(browser, f"{PREDICTION}.includes('JSON') && {PREDICTION}")


def test_a_server_with_a_token_asks_for_it(browser: Page, models: dict[str, PackagedModel]) -> None:
    with running(models["tensors"], Limits(), token=TOKEN) as server:
        browser.open(f"http://127.0.0.1:{server.port}/")
        shown(browser, "!document.getElementById('login').hidden")
        assert browser.value("document.getElementById('name').innerText") == "Reprise"
        browser.value(
            f"document.getElementById('token').value = '{TOKEN}'; document.querySelector('#login button').click()"
        )
        assert shown(browser, "document.querySelector('#json') && document.title").startswith("tensors-")
