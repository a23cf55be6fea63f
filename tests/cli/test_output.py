from __future__ import annotations

import io
import json
import sys
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.cli import main
from trainer.cli.output import SafeStream, escaping, guarded_streams, one_line, shown, underlying


@pytest.mark.parametrize(
    "letter", ["\x00", "\r", "\x1b", "\x7f", "\x9b", "\u061c", "\u202e", "\u2066", "\u2028", "\ud800"]
)
def test_terminal_control_characters_are_escaped(letter: str) -> None:
    assert shown(f"a{letter}b") == f"a\\u{ord(letter):04x}b"


def test_lines_tabs_and_letters_of_any_script_are_kept() -> None:
    text = "a\tb\n고양이 \U0001f600 e\u0301 \u200d\n"
    assert shown(text) == text
    assert one_line("a\tb\n") == "a\\u0009b\\u000a"


@given(st.text(alphabet=st.characters()))
def test_no_control_character_remains_and_json_keeps_its_value(text: str) -> None:
    printed = shown(json.dumps([text], ensure_ascii=False))
    assert json.loads(printed) == [text]
    assert printed.encode().decode() == printed
    assert not any(letter < " " or letter in "\x7f\x9b\u202e" for letter in printed)


def test_a_wrapped_stream_keeps_its_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream := io.StringIO())
    with guarded_streams(escapes=True):
        assert cast("SafeStream", underlying(sys.stdout)).stream is stream
        assert cast("SafeStream", escaping(sys.stdout)).stream is stream
        assert not sys.stdout.isatty()
        sys.stdout.write("\x1b[2J")
        sys.stdout.writelines(["\x07", "\n"])
    assert sys.stdout is stream
    assert stream.getvalue() == "\\u001b[2J\\u0007\n"


@pytest.mark.parametrize(
    "words", [["\x1b[2J"], ["runs", "show", "\x1b[2J"], ["runs", "ls", "--\x1b[2J"], ["_process\x1b"]]
)
@pytest.mark.parametrize("json_too", [False, True])
def test_control_characters_in_an_argument_are_escaped_in_the_error(
    capfd: pytest.CaptureFixture[str], words: list[str], *, json_too: bool
) -> None:
    assert main([*words, *(["--json"] if json_too else [])]) > 1
    assert "\x1b" not in "".join(capfd.readouterr())
