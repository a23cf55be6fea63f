"""Loggers of an experiment: their files, and failures that do not end a run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger

from tests.runs.runs import start_run
from tests.training.conftest import EXPERIMENT, Checkout
from trainer.base.errors import ExperimentError, InterruptedRunError
from trainer.training.logs.guarded_loggers import guard, own_loggers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.torch

OWN: Final = (
    EXPERIMENT.replace("from torch import", "from lightning.pytorch.loggers import CSVLogger, Logger\nfrom torch import", 1)
    + """
    def make_loggers(self, folder):
        return [CSVLogger(folder, name="csv", version="", flush_logs_every_n_steps=1), Unreachable()]

class Unreachable(Logger):
    name, version = "unreachable", ""

    def log_hyperparams(self, *values): ...

    def log_metrics(self, metrics, step=None):
        raise ConnectionError("connection refused")
"""
)  # fmt: skip


def ignore(_name: str, _reason: str) -> None: ...


class Flaky(Logger):
    """Draws random numbers, and raises the given exception."""

    name, version = "flaky", ""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.fault, self.calls = fault, 0

    def log_hyperparams(self, *_: Any) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        del metrics, step
        self.calls += 1
        random.random()  # noqa: S311 - a client may draw the pause before it tries again
        torch.rand(1)
        if self.fault is not None:
            raise self.fault


def test_a_failing_logger_is_reported_once_and_tried_again_after_a_pause() -> None:
    reports: dict[str, str] = {}
    now = [0.0]
    flaky = Flaky(OSError("the disk of the server is full"))
    logger = guard(flaky, reports.setdefault, clock=lambda: now[0])
    logger.log_metrics({}, 1)
    logger.log_metrics({}, 2)
    assert flaky.calls == 1
    now[0] = 61.0
    logger.log_metrics({}, 3)
    assert flaky.calls == 2
    assert list(reports) == ["logs of Flaky"]
    assert reports["logs of Flaky"].startswith("it raised OSError: the disk of the server is full; training continues")


def test_a_request_to_stop_is_no_failure_of_the_logger() -> None:
    logger = guard(Flaky(InterruptedRunError("stopped")), ignore)
    with pytest.raises(InterruptedRunError):
        logger.log_metrics({}, 1)


@pytest.mark.parametrize("fault", [None, OSError("down")])
def test_random_numbers_of_a_logger_are_not_the_trainings(fault: Exception | None) -> None:
    before = random.getstate(), torch.get_rng_state()
    guard(Flaky(fault), ignore).log_metrics({}, 1)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


class Hooked:
    """A net with the hook."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def make_loggers(self, folder: Path) -> Any:
        if isinstance(self.made, Exception):
            raise self.made
        return [CSVLogger(folder, name="csv", version="")] if self.made is CSVLogger else self.made


def test_a_rerun_sends_nothing_to_the_authors_servers(tmp_path: Path) -> None:
    record = start_run(tmp_path / "runs").record
    again = record.circumstances.model_copy(update={"retest_of": record.run})
    certify = record.circumstances.model_copy(update={"purpose": "certify"})
    found = {
        name: len(own_loggers(Hooked(CSVLogger), tmp_path, each, ignore))
        for name, each in {
            "own": record,
            "rerun": record.model_copy(update={"circumstances": again}),
            "certify": record.model_copy(update={"circumstances": certify}),
            "another rank": None,
        }.items()
    }
    assert found == {"own": 1, "rerun": 0, "certify": 0, "another rank": 0}


def test_a_logger_that_cannot_start_ends_a_new_run_but_not_a_resumed_one(tmp_path: Path) -> None:
    record = start_run(tmp_path / "runs").record
    reports: dict[str, str] = {}
    net = Hooked(ConnectionError("connection refused"))
    with pytest.raises(ConnectionError):
        own_loggers(net, tmp_path, record, reports.setdefault)
    assert own_loggers(net, tmp_path, record.model_copy(update={"attempt": 2}), reports.setdefault) == []
    assert reports["logs of make_loggers"].startswith("it raised ConnectionError: connection refused")


def test_another_value_than_loggers_is_rejected(tmp_path: Path) -> None:
    record = start_run(tmp_path / "runs").record
    with pytest.raises(ExperimentError, match=r"Hooked\.make_loggers returned a str; expected a list of Lightning"):
        own_loggers(Hooked(["csv"]), tmp_path, record, ignore)


@pytest.mark.trains
def test_a_run_keeps_the_files_of_its_own_loggers_and_survives_one_that_fails(checkout: Checkout) -> None:
    code, _, err = checkout.train("--max-epochs", "1", "--no-publish")
    assert code == 0, err
    plain = checkout.last()[1]
    (checkout.root / "own.py").write_text(OWN)
    code, _, err = checkout.train("--exp", "own.py", "--max-epochs", "1", "--no-publish")
    assert code == 0, err
    folder, record = checkout.last()
    assert err.count("not guaranteed: logs of Unreachable: it raised ConnectionError: connection refused") == 1
    assert list(record.circumstances.limits) == ["logs of Unreachable"]
    assert "val_accuracy" in (folder / "loggers/csv/metrics.csv").read_text()
    assert record.identity in (folder / "loggers/csv/hparams.yaml").read_text()
    assert "loggers/csv/metrics.csv" in {each.path for each in record.outcome.files}
    assert record.outcome.weights == plain.outcome.weights
