"""The output of a container, line by line."""

from __future__ import annotations

from trainer.environments.engine.log_lines import LONGEST, forward_lines


def lines_of(*chunks: bytes) -> list[str]:
    lines: list[str] = []
    forward_lines(chunks, lines.append)
    return lines


def test_lines_are_whole_for_any_chunks() -> None:
    assert lines_of(b"on", b"e\ntw", b"o\r\nthree") == ["one", "two", "three"]


def test_carriage_returns_end_lines() -> None:
    assert lines_of(b"1%\r2%\r3%\n") == ["1%", "2%", "3%"]


def test_an_endless_line_is_cut() -> None:
    assert max(map(len, lines_of(*[b"x" * 5000] * 20))) <= LONGEST + 5000


def test_invalid_utf_8_is_shown_escaped() -> None:
    assert lines_of(b"\xff\n") == ["\ufffd"]
