"""`reprise check`, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trainer.errors import UnsoundError

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]


def typed(checkout: Checkout, *words: str) -> subprocess.CompletedProcess[str]:
    """Type it in the checkout."""
    command = [sys.executable, "-m", "trainer", "check", *words]
    return subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False)


def test_a_failed_check_has_an_exit_code_and_is_named(checkout: Checkout) -> None:
    """On the store's data; nothing is recorded, and what failed is told as JSON too."""
    before = set((checkout.root / "runs").iterdir())
    done = typed(checkout, "dots.py", "--breaks", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["passed"], told["failed"]) == (UnsoundError.code, False, ["forward"])
    assert told["data"] == "dots@1, cpu"
    assert "dots.py" in next(each["look"] for each in told["findings"] if each["check"] == "forward")
    assert set((checkout.root / "runs").iterdir()) == before


def test_a_twin_that_is_not_declared_is_refused(checkout: Checkout) -> None:
    """In one line, with what to write."""
    done = typed(checkout, "dots.py", "--dummy")
    assert done.returncode == 80
    assert "so it has no dummy twin" in done.stderr
    assert "[twin.image]" in done.stderr
    assert "Traceback" not in done.stderr
