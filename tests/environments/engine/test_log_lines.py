"""What a container prints, line by line."""

from __future__ import annotations

from trainer.environments.engine.log_lines import LONGEST, forward_lines


def said(*chunks: bytes) -> list[str]:
    """The lines of some pieces."""
    lines: list[str] = []
    forward_lines(chunks, lines.append)
    return lines


def test_lines_come_whole_however_they_arrive() -> None:
    """A line is handed over when it ends; the last one need not."""
    assert said(b"on", b"e\ntw", b"o\r\nthree") == ["one", "two", "three"]


def test_a_progress_bar_is_lines() -> None:
    """A carriage return ends a line, too."""
    assert said(b"1%\r2%\r3%\n") == ["1%", "2%", "3%"]


def test_a_line_without_end_is_cut() -> None:
    """What a stranger prints does not fill the memory."""
    assert max(map(len, said(*[b"x" * 5000] * 20))) <= LONGEST + 5000


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    """And break nothing."""
    assert said(b"\xff\n") == ["\ufffd"]
