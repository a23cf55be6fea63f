"""The command `reprise bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.training.test_timing import BENCH
from trainer.training.timing import PARTS, BenchResult

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
FEW = ("--steps", "24")
ROOT: Final = Path(__file__).parents[2]


def run_bench(checkout: Checkout, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", "bench", "dots.py", "--warmup", "2", *words]
    return subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False)


def test_a_step_is_reported_in_parts_ratios_and_most_expensive_operations(checkout: Checkout) -> None:
    (checkout.root / "before.json").write_text(BenchResult(bench=BENCH).model_dump_json())
    done = run_bench(checkout, *FEW, "--json", "--profile", "--against", "before.json")
    assert done.returncode == 0, done.stderr
    document = BenchResult.model_validate_json(done.stdout)
    assert (document.bench.steps, document.bench.batch_size, document.bench.data) == (24, 8, "dots@1")
    assert tuple(document.bench.parts) == PARTS
    assert sum(part.median for part in document.bench.parts.values()) > 0
    assert document.ratios
    assert document.ratios["samples/s"]
    assert "batch size: 8, against 32" in document.unlike
    assert len(document.dearest) == 10
    assert document.profile
    trace = checkout.root / document.profile
    assert json.loads(trace.read_text())["traceEvents"]
    trace.unlink()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--steps", "3"), 2, "found --steps 3"),
        (("--against", "nothing.json"), 40, "nothing.json does not exist"),
        (("--against", "zzz"), 45, "no run is called 'zzz'"),
    ],
)
def test_invalid_options_are_rejected_before_torch_is_imported(
    checkout: Checkout, words: tuple[str, ...], code: int, message: str
) -> None:
    done = run_bench(checkout, *words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


PARENT: Final = """
import subprocess, sys
kept = b"x" * (1 << 30)
code = "from trainer.training.bench import peak_memory; print(peak_memory())"
subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_the_peak_memory_is_not_that_of_the_process_that_started_this_one() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 1 << 30
