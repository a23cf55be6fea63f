"""Text never becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from trainer.reporting.drawing.markup import Markup, joined, tag


class ParsedPage(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, attributes))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_no_text_escapes_its_element(text: str, value: str) -> None:
    page = ParsedPage(tag("p", text, title=value))
    assert [name for name, _ in page.tags] == ["p"]
    assert [name for name, _ in page.tags[0][1]] == ["title"]
    assert [letter for letter in page.text if not letter.isprintable() and letter != "\n"] == []


def test_markup_is_not_escaped_twice() -> None:
    assert tag("ul", joined([tag("li", "<"), None, tag("li", 2)])) == "<ul><li>&lt;</li><li>2</li></ul>"
    assert isinstance(joined(["a", "b"], "<"), Markup)
    assert joined(["a", "b"], "<") == "a&lt;b"


def test_void_elements_are_not_closed() -> None:
    assert tag("img", alt="", src="data:image/png;base64,AA==") == '<img alt="" src="data:image/png;base64,AA==">'
