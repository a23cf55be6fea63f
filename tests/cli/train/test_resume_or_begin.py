"""The command of a job that is started again: it begins a run once, and resumes it afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.machines import Machine
from tests.runs.runs import finish_run, start_run
from trainer.base.errors import ResumeError, RunError, StoreMissingError, UsageError
from trainer.cli.train.command_line import parse_train_options
from trainer.cli.train.resume_or_begin import Continuation, resume_or_begin
from trainer.runs.publish import publish_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import record_of
from trainer.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path

RUN = "20260301t120005-abcdef"


def decide(*words: str) -> Continuation:
    return resume_or_begin(words, parse_train_options(words))


def words(run: str, exp: str = "digits") -> list[str]:
    return [
        f"--exp={exp}",
        "--resume-or-begin",
        run,
        "--settings=large.toml",
        "--seed",
        "3",
        "--trust",
        "--allow=image",
    ]


def test_a_run_that_nobody_has_begins(runs: Path) -> None:
    decided = decide(*words(RUN))
    assert decided == Continuation(argv=["--exp=digits", "--settings=large.toml", "--seed", "3"], run=RUN)
    assert (runs / RUN).is_dir()


def test_a_stopped_run_is_resumed_with_its_own_experiment_and_files(runs: Path) -> None:
    run = finish_run(runs, status=RunStatus.PREEMPTED).record
    resumes = ["--resume", run.run, "--seed", "3", "--trust", "--allow=image"]
    assert decide(*words(run.run, run.ingredients.experiment)) == Continuation(argv=resumes)


def test_a_run_that_is_only_in_the_store_is_pulled_and_resumed(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    run = finish_run(runs, status=RunStatus.PREEMPTED).record
    publish_run(runs / run.run, DirectoryStore(tmp_path / "store"))
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "elsewhere"))
    assert decide(*words(run.run, run.ingredients.experiment)).argv[:2] == ["--resume", run.run]
    assert (tmp_path / "elsewhere" / run.run / "attempts/1/record.json").is_file()


def test_a_store_that_cannot_be_read_is_an_error_and_begins_no_second_run(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "unmounted"))
    with pytest.raises(StoreMissingError):
        decide(*words(RUN))
    assert not (runs / RUN).exists()


def test_a_completed_run_is_left_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish_run(runs).record.run
    assert decide(*words(run)).is_completed
    assert capsys.readouterr().err == f"run {run} is completed: nothing is left to do\n"


def test_a_machine_other_than_node_0_has_no_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NODES", "2"), ("NODE", "1"), ("MAIN_ADDRESS", "node0:29500")):
        monkeypatch.setenv(f"REPRISE_{name}", value)
    run = finish_run(runs, status=RunStatus.PREEMPTED).record.run
    assert decide(*words(run)) == Continuation(argv=["--exp=digits", "--settings=large.toml", "--seed", "3"])


def test_another_experiment_is_rejected(runs: Path) -> None:
    run = finish_run(runs, status=RunStatus.PREEMPTED).record
    with pytest.raises(ResumeError, match=rf"trains {run.ingredients.experiment}, but --exp is faces$"):
        decide(*words(run.run, "faces"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--resume-or-begin=latest", "--exp=digits"], "expected the ID of a new or an existing run"),
        (["--resume-or-begin", RUN], "needs the words that begin the run"),
        (["--resume-or-begin", RUN, "--script=a.py"], "a script has its own loop"),
        (["--resume-or-begin", RUN, "--exp=digits", "--resume=latest"], "cannot be used with"),
    ],
)
def test_words_that_cannot_both_begin_and_resume_a_run_are_rejected(runs: Path, given: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        decide(*given)
    assert caught.value.hint
    assert not (runs / RUN).exists()


def test_a_run_whose_host_was_lost_is_resumed_on_another(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = start_run(runs)
    run.release()  # as the system does when the process is killed
    assert decide(*words(run.record.run, run.record.ingredients.experiment)).argv[0] == "--resume"
    assert record_of(runs / run.record.run).outcome.status is RunStatus.INTERRUPTED
    assert capsys.readouterr().err == "attempt 1 ended without closing its record, on host h\n"


def test_a_run_that_is_still_running_here_is_not_resumed(runs: Path) -> None:
    run = start_run(runs)
    with pytest.raises(RunError, match="is still running"):
        decide(*words(run.record.run, run.record.ingredients.experiment))


def test_a_run_that_another_machine_completed_is_left_alone(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    store = DirectoryStore(tmp_path / "store")
    first = Machine(name="first", runs=runs, store=store)
    run = first.begin()
    first.snapshot(first.train(1))
    first.attempt.close(Outcome(status=RunStatus.FAILED))
    second = Machine(name="second", runs=tmp_path / "second", store=store)
    second.take_over(run)
    second.train(1)
    second.finish()
    assert decide(*words(run)).is_completed
