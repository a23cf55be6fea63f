"""The command `reprise check`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import CheckFailedError

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]


def test_a_failed_check_has_an_exit_code_and_is_named(checkout: Checkout) -> None:
    before = set((checkout.root / "runs").iterdir())
    done = checkout.reprise("check", "dots.py", "--breaks", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["passed"], document["failed"]) == (CheckFailedError.code, False, ["forward"])
    assert document["data"] == "dots@1, cpu"
    assert "dots.py" in next(each["hint"] for each in document["findings"] if each["check"] == "forward")
    assert set((checkout.root / "runs").iterdir()) == before


def test_weights_that_a_run_would_begin_with_are_named_as_not_used(checkout: Checkout) -> None:
    done = checkout.reprise("check", "dots.py", "--steps", "3", "--init-from", "dots-net", "--json")
    assert json.loads(done.stdout)["data"] == "dots@1, cpu, initial weights from the seed, not from dots-net"


def test_an_undeclared_synthetic_dataset_is_rejected(checkout: Checkout) -> None:
    done = checkout.reprise("check", "dots.py", "--synthetic")
    assert done.returncode == 80
    assert "so it has no synthetic data" in done.stderr
    assert "[twin.image]" in done.stderr
    assert "Traceback" not in done.stderr


CHATTY = """
import os
import subprocess
print("imported")


class Loud:
    def __init__(self) -> None:
        print("made")
        os.write(1, b"to the descriptor\\n")
        subprocess.run(["echo", "from a child"], check=True)
        import ctypes
        ctypes.CDLL(None).puts(b"from C")
"""


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--exp", "loud.py", "--no-publish"),
        ("check", "loud.py", "--steps", "3"),
        ("bench", "loud.py", "--steps", "20", "--warmup", "1", "--seconds", "1"),
        ("check", "--bits", "loud.py", "--steps", "1"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_with_json_stdout_is_one_line_whatever_the_experiment_prints(
    checkout: Checkout, words: tuple[str, ...]
) -> None:
    code = (checkout.root / "dots.py").read_text()
    code = code.replace("        self.breaks = breaks\n", "        self.breaks = breaks\n        Loud()\n")
    (checkout.root / "loud.py").write_text(code.replace("\nfrom torch", f"{CHATTY}\nfrom torch", 1))
    command = [sys.executable, "-m", "trainer", *words, "--json"]
    done = subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1, done.stdout + done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    for message in ("imported", "made", "to the descriptor", "from a child", "from C"):
        assert message in done.stderr
