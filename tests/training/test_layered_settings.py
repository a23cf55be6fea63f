"""Several settings files, groups, and printed settings, in a run: recorded, resumed, rerun."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.training.plain.test_plain_runs import TEMPLATE, theirs
from tests.training.test_stopped_runs import attempt_record, interrupt_training
from trainer.runs.record import RunStatus

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
__all__ = ["theirs"]


@pytest.fixture(scope="module")
def layered(checkout: Checkout) -> tuple[str, ...]:
    """Write two settings files, and return the options that name them: a path, and a file of a group."""
    (checkout.root / "settings/models").mkdir(parents=True)
    (checkout.root / "base.toml").write_text('learning-rate = 0.5\nseed = 3\nmonitor = "val_loss"\n')
    (checkout.root / "settings/models/slow.toml").write_text("learning_rate = 0.02\n")
    return ("--settings", "base.toml", "--settings", "models/slow")


@pytest.mark.long
@pytest.mark.parametrize("options", [("--max-epochs", "1", "--monitor", "val_loss"), (*TEMPLATE, "--max-epochs", "1")])
def test_printed_settings_give_a_run_of_equal_identity(theirs: Checkout, options: tuple[str, ...]) -> None:
    runs = sorted((theirs.root / "runs").iterdir())
    code, printed, _ = theirs.train(*options, "--no-publish", "--print-settings")
    assert (code, sorted((theirs.root / "runs").iterdir())) == (0, runs)
    (theirs.root / "printed.toml").write_text(printed)
    assert "max_epochs = 1  # command line\n" in printed
    experiment = options[:2] if options[0] == "--exp" else ()
    data = options[2:4] if experiment else ()
    assert theirs.train(*options, "--no-publish")[0] == 0
    typed = theirs.last()[1]
    code, _, err = theirs.train(*experiment, *data, "--settings", "printed.toml")
    assert code == 0, err
    given = theirs.last()[1]
    assert (given.run != typed.run, given.identity) == (True, typed.identity)
    assert given.outcome.metrics == typed.outcome.metrics


def test_printed_settings_are_a_json_object_with_json(checkout: Checkout, layered: tuple[str, ...]) -> None:
    (checkout.root / "loud.py").write_text("print('loud')\n" + (checkout.root / "dots.py").read_text())
    code, out, _ = checkout.train("--exp", "loud.py", *layered, "--print-settings", "--json")
    settings = json.loads(out)["settings"]
    assert code == 0
    assert settings["learning_rate"] == {"value": 0.02, "origin": "file", "file": "settings/models/slow.toml"}
    assert settings["seed"] == {"value": 3, "origin": "file", "file": "base.toml"}
    assert settings["patience"] == {"value": None, "origin": "default"}


def test_the_record_names_the_file_of_each_value_and_keeps_it_through_a_resume(
    checkout: Checkout, layered: tuple[str, ...]
) -> None:
    run = interrupt_training(checkout, signal.SIGTERM, *layered, "--no-publish")
    files = {"learning_rate": "settings/models/slow.toml", "seed": "base.toml", "monitor": "base.toml"}
    files.pop("learning_rate")  # WORDS gives it on the command line
    assert attempt_record(run, 1).circumstances.settings_files == files
    for path in ("base.toml", "settings/models/slow.toml"):
        assert (run / "source" / path).read_bytes() == (checkout.root / path).read_bytes()
    (checkout.root / "base.toml").rename(checkout.root / "gone.toml")
    try:
        resumed = checkout.reprise("train", "--resume", run.name)
        assert resumed.returncode == 0, resumed.stderr
    finally:
        (checkout.root / "gone.toml").rename(checkout.root / "base.toml")
    record = attempt_record(run, 2)
    assert (record.outcome.status, record.circumstances.settings_files) == (RunStatus.COMPLETED, files)
    assert record.outcome.ledger["seed"].file == "base.toml"


@pytest.mark.long
def test_a_run_with_settings_files_is_reproduced(checkout: Checkout, layered: tuple[str, ...]) -> None:
    code, _, err = checkout.train(*layered, "--max-epochs", "1", "--no-publish")
    assert code == 0, err
    record = checkout.last()[1]
    assert record.circumstances.settings_files["learning_rate"] == "settings/models/slow.toml"
    again = checkout.reprise("reproduce", record.run, "--no-container", "--trust")
    assert again.returncode == 0, again.stdout + again.stderr
    assert checkout.last()[1].circumstances.settings_files == {}


@pytest.mark.long
def test_other_commands_take_the_same_files(checkout: Checkout, layered: tuple[str, ...]) -> None:
    checked = checkout.reprise("check", "dots.py", *layered, "--steps", "20")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    swept = checkout.reprise(
        "sweep", "dots.py", *layered, "--max-epochs", "1", "--weight-decay", "0,0.1", "--no-publish"
    )
    assert swept.returncode == 0, swept.stderr
    record = checkout.last()[1]
    assert record.circumstances.settings_files["learning_rate"] == "settings/models/slow.toml"
    assert record.ingredients.settings["learning_rate"] == 0.02
    for command in ("check", "bench", "noise", "certify"):
        words = ["rerun"] if command == "certify" else []
        done = checkout.reprise(command, *words, "dots.py", "--settings", "models/slo")
        assert (done.returncode != 0, "did you mean models/slow?" in done.stderr) == (True, True), done.stderr


def test_printed_settings_of_a_run_are_shown_elsewhere(checkout: Checkout) -> None:
    done = checkout.reprise("train", "--resume", "latest", "--print-settings")
    assert (done.returncode, "reprise runs show latest`" in done.stderr) == (2, True)
