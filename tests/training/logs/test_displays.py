"""On a terminal, a run prints a line for each epoch above the bar."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = pytest.mark.torch
EPOCH = re.compile(r"epoch (\d)/3  step (\d+)  train_loss \S+  .*?val_loss \S+  \(\S+ s\)")
COLUMNS = 80


def on_terminal(checkout: Checkout, *argv: str) -> str:
    """Train in a terminal of 80 columns, and return what the terminal received."""
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "trainer", "train", "--exp", "dots.py", *argv]
    variables = {**checkout.environ, "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=checkout.root, env=variables, stdout=subprocess.DEVNULL, stderr=stderr)
    os.close(stderr)
    received = b""
    try:
        while part := os.read(terminal, 1 << 16):
            received += part
    except OSError:  # the terminal's other side is closed
        pass
    assert process.wait() == 0
    return received.decode()


def on_screen(received: str) -> list[str]:
    """Return the lines that the terminal shows: it interprets line ends, cursor up and erase, as Rich uses them."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", received):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part.endswith("A") and part[0] == "\x1b":
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part[0] not in "\x1b\r":
            lines[row] += part
    return lines


def test_a_terminal_keeps_a_line_for_each_epoch_above_the_bar(checkout: Checkout) -> None:
    received = on_terminal(checkout, "--max-epochs", "3")
    lines = on_screen(received)
    assert all(len(line) <= COLUMNS for line in lines if line.startswith("epoch"))
    whole = "\n".join(line.rstrip() for line in lines).replace("\n", "  ")  # a long line is wrapped between two metrics
    assert [epoch for epoch, _ in EPOCH.findall(re.sub(r"  +", "  ", whole))] == ["1", "2", "3"]
    bars = [line.partition("━")[0].strip() for line in lines if "━" in line]
    # no bar of an earlier epoch remains
    assert [bar for bar in bars if not bar.startswith("fetching")] == ["epoch 3/3", "Testing"]
