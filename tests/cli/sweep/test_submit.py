"""Submitting a sweep to Slurm, with shell scripts in place of its programs: what the user types and sees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cli.test_submit import checkout, run
from tests.records import circumstances, ingredients
from trainer.base.errors import RunError, UsageError
from trainer.cli.sweep import main
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

__all__ = ["checkout"]

pytestmark = pytest.mark.host
WORDS: Final = ("sweep", "digits", "--seed", "1..3", "--max-epochs", "2", "--to", "lab", "--jobs", "2")
PODS: Final = (
    'kind = "kubernetes"\nnamespace = "research"\nimage = "registry.example/team/cpu@sha256:%s"\ncpus = 4\n'
    'memory = "16Gi"\n[volumes."/store"]\nclaim = "store"\n'
)
HIDDEN: Final = "hidden-one"


def submit(checkout: Path, tmp_path: Path, *words: str, **texts: str) -> Any:
    return run(
        checkout, tmp_path, *(words or WORDS), variables={}, **{"sbatch": "echo 42", "squeue": "exit 0", **texts}
    )


def sweep_of(tmp_path: Path) -> Path:
    [folder] = (tmp_path / "runs" / "sweeps").iterdir()
    return folder


def points_of(tmp_path: Path) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = json.loads((sweep_of(tmp_path) / "sweep.json").read_bytes())["points"]
    return points


def tasks(*states: str) -> str:
    """Return a script for `squeue` that prints the states of the tasks 1, 2, ... of job 42."""
    return "; ".join(f"echo '42_{task}|{state}|None|n1'" for task, state in enumerate(states, 1))


def finish(tmp_path: Path, number: int, *, loss: float = 0.5, **settings: JsonValue) -> None:
    """Complete the run of a point."""
    folder = tmp_path / "runs" / points_of(tmp_path)[number]["runs"][-1]
    recorded = ingredients(settings=settings) if settings else ingredients()
    opened = open_run(folder, ingredients=recorded, circumstances=circumstances())
    opened.close(Outcome(status=RunStatus.COMPLETED, metrics={"val_loss": loss}, steps=1))


def test_a_sweep_is_one_array_job_whose_tasks_have_runs_of_their_own(checkout: Path, tmp_path: Path) -> None:
    done = submit(checkout, tmp_path)
    assert done.returncode == 0, done.stderr
    folder, names = sweep_of(tmp_path), [point["runs"][-1] for point in points_of(tmp_path)]
    assert f"sweep {folder.name}: 3 points as job 42; its folder, {folder}" in done.stdout
    place = folder / "submissions" / "1"
    assert "#SBATCH --array=1-3%2\n" in (place / "job.sbatch").read_text()
    assert f"3) run={names[2]} point=(--seed=3) ;;" in (place / "points").read_text()
    assert json.loads((place / "plan.json").read_text())["words"] == ["train", "--exp=digits", "--max-epochs=2"]
    notes = [json.loads((tmp_path / "runs" / name / "submission/submission.json").read_bytes()) for name in names]
    assert [(note["job"], note["sweep"]) for note in notes] == [(f"42_{task}", folder.name) for task in (1, 2, 3)]


def test_the_same_command_submits_only_points_that_neither_finished_nor_wait(checkout: Path, tmp_path: Path) -> None:
    assert submit(checkout, tmp_path).returncode == 0
    before = [point["runs"] for point in points_of(tmp_path)]
    finish(tmp_path, 0)
    done = submit(checkout, tmp_path, sbatch="echo 43", squeue=tasks("COMPLETED", "PENDING", "FAILED"))
    assert (done.returncode, "point 2, seed=2: job 42_2 is PENDING" in done.stderr) == (0, True), done.stderr
    job = (sweep_of(tmp_path) / "submissions" / "2" / "job.sbatch").read_text()
    assert "#SBATCH --array=3%2\n" in job
    assert [point["runs"] for point in points_of(tmp_path)] == before, "the run of a point is resumed"
    done = submit(
        checkout, tmp_path, squeue='case "$*" in *=42*) echo "42_2|RUNNING|None|" ;; *) echo "43_3|PENDING||" ;; esac'
    )
    assert (done.returncode, "nothing is left to submit" in done.stdout) == (0, True), done.stderr
    assert not (sweep_of(tmp_path) / "submissions" / "3").exists()


def test_the_same_command_without_its_cluster_names_the_cluster(checkout: Path, tmp_path: Path) -> None:
    assert submit(checkout, tmp_path).returncode == 0
    done = submit(checkout, tmp_path, *WORDS[: WORDS.index("--to")])
    message = (
        f"sweep {sweep_of(tmp_path).name} of the same points was started with --to lab, and this command has no --to"
    )
    assert (done.returncode, message in done.stderr) == (RunError.code, True), done.stderr
    assert "add --to lab to continue it" in done.stderr


def test_a_finished_sweep_prints_its_table_and_submits_nothing(checkout: Path, tmp_path: Path) -> None:
    assert submit(checkout, tmp_path).returncode == 0
    for number in range(3):
        finish(tmp_path, number)
    done = submit(checkout, tmp_path, sbatch="exit 9")
    assert (done.returncode, "3 finished" in done.stdout, "val_loss" in done.stdout) == (0, True, True), done.stderr


def test_a_point_whose_job_ended_without_a_record_has_failed(checkout: Path, tmp_path: Path) -> None:
    assert submit(checkout, tmp_path).returncode == 0
    done = submit(checkout, tmp_path, "sweep", "--show", "latest", squeue=tasks("FAILED", "PENDING", "RUNNING"))
    assert "1 waiting, 1 running, 1 failed" in done.stdout, done.stderr
    unknown = submit(checkout, tmp_path, "sweep", "--show", "latest", squeue="exit 1")
    assert "the states of the points' jobs are unknown: squeue failed" in unknown.stderr


def test_points_of_a_job_are_submitted_again_only_if_the_scheduler_answers(checkout: Path, tmp_path: Path) -> None:
    assert submit(checkout, tmp_path).returncode == 0
    done = submit(checkout, tmp_path, squeue="exit 1")
    assert (done.returncode, "squeue failed" in done.stderr) == (65, True), done.stderr
    assert not (sweep_of(tmp_path) / "submissions" / "2").exists()


def test_the_output_of_a_point_is_in_the_folder_of_the_sweep(checkout: Path, tmp_path: Path) -> None:
    assert submit(checkout, tmp_path).returncode == 0
    (sweep_of(tmp_path) / "logs" / "2.txt").write_text("epoch 1\n")
    name = points_of(tmp_path)[1]["runs"][-1]
    assert submit(checkout, tmp_path, "logs", name).stdout == "epoch 1\n"
    asked = f'echo "$@" >>{tmp_path}/asked; echo "RUNNING|None|n1"'
    done = submit(checkout, tmp_path, "cancel", name, squeue=asked, scancel=f'echo "$@" >>{tmp_path}/asked')
    assert f"sweep --continue {sweep_of(tmp_path).name} --to lab" in done.stdout, done.stderr
    assert "--jobs=42_2" in (tmp_path / "asked").read_text()
    assert (tmp_path / "asked").read_text().endswith("--signal=TERM 42_2\n")
    assert (tmp_path / "runs" / name / "submission" / "cancelled-42_2").exists()


def test_nothing_but_the_sweep_stays_if_slurm_rejects_its_job(checkout: Path, tmp_path: Path) -> None:
    done = submit(checkout, tmp_path, sbatch="echo no such account >&2; exit 1")
    assert (done.returncode, "no such account" in done.stderr) == (65, True), done.stderr
    assert sorted(path.name for path in (tmp_path / "runs").glob("[0-9]*")) == []
    assert submit(checkout, tmp_path).returncode == 0
    assert [path.name for path in (sweep_of(tmp_path) / "submissions").iterdir()] == ["1"]


def test_a_dry_run_prints_the_array_and_writes_nothing(checkout: Path, tmp_path: Path) -> None:
    (checkout / "two.toml").write_text("max_epochs = 2\n")
    words = ("sweep", "digits", "--seed", "1..3", "--settings", "two.toml", "--to", "lab", "--dry-run")
    done = submit(checkout, tmp_path, *words, sbatch='cat >/dev/null; echo "Job 1 to start at noon" >&2')
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --array=1-3\n" in done.stdout
    assert "/project/runs/sweeps/" in done.stdout
    assert "Job 1 to start at noon" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_no_file_has_the_value_of_a_secret(checkout: Path, tmp_path: Path) -> None:
    secret = {"REPRISE_STORE": "s3://lab/runs", "AWS_SECRET_ACCESS_KEY": HIDDEN}
    done = run(checkout, tmp_path, *WORDS, variables=secret, sbatch="echo 42", squeue="exit 0")
    assert done.returncode == 0, done.stderr
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert [path for path in written if b"AWS_SECRET_ACCESS_KEY" in path.read_bytes() and "submissions" in path.parts]
    assert not [path for path in written if HIDDEN.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("digits", "--seed", "1..3", "--to", "labb"), UsageError, "unknown site 'labb'"),
        (("digits", "--seed", "1..3", "--dry-run"), UsageError, "--dry-run prints a job, but no cluster is named"),
        (("--show", "latest", "--to", "lab"), UsageError, "--show only prints results: it cannot be used with --to"),
    ],
)
def test_options_that_contradict_are_rejected(
    runs: Path, words: tuple[str, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        main([*words])
    assert not runs.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--to", "pods"), 2, "submits to Slurm; site pods has the kind kubernetes"),
        (
            ("--to", "lab", "--accelerator", "gpu"),
            74,
            "this run needs 1 GPU on each machine; the site's machines have 0",
        ),
        (("--to", "lab", "--nodes", "2"), 41, "unknown setting --nodes"),
    ],
)
def test_wrong_words_are_rejected_before_anything_is_frozen(
    checkout: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    (checkout / "sites" / "pods.toml").write_text(PODS % ("a" * 64))
    done = submit(checkout, tmp_path, "sweep", "digits", "--seed", "1..3", *words)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert not (tmp_path / "runs").exists()


def test_noise_submits_its_seeds_as_a_sweep_and_measures_them_once_all_have_finished(
    checkout: Path, tmp_path: Path
) -> None:
    words = ("noise", "digits", "--seeds", "3", "--max-epochs", "2", "--to", "lab")
    shown = submit(checkout, tmp_path, *words, "--dry-run")
    assert "#SBATCH --array=1-3" in shown.stdout, shown.stderr
    assert not (tmp_path / "runs" / "sweeps").exists()
    done = submit(checkout, tmp_path, *words)
    assert "3 points as job 42" in done.stdout, done.stderr
    assert "once all seeds have finished, the same command measures the noise" in done.stderr
    assert [point["settings"]["seed"] for point in points_of(tmp_path)] == ["0", "1", "2"]
    for number in range(3):
        finish(tmp_path, number, loss=0.5 + number / 10, seed=number)
    measured = submit(checkout, tmp_path, *words, sbatch="exit 9")
    assert measured.returncode == 0, measured.stderr
    assert "noise of digits: 3 seeds" in measured.stdout
    [kept] = (tmp_path / "runs" / "noise").iterdir()
    assert json.loads(kept.read_bytes())["metrics"] == {"val_loss": [0.5, 0.6, 0.7]}


def test_noise_rejects_runs_of_a_site_that_differ_in_more_than_the_seed(checkout: Path, tmp_path: Path) -> None:
    words = ("noise", "digits", "--seeds", "3", "--to", "lab")
    assert submit(checkout, tmp_path, *words).returncode == 0
    for number in range(3):
        finish(tmp_path, number, seed=number, learning_rate=0.1 * (number + 1))
    done = submit(checkout, tmp_path, *words)
    assert (done.returncode, "differ in more than the seed: setting learning_rate" in done.stderr) == (
        RunError.code,
        True,
    ), done.stderr
    assert "reprise sweep digits --seed 0..2 --again --to lab" in done.stderr
