"""A run that publishes its checkpoints is resumed on another machine from the store alone; the result is bit-identical."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Final

import pytest

from trainer.runs.list import remote_ids
from trainer.runs.run import load_record
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
RESULTS: Final = ("tensors.json", "weights.safetensors", "metrics.jsonl", "trace.jsonl")
WORDS: Final = ("--exp", "halting.py", "--max-epochs", "3", "--checkpoint-every", "2", "--no-tensorboard")
ALWAYS: Final = ("--publish-every", "0.000001")
HALT: Final = """
    def training_step(self, batch, index):
        if self.global_step == 9 and "HALT" in os.environ:
            print("halted", flush=True)
            while True:
                time.sleep(1)
        return super().training_step(batch, index)
"""
DEADLINE_S: Final = 120.0


@pytest.fixture(scope="module")
def halting(checkout: Checkout) -> Iterator[None]:
    """Write an experiment that, if the variable HALT is set, never ends its tenth step."""
    file = checkout.root / "halting.py"
    file.write_text("import os, time\n" + (checkout.root / "dots.py").read_text() + HALT)
    yield
    file.unlink()


@pytest.fixture(scope="module")
def whole(checkout: Checkout, halting: None) -> Path:
    """Train without interruption and without publishing during the run; return the attempt's folder."""
    assert halting is None
    code, _, err = checkout.train(*WORDS)
    assert code == 0, err
    return checkout.last()[0]


def killed_run(checkout: Checkout, store: Path) -> tuple[str, int]:
    """Train until the tenth step, wait for a snapshot, kill the process; return the run's ID and the step of the last snapshot."""
    process = checkout.start(*WORDS, *ALWAYS, host="first", HALT="1", REPRISE_STORE=str(store))
    assert process.stdout is not None
    try:
        assert "halted" in iter(lambda: process.stdout.readline().strip(), ""), process.communicate()  # type: ignore[union-attr]
        end = time.monotonic() + DEADLINE_S
        while not (found := list(store.glob("runs/*/attempts/1/snapshots/*.json"))):
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    found = list(store.glob("runs/*/attempts/1/snapshots/*.json"))
    return found[0].parts[-5], step_of(found)


def step_of(snapshots: list[Path]) -> int:
    steps: list[int] = [json.loads(file.read_bytes())["step"] for file in snapshots]
    return max(steps)


def test_a_run_whose_machine_is_lost_continues_from_the_store_to_identical_bits(
    checkout: Checkout, whole: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    run, step = killed_run(checkout, store)
    assert remote_ids(open_store(str(store))) == {}  # nothing is sealed
    place = {"REPRISE_RUNS": str(tmp_path / "runs"), "REPRISE_HOST": "second", "REPRISE_STORE": str(store)}
    refused = checkout.reprise("train", "--resume", run, **place)
    assert (refused.returncode, "from another user or machine, host first" in refused.stderr) == (85, True), (
        refused.stderr
    )
    resumed = checkout.reprise("train", "--resume", run, "--trust", **place)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming from step {step}\n" in resumed.stderr
    assert 0 < step < 10
    last = tmp_path / "runs" / run / "attempts" / "2"
    assert [name for name in RESULTS if (last / name).read_bytes() != (whole / name).read_bytes()] == []
    assert load_record(last / "record.json").circumstances.host.name == "second"
    assert remote_ids(open_store(str(store))) == {run: 2}


def test_publishing_during_a_run_does_not_change_it(checkout: Checkout, whole: Path) -> None:
    code, _, err = checkout.train(*WORDS, *ALWAYS)
    assert code == 0, err
    folder, record = checkout.last()
    assert [name for name in RESULTS if (folder / name).read_bytes() != (whole / name).read_bytes()] == []
    assert record.identity == load_record(whole / "record.json").identity
    assert record.outcome.ledger["publish_every"].read
    assert "published to" in (folder / "log.txt").read_text()
    assert list((checkout.store / "runs" / record.run / "attempts/1/snapshots").glob("*.json"))


def test_a_store_that_does_not_answer_is_a_line_and_not_an_error(checkout: Checkout, halting: None) -> None:
    assert halting is None
    missing = str(checkout.store.with_name("missing"))
    code, out, err = checkout.train(*WORDS, *ALWAYS, REPRISE_STORE=missing)
    assert code == 0, err
    lines = [line for line in err.splitlines() if missing in line]
    assert lines[0].startswith("cannot claim the attempt now (store folder")
    assert lines[1].startswith("checkpoint of step 2 was not published: store folder")
    assert (len(lines), "local only" in out) == (2, True)
