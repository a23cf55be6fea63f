"""`reprise reproduce RUN --no-container` with the real command."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trainer.runs.run import record_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout
    from trainer.runs.record import Record

pytestmark = [pytest.mark.torch, pytest.mark.trains]


def run_reproduce(checkout: Checkout, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the checkout without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "trainer", "reproduce", *words, "--no-container"],
        cwd=checkout.root,
        env=checkout.environ | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def original(checkout: Checkout) -> Record:
    """Return a run with settings from the command line, one of which is None."""
    code, _, err = checkout.train("--learning-rate", "0.01", "--max-epochs", "1", "--monitor", "none")
    assert code == 0, err
    return checkout.last()[1]


@pytest.fixture(scope="module")
def reproduce_output(original: Record, checkout: Checkout) -> subprocess.CompletedProcess[str]:
    shutil.rmtree(checkout.root.parent / "cache")
    (checkout.root / "later.py").write_text("an_edit = 'since then'\n")
    return run_reproduce(checkout, original.run)


def test_a_reproduced_run_is_identical(reproduce_output: subprocess.CompletedProcess[str]) -> None:
    assert reproduce_output.returncode == 0, reproduce_output.stderr
    assert reproduce_output.stdout.startswith("identical:")


def test_a_retest_has_the_identity_of_the_original_and_names_it(
    reproduce_output: subprocess.CompletedProcess[str], original: Record, checkout: Checkout
) -> None:
    assert reproduce_output.returncode == 0, reproduce_output.stderr
    (path,) = (checkout.root / "runs" / original.run / "retests").glob("*-??????.json")
    retest = json.loads(path.read_text())
    again = record_of(checkout.root / "runs" / retest["retest"]["run"])
    assert again.identity == original.identity
    assert again.circumstances.retest_of == original.run
    assert again.circumstances.origins["learning_rate"] == "record"
    assert (retest["verdict"], retest["how"]) == ("identical", "here")
    assert any(line.startswith("image: the record names no image") for line in retest["not_equal"])


def test_a_retest_is_shown_with_its_run_and_published(
    reproduce_output: subprocess.CompletedProcess[str], original: Record, checkout: Checkout
) -> None:
    assert reproduce_output.returncode == 0, reproduce_output.stderr
    command = [sys.executable, "-m", "trainer", "runs", "show", original.run]
    page = subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=True)
    assert f"identical: 1 on {original.circumstances.host.cpu}" in page.stdout
    assert list((checkout.store / "runs" / original.run / "retests").iterdir())


def test_only_runs_remain(reproduce_output: subprocess.CompletedProcess[str], checkout: Checkout) -> None:
    assert reproduce_output.returncode == 0, reproduce_output.stderr
    assert not [path for path in (checkout.root / "runs").iterdir() if path.name.endswith(".retest")]


def test_untrusted_code_is_shown_and_not_run(original: Record, checkout: Checkout, tmp_path: Path) -> None:
    there = {"REPRISE_RUNS": str(tmp_path / "runs")}
    (checkout.root / "dots.py").write_text((checkout.root / "dots.py").read_text() + "# mine\n")
    refused = run_reproduce(checkout, original.run, "--trust", **there)
    assert (refused.returncode, "would reach this machine's network" in refused.stderr) == (85, True), refused.stderr
    refused = run_reproduce(checkout, original.run, "--grant", "machine", **there)
    assert refused.returncode == 85, refused.stderr
    assert "is from another user or machine, and it is not trusted" in refused.stderr
    assert "-# mine" in refused.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [original.run]
    trusted = run_reproduce(checkout, original.run, "--trust", "--grant", "machine", **there)
    assert trusted.returncode == 0, trusted.stderr


def test_an_altered_source_bundle_is_rejected_before_anything_runs(original: Record, checkout: Checkout) -> None:
    archive = checkout.root / "runs" / original.run / "source.tar.gz"
    kept = archive.read_bytes()
    archive.write_bytes(kept[:-20])
    try:
        done = run_reproduce(checkout, original.run)
    finally:
        archive.write_bytes(kept)
    assert done.returncode == 84
    assert "source" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_of_two_attempts_is_reproduced_in_one(checkout: Checkout) -> None:
    process = checkout.start("--max-epochs", "6")
    assert process.stderr
    while not process.stderr.readline().startswith("epoch 2/"):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    run = checkout.last()[1].run
    assert f"resume     scripts/reprise train --resume {run}" in err
    early = run_reproduce(checkout, run)
    assert (early.returncode, f"--resume {run}" in early.stderr) == (30, True), early.stderr
    command = [sys.executable, "-m", "trainer", "train", "--resume", run]
    subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, check=True)
    done = run_reproduce(checkout, run)
    assert done.returncode == 0, done.stderr
    assert f"{run}  attempt 2" in done.stdout
