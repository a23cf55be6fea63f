"""Submitting a run to Slurm, with shell scripts in place of its programs: what the user types and sees."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.sites.plans import DIGEST, programs
from trainer.base.digest import digest_of_bytes
from trainer.source.capture import take_placed_source

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).parents[2]
SITE: Final = 'kind = "slurm"\nruntime = "docker"\ncache = "/var/cache/reprise"\npartition = "gpu"\n'
DOTENV: Final = (
    f"REPRISE_ENVIRONMENT=cpu\nREPRISE_IMAGE=localhost/reprise/cpu@{DIGEST}\nREPRISE_BUILD_ID={digest_of_bytes(b'x')}\n"
)
HIDDEN: Final = "hidden-one"
WORDS: Final = ("submit", "digits", "--to", "lab", "--nodes", "2", "--devices", "2", "--learning-rate", "1e-4")

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small checkout with a site."""
    root = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("trainer", "datasets", "environments"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, root / name)
    (root / "sites").mkdir()
    (root / "sites" / "lab.toml").write_text(SITE)
    (root / ".env").write_text(DOTENV)
    return root


def run(checkout: Path, tmp_path: Path, *words: str, variables: Mapping[str, str] | None = None, **texts: str) -> Any:
    """Run a command with shell scripts as Slurm's programs, whose code is in `texts`; its runs are in the test's folder."""
    environ = {name: text for name, text in programs(tmp_path / "bin", **texts).items() if "REPRISE" not in name}
    environ |= {"PYTHONPATH": str(checkout), "REPRISE_RUNS": str(tmp_path / "runs"), **(variables or {})}
    command = [sys.executable, "-P", "-m", "trainer", *words]
    return subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)


def submit(checkout: Path, tmp_path: Path, *words: str, **variables: str) -> Path:
    """Submit a run as job 42; return its folder."""
    done = run(checkout, tmp_path, *WORDS, *words, sbatch="echo 42", variables=variables)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "runs").iterdir()
    assert done.stdout.startswith(f"run {folder.name}: job 42; its folder, {folder}, must be on a file system")
    return folder


def test_a_run_is_submitted_with_its_source_and_the_same_words_each_time(checkout: Path, tmp_path: Path) -> None:
    folder = submit(checkout, tmp_path, REPRISE_SETTING_SEED="3", REPRISE_STORE=str(tmp_path))
    plan = json.loads((folder / "submission" / "plan.json").read_text())
    typed = ["--exp=digits", "--devices", "2", "--learning-rate", "1e-4"]
    assert plan["words"] == ["train", "--resume-or-begin", folder.name, *typed]
    assert (plan["run"], plan["nodes"], plan["devices"]) == (folder.name, 2, 2)
    assert (plan["variables"]["REPRISE_SETTING_SEED"], plan["variables"]["REPRISE_STORE"]) == ("3", str(tmp_path))
    assert f"--volume={tmp_path}:{tmp_path}" in (folder / "submission" / "node").read_text()
    assert "#SBATCH --partition=gpu" in (folder / "submission" / "job.sbatch").read_text()
    inode = (folder / "source").stat().st_ino
    bundle = take_placed_source(folder)
    assert bundle is not None
    assert bundle.digest == plan["source"]
    assert (folder / "source").stat().st_ino == inode, "the machines have mounted it"


def test_the_value_of_a_secret_is_in_no_file(checkout: Path, tmp_path: Path) -> None:
    folder = submit(checkout, tmp_path, REPRISE_STORE="s3://lab/runs", AWS_SECRET_ACCESS_KEY=HIDDEN)
    plan = json.loads((folder / "submission" / "plan.json").read_text())
    assert plan["secrets"] == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
    assert not [path for path in (folder / "submission").iterdir() if HIDDEN.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--learning-rat", "1"), 41, "unknown setting --learning-rat"),
        (("--nodes", "3"), 41, "which 3 machines cannot share equally"),
        (("--accelerator", "gpu"), 74, "this run needs 1 GPU on each machine; the site's machines have 0"),
    ],
)
def test_wrong_words_are_rejected_before_a_job_waits(
    checkout: Path, tmp_path: Path, words: tuple[str, str], code: int, message: str
) -> None:
    kept = [
        *WORDS[:2],
        *(word for pair in zip(WORDS[2::2], WORDS[3::2], strict=True) if pair[0] != words[0] for word in pair),
    ]
    done = run(checkout, tmp_path, *kept, *words, sbatch="echo 42")
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_nothing_stays_of_a_job_that_slurm_rejects(checkout: Path, tmp_path: Path) -> None:
    done = run(
        checkout,
        tmp_path,
        *WORDS,
        sbatch='echo "sbatch: error: Batch job submission failed: no such account" >&2; exit 1',
    )
    assert (done.returncode, "no such account" in done.stderr) == (65, True), done.stderr
    assert [*(tmp_path / "runs").iterdir()] == []


def test_a_dry_run_prints_the_job_and_submits_nothing(checkout: Path, tmp_path: Path) -> None:
    sbatch = '[ "$1" = --test-only ] || exit 9; cat >/dev/null; echo "sbatch: Job 1 to start at noon" >&2'
    done = run(checkout, tmp_path, *WORDS, "--dry-run", sbatch=sbatch)
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --nodes=2" in done.stdout
    assert "docker run --rm" in done.stdout
    assert "Job 1 to start at noon" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "expected", "devices"),
    [
        (("rerun", "digits", "--steps", "8"), ["rerun", "digits", "--max-steps", "8"], 1),
        (("resume", "digits", "--steps", "8", "--kill-after", "3"), ["resume", "digits", "--max-steps", "8", "--kill-after=3"], 1),
        (("elastic", "digits", "--shards", "2"), ["elastic", "digits", "--shards", "2"], 2),
    ],
)  # fmt: skip
def test_a_certificate_is_a_job_whose_first_training_is_the_run(
    checkout: Path, tmp_path: Path, words: tuple[str, ...], expected: list[str], devices: int
) -> None:
    done = run(checkout, tmp_path, "certify", *words, "--to", "lab", sbatch="echo 42")
    [folder] = (tmp_path / "runs").iterdir()
    assert done.stdout.startswith(f"run {folder.name}: job 42; "), done.stderr
    plan = json.loads((folder / "submission" / "plan.json").read_text())
    assert plan["words"] == ["certify", *expected, f"--first-run={folder.name}"]
    assert (plan["nodes"], plan["devices"]) == (1, devices)


def test_a_certificate_of_a_job_has_no_private_key(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, tmp_path, "certify", "rerun", "digits", "--to", "lab", "--key", "key.pem", sbatch="exit 9")
    assert (done.returncode, "a job must not have a private key" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "runs").exists()
