"""Typical scripts, run by the command: recorded, rerun, compared, killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import pytest

from trainer.runs.record import RunStatus
from trainer.runs.run import load_record

if TYPE_CHECKING:
    import subprocess

    from tests.training.conftest import Checkout
    from trainer.runs.record import Record

pytestmark = [pytest.mark.torch, pytest.mark.trains]
PROGRAMS: Final = Path(__file__).parent / "programs"
SCRIPT: Final = ("train", "--script", "old/train.py", "--no-publish")


@pytest.fixture(scope="module")
def team(checkout: Checkout) -> Checkout:
    """Return the checkout with a team's scripts in the folder `old`."""
    if not (checkout.root / "old").exists():
        shutil.copytree(PROGRAMS, checkout.root / "old", ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


def newest_run(checkout: Checkout) -> Path:
    return max((checkout.root / "runs").glob("2*"), key=lambda path: path.stat().st_ctime_ns)


def run(checkout: Checkout, *arguments: str, options: tuple[str, ...] = (), code: int = 0) -> tuple[Path, Record, str]:
    """Run the script; return the attempt's folder, the record and the command's stderr."""
    done = checkout.reprise(*SCRIPT, *options, "--", *arguments)
    assert done.returncode == code, done.stderr
    attempt = newest_run(checkout) / "attempts/1"
    return attempt, load_record(attempt / "record.json"), done.stderr


def test_outputs_results_and_limits_are_recorded(team: Checkout) -> None:
    attempt, record, printed = run(team, "--out", "{run}", "--lr", "0.1")
    assert record.ingredients.kind == "script"
    assert record.ingredients.settings["arguments"] == ["--out", "{run}", "--lr", "0.1"]
    assert sorted(record.outcome.metrics) == ["test_accuracy", "train_loss"]
    assert {"resume", "seed", "trace", "export"} <= record.circumstances.limits.keys()
    assert "network" not in record.circumstances.limits
    assert json.loads((attempt / "output/args.json").read_text())["lr"] == 0.1
    table = json.loads((attempt / "outputs.json").read_text())["outputs"]
    assert {name: each["form"] for name, each in table.items()} == {
        "args.json": "bytes",
        "last.pt": "archive",
        "metrics.csv": "bytes",
        "tensorboard/events.out.tfevents.*": "scalars",
    }
    assert "epoch 2: loss" in printed
    assert "epoch 2: loss" in (attempt / "log.txt").read_text()
    assert [json.loads(line)["step"] for line in (attempt / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2]


def test_a_rerun_of_a_seeded_script_is_identical(team: Checkout) -> None:
    attempt, _, _ = run(team, "--out", "{run}")
    done = team.reprise("reproduce", attempt.parents[1].name, "--no-container", "--allow-drift")
    assert done.returncode == 0, done.stdout
    assert "identical: outputs and all result metrics (2) are equal bit for bit" in done.stdout
    assert "all 4 are equal" in done.stdout


def test_a_rerun_without_a_seed_is_different_and_shows_where(team: Checkout) -> None:
    attempt, _, _ = run(team, "--out", "{run}", "--seed", "-1")
    done = team.reprise("reproduce", attempt.parents[1].name, "--no-container", "--allow-drift")
    assert done.returncode == 20, done.stdout
    assert "step 0 of the logged results" in done.stdout
    assert "metrics.csv" in done.stdout
    assert "line 2: '0," in done.stdout


@pytest.mark.long
def test_results_within_declared_tolerances_are_so(team: Checkout) -> None:
    options = ("--tolerances", "{train_loss = 10, test_accuracy = 1}", "--exclude", '["*.pt"]')
    a, _, _ = run(team, "--out", "{run}", "--seed", "-1", options=options)
    b, _, _ = run(team, "--out", "{run}", "--seed", "-1", options=options)
    assert team.reprise("compare", a.parents[1].name, b.parents[1].name).returncode == 10


@pytest.mark.long
def test_files_of_the_working_folder_are_outputs(team: Checkout) -> None:
    attempt, record, _ = run(team, "--out", "results/of/today", "--epochs", "1")
    assert (attempt / "output/results/of/today/last.pt").is_file()
    assert not (attempt.parents[1] / "source/results/of/today/last.pt").exists()
    assert record.outcome.metrics


def test_a_dataset_reaches_a_script_as_a_folder(team: Checkout) -> None:
    done = team.reprise("train", "--script", "old/list.sh", "--no-publish", "--", "{dataset:dots}")
    assert done.returncode == 0, done.stderr
    attempt = newest_run(team) / "attempts/1"
    record = load_record(attempt / "record.json")
    assert list(record.ingredients.datasets) == ["dots"]
    assert (attempt / "output/listing.txt").read_text().strip()
    unknown = team.reprise("train", "--script", "old/list.sh", "--", "{dataset:dotz}")
    assert unknown.returncode != 0
    assert "did you mean dots?" in unknown.stderr


def test_a_failure_is_recorded_with_its_last_line(team: Checkout) -> None:
    attempt, record, printed = run(team, "--out", "{run}", "--crash", code=82)
    assert record.outcome.status is RunStatus.FAILED
    assert record.outcome.reason == "train.py ended with exit status 1"
    assert "-> RuntimeError: the disk of the cluster is gone" in printed
    assert (attempt / "output/last.pt").is_file()
    assert "Traceback" in (attempt / "log.txt").read_text()


def start_until_first_epoch(checkout: Checkout) -> tuple[subprocess.Popen[str], Path]:
    before = {*(checkout.root / "runs").iterdir()}
    process = checkout.start("--script", "old/train.py", "--no-publish", "--", "--out", "{run}", "--sleep", "30")
    deadline = monotonic() + 100
    while monotonic() < deadline and process.poll() is None:
        new = [path for path in (checkout.root / "runs").glob("2*") if path not in before]
        if new and (new[0] / "attempts/1/output/last.pt").exists():
            return process, new[0]
        sleep(0.01)
    process.kill()
    raise AssertionError(process.communicate()[1])


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (signal.SIGTERM, 143, "the run was stopped by SIGTERM; train.py was ended by SIGTERM"),
        pytest.param(
            signal.SIGINT,
            130,
            "the run was stopped by Ctrl-C; train.py was ended by SIGINT",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_signal_reaches_the_script_and_is_recorded(team: Checkout, number: int, code: int, reason: str) -> None:
    process, folder = start_until_first_epoch(team)
    os.kill(process.pid, number)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == code, printed
    record = load_record(folder / "attempts/1/record.json")
    assert (record.outcome.status, record.outcome.reason) == (RunStatus.INTERRUPTED, reason)
    assert "last.pt" in (folder / "attempts/1/outputs.json").read_text()
    assert "--resume" not in printed


def test_a_killed_run_leaves_no_process_and_cannot_be_resumed(team: Checkout) -> None:
    process, folder = start_until_first_epoch(team)
    children = children_of(process.pid)
    process.kill()
    process.communicate(timeout=60)
    deadline = monotonic() + 10
    while any(map(is_running, children)) and monotonic() < deadline:
        sleep(0.05)
    assert not any(map(is_running, children))
    resumed = team.reprise("train", "--resume", folder.name)
    assert resumed.returncode != 0
    assert "it cannot be resumed" in resumed.stderr
    assert "reprise train --script old/train.py" in resumed.stderr
    assert load_record(folder / "attempts/1/record.json").outcome.status is RunStatus.INTERRUPTED


BEYOND: Final = """
import os, socket, tempfile
open("/etc/hostname").read()
open({own!r}).read()
with tempfile.TemporaryDirectory() as folder:
    open(f"{{folder}}/deleted", "w").write("1")
    open(f"{{folder}}/deleted").read()
open({lost!r}, "w").write("lost")
s = socket.socket()
s.settimeout(0.01)
try:
    s.connect(("192.0.2.1", 80))
except OSError:
    pass
out = os.environ["REPRISE_OUTPUT"]
open(f"{{out}}/last.pt", "w").write("1")
os.symlink("last.pt", f"{{out}}/best.pt")
os.mkfifo(f"{{out}}/pipe")
"""


def test_unrecorded_reads_writes_and_connections_of_a_script_are_reported(team: Checkout, tmp_path: Path) -> None:
    own, lost = tmp_path / "own.csv", tmp_path / "lost.txt"
    own.write_text("1,2")
    (team.root / "old/beyond.py").write_text(BEYOND.format(own=str(own), lost=str(lost)))
    done = team.reprise("train", "--script", "old/beyond.py", "--no-publish")
    assert done.returncode == 0, done.stderr
    limits = load_record(newest_run(team) / "attempts/1/record.json").circumstances.limits
    assert limits["network"] == "the script connected to 192.0.2.1:80: the received data are not recorded"
    assert limits["reads"].startswith("the script read /etc/hostname and 1 more, which is neither source nor a dataset")
    assert limits["writes"] == f"the script wrote {lost}, outside of {{run}}: it is not kept"
    assert limits["links"].startswith("the script's outputs hold best.pt and 1 more, a link or a special file")
    assert "not guaranteed: writes" in done.stderr


def test_runs_without_anything_to_compare_are_not_identical(team: Checkout, tmp_path: Path) -> None:
    runs = []
    for seed in ("1", "2"):
        done = team.reprise(*SCRIPT, "--", "--epochs", "1", "--out", str(tmp_path / seed), "--seed", seed)
        assert done.returncode == 0, done.stderr
        runs.append(newest_run(team).name)
    compared = team.reprise("compare", *runs)
    assert compared.returncode == 30
    assert "neither outputs that are compared nor result metrics" in compared.stdout


def test_a_results_file_in_each_of_several_folders_is_a_limit(team: Checkout) -> None:
    (team.root / "folds.py").write_text(
        "import pathlib, sys\n"
        "for fold in ('fold0', 'fold1'):\n"
        "    folder = pathlib.Path(sys.argv[1]) / fold\n"
        "    folder.mkdir()\n"
        "    (folder / 'metrics.csv').write_text(f'step,score\\n1,0.{fold[-1]}\\n')\n"
        "(folder.parent / 'metrics.csv').symlink_to('fold1/metrics.csv')\n"
    )
    code, _, err = team.train("--script", "folds.py", "--no-publish", "--", "{run}")
    assert code == 0, err
    record = team.last()[1]
    assert record.outcome.metrics == {"score": 0.0}
    limit = "only fold0/metrics.csv was read, not fold1/metrics.csv: --results FILE names another file"
    assert record.circumstances.limits["results"] == limit


@pytest.mark.long
def test_commands_that_need_a_net_reject_a_script(team: Checkout) -> None:
    attempt, _, _ = run(team, "--out", "{run}", "--epochs", "1")
    explained = team.reprise("why", attempt.parents[1].name, attempt.parents[1].name, "--no-container")
    assert explained.returncode == 2
    assert "ran a script, which has no trace of its steps" in explained.stderr
    checked = team.reprise("check", "old/nets.py")
    assert "--script FILE runs a script" in checked.stderr


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        (
            "metric.csv",
            "the script did not write metric.csv, which --results names; it wrote args.json, last.pt, metrics.csv, tensorboard/",
        ),
        ("last.pt", "last.pt"),
    ],
)
def test_results_that_cannot_be_read_are_a_limit_of_a_completed_run(team: Checkout, name: str, limit: str) -> None:
    attempt, record, printed = run(team, "--out", "{run}", "--epochs", "1", options=("--results", name))
    assert (record.outcome.status, record.outcome.metrics) == (RunStatus.COMPLETED, {})
    assert record.outcome.outputs
    assert record.circumstances.limits["results"].startswith(limit)
    assert f"not guaranteed: results: {limit}" in printed
    assert "results: " in team.reprise("runs", "show", attempt.parents[1].name).stdout
    if name == "metric.csv":
        assert "did you mean metrics.csv?" in printed


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--script", "old/trian.py"], "script old/trian.py is not a file", "did you mean old/train.py?"),
        (["--script"], "train needs a file: --script FILE", "write --script FILE -- ARGUMENTS"),
        (
            ["--script", "old/train.py", "--exp", "dots.py"],
            "--exp cannot be used with --script",
            "remove --exp or --script",
        ),
        (["--exp", "dots.py", "--", "--lr", "1"], "found -- without --script", "write --script FILE -- ARGUMENTS"),
        (
            ["--script", "old/train.py", "--lr", "1"],
            "unknown setting --lr",
            "arguments after --: --script FILE -- --lr",
        ),
        (
            ["--script", "old/train.py", "--", "--out", "{runs}"],
            "'{runs}' contains {runs}, which is not a placeholder",
            "did you mean {run}?",
        ),
        (["--script", "old/train.py", "--devices", "2"], "a script starts its own processes", "omit --devices"),
        (["--script", "old/train.py", "--shards", "2"], "a script starts its own processes", "omit --shards"),
        (["--script", "old/notes.txt"], "script old/notes.txt is not a program", "chmod +x old/notes.txt"),
        (
            ["--script", "old/train.py", "--results", "/mnt/metrics.csv"],
            "setting results is '/mnt/metrics.csv': an absolute path",
            "write --results metrics.csv",
        ),
        (
            ["--script", "old/train.py", "--results", "{run}/deep/metrics.csv"],
            "setting results is '{run}/deep/metrics.csv': it begins with {run}",
            "write --results deep/metrics.csv",
        ),
    ],
)
def test_wrong_words_are_one_sentence_and_a_hint(team: Checkout, words: list[str], message: str, hint: str) -> None:
    (team.root / "old/notes.txt").write_text("no program")
    done: Any = team.reprise("train", "--no-publish", *words)
    assert done.returncode not in {0, 1}, done.stderr
    assert message in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
