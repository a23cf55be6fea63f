"""The scripts of an array job and of a rerun, with shell scripts in place of Slurm and the engine."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sites.plans import IMAGE, RUN, SWEEP, certificate_plan, programs, rerun_plan, site, sweep_plan
from trainer.sites.plan import PlannedPoint
from trainer.sites.slurm import JOB, SUBMISSIONS, job_files

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = """it's "$(touch stolen)" `touch stolen`; touch stolen & $HOME\n* ~ \\ #"""
DOCKER = """
case "$1 $2" in
    "image inspect") [ "$3" != --format ] || printf '%s' "$4" ;;
    run*) printf '%s\\0' "$@" >"$OUT/words"; exit "${CODE:-0}" ;;
esac"""
SRUN = 'while [ "${1#--}" != "$1" ]; do shift; done; SLURM_NODEID=0 "$@"'


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Return the folder of a sweep, with its second submission and the folders of its runs."""
    folder = tmp_path / "my runs" / "sweeps" / SWEEP
    place = folder / SUBMISSIONS / "2"
    place.mkdir(parents=True)
    (folder / "source.tar.gz").write_text("the source")
    (place / "captured.json").write_text("{}")
    points = [PlannedPoint(number=2, run=RUN, words=[HOSTILE]), PlannedPoint(number=4, run=f"{RUN[:-1]}g", words=[])]
    files = job_files(sweep_plan(points=points), site(cache=str(tmp_path / "cache")), folder=folder, number=2)
    for name, text in files.items():
        (place / name).write_text(text)
    for point in points:
        (folder.parents[1] / point.run / "submission").mkdir(parents=True)
    return folder


def run_task(sweep: Path, tmp_path: Path, task: int, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a task of array job 7; the task's own job number is 9."""
    texts = {"srun": SRUN, "docker": DOCKER, "sleep": "exit 0", "scontrol": f'echo "$@" >>{tmp_path}/asked'}
    environ = programs(tmp_path / "bin", **texts)
    environ |= {"OUT": str(tmp_path), "CODE": str(code), "SLURM_JOB_ID": "9", "SLURM_JOB_NODELIST": "n1"}
    environ |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task)}
    script = sweep / SUBMISSIONS / "2" / JOB
    return subprocess.run(["bash", script], env=environ, capture_output=True, text=True, check=False, cwd=tmp_path)


def test_a_task_trains_its_point_with_the_words_of_the_sweep(sweep: Path, tmp_path: Path) -> None:
    done = run_task(sweep, tmp_path, 2)
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "words").read_text().split("\0")[:-1]
    expected = ["train", "--exp=digits", "--max-epochs=3", f"--resume-or-begin={RUN}", HOSTILE]
    assert words[words.index(IMAGE) + 1 :] == expected
    runs = sweep.parents[1]
    assert {f"{sweep}/source:/project:ro", f"{runs}:/project/runs", f"reprise-{RUN}-0"} <= {*words}
    assert f'"container":"reprise-{RUN}-0"' in (runs / RUN / "image-seen.json").read_text()
    assert [(runs / RUN / name).read_text() for name in ("source.tar.gz", "captured.json")] == ["the source", "{}"]
    assert (runs / RUN / "submission" / "ended-7_2-0").read_text() == "0\n"
    assert not [*tmp_path.rglob("stolen")]


def test_only_the_stopped_task_is_requeued_and_not_the_whole_array(sweep: Path, tmp_path: Path) -> None:
    assert run_task(sweep, tmp_path, 2, code=75).returncode == 75
    assert (tmp_path / "asked").read_text() == "requeue 7_2\n"
    (sweep.parents[1] / RUN / "submission" / "cancelled-7_2").touch()
    assert run_task(sweep, tmp_path, 2, code=75).returncode == 75
    assert (tmp_path / "asked").read_text() == "requeue 7_2\n", "a cancelled point is not requeued"


def test_a_task_that_is_no_point_ends_with_a_named_error(sweep: Path, tmp_path: Path) -> None:
    done = run_task(sweep, tmp_path, 3)
    assert (done.returncode, "this sweep has no point 3" in done.stderr) == (1, True)


def test_a_rerun_has_the_project_that_compares_and_places_no_source(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN
    (folder / "submission").mkdir(parents=True)
    files = job_files(rerun_plan(), site(cache=str(tmp_path / "cache")), folder=folder)
    for name, text in files.items():
        (folder / "submission" / name).write_text(text)
    environ = programs(tmp_path / "bin", srun=SRUN, docker=DOCKER, sleep="exit 0")
    environ |= {"OUT": str(tmp_path), "CODE": "11", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}
    done = subprocess.run(["bash", folder / "submission" / JOB], env=environ, capture_output=True, check=False)
    words = (tmp_path / "words").read_text().split("\0")[:-1]
    assert (done.returncode, f"{folder}/submission/source:/project:ro" in words) == (11, True)
    assert words[words.index(IMAGE) + 1 :] == ["reproduce", "20260228t100000-qwerty", "--resume-or-begin", RUN]
    assert sorted(path.name for path in folder.iterdir()) == ["submission"]


def test_a_certificate_has_the_source_of_its_first_run_and_is_not_requeued(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN
    (folder / "submission").mkdir(parents=True)
    files = job_files(certificate_plan(), site(cache=str(tmp_path / "cache")), folder=folder)
    for name, text in {**files, "captured.json": "{}"}.items():
        (folder / "submission" / name).write_text(text)
    environ = programs(tmp_path / "bin", srun=SRUN, docker=DOCKER, sleep="exit 0")
    environ |= {"OUT": str(tmp_path), "CODE": "20", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}
    done = subprocess.run(["bash", folder / "submission" / JOB], env=environ, capture_output=True, check=False)
    words = (tmp_path / "words").read_text().split("\0")[:-1]
    assert (done.returncode, f"{folder}/source:/project:ro" in words) == (20, True)
    assert words[words.index(IMAGE) + 1 :] == ["certify", "rerun", "digits", "--max-steps=8", f"--first-run={RUN}"]
    assert "--env=REPRISE_WATCHED_RUN" not in words, "the container trains several runs"
    assert (folder / "captured.json").read_text() == "{}"
    assert "#SBATCH --no-requeue" in files[JOB]
