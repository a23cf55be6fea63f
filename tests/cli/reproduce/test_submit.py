"""Submitting the rerun of a run to Slurm, with shell scripts in place of its programs: what the user types and sees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cli.sweep.test_submit import PODS
from tests.cli.test_submit import checkout, run
from tests.records import circumstances, ingredients
from tests.sites.plans import DIGEST
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import UsageError
from trainer.cli.reproduce import main
from trainer.runs.open_run import open_run
from trainer.runs.record import Device, Image, Knowledge, Outcome, RunStatus
from trainer.runs.register import register_attempt
from trainer.runs.run import new_run
from trainer.source.capture import freeze

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["checkout"]

pytestmark = pytest.mark.host
REFERENCE: Final = f"registry.example/team/cpu@{DIGEST}"
OTHER: Final = f"registry.example/team/cpu@{digest_of_bytes(b'other')}"


def recorded(tmp_path: Path, *, own: bool = True, status: RunStatus = RunStatus.COMPLETED, **changed: Any) -> str:
    """Write a run into the folder of runs; return its ID."""
    source = tmp_path / "recorded"
    source.mkdir()
    (source / "code.py").write_text("x = 1\n")
    _, folder = new_run(tmp_path / "runs")
    bundle = freeze(source, folder)
    image = Image(
        known=Knowledge.VERIFIED,
        environment="cpu",
        reference=REFERENCE,
        manifest=DIGEST,
        build_id=digest_of_bytes(b"build"),
    )
    around = circumstances(**{"image": image, **changed.pop("around", {})})
    opened = open_run(folder, ingredients=ingredients(source=bundle.digest, **changed), circumstances=around)
    opened.close(Outcome(status=status, metrics={"test_accuracy": 0.5}, steps=10))
    if own:
        register_attempt(opened.folder)
    return folder.name


def reproduce(checkout: Path, tmp_path: Path, *words: str, **texts: str) -> Any:
    return run(checkout, tmp_path, "reproduce", *words, variables={}, **{"sbatch": "echo 42", **texts})


def test_the_job_types_the_command_itself_in_the_recorded_image(checkout: Path, tmp_path: Path) -> None:
    name = recorded(tmp_path)
    done = reproduce(checkout, tmp_path, name, "--to", "lab", "--deep")
    assert done.returncode == 0, done.stderr
    [new] = [path for path in (tmp_path / "runs").glob("[0-9]*") if path.name != name]
    assert done.stdout.startswith(f"run {new.name}, a rerun of {name}: job 42; its folder, {new}, must be")
    plan = json.loads((new / "submission" / "plan.json").read_text())
    assert plan["words"] == ["reproduce", name, "--resume-or-begin", new.name, "--deep"]
    assert plan["image"] == plan["variables"]["REPRISE_IMAGE"] == REFERENCE
    assert plan["variables"]["REPRISE_IMAGE_LAYERS"] == digest_of_bytes(b"layer")
    assert (new / "submission" / "source" / "trainer" / "cli" / "reproduce" / "__init__.py").is_file()
    assert not (new / "source").exists(), "the rerun takes the recorded source"
    assert json.loads((new / "submission" / "submission.json").read_text())["job"] == "42"


def test_a_dry_run_prints_the_job_of_a_rerun_and_writes_nothing(checkout: Path, tmp_path: Path) -> None:
    name = recorded(tmp_path)
    done = reproduce(checkout, tmp_path, name, "--to", "lab", "--dry-run", sbatch='cat >/dev/null; echo "at noon" >&2')
    assert (done.returncode, "at noon" in done.stderr) == (0, True), done.stderr
    assert f"words=(reproduce {name} --resume-or-begin " in done.stdout
    assert [path.name for path in (tmp_path / "runs").glob("[0-9]*")] == [name]


def test_nothing_stays_of_a_rerun_that_slurm_rejects(checkout: Path, tmp_path: Path) -> None:
    name = recorded(tmp_path)
    done = reproduce(checkout, tmp_path, name, "--to", "lab", sbatch="echo no such account >&2; exit 1")
    assert (done.returncode, "no such account" in done.stderr) == (65, True), done.stderr
    assert [path.name for path in (tmp_path / "runs").glob("[0-9]*")] == [name]


def test_code_of_another_user_is_submitted_only_with_the_access_that_it_has_in_a_job(
    checkout: Path, tmp_path: Path
) -> None:
    name = recorded(tmp_path, own=False)
    for words in ((), ("--trust",)):
        done = reproduce(checkout, tmp_path, name, "--to", "lab", *words)
        assert (done.returncode, "--trust --grant machine" in done.stderr) == (85, True), done.stderr
    done = reproduce(checkout, tmp_path, name, "--to", "lab", "--trust", "--grant", "machine", "--dry-run")
    assert (done.returncode, "--trust --grant=machine)" in done.stdout) == (0, True), done.stderr


def test_a_site_with_another_image_than_the_recorded_one_is_rejected(checkout: Path, tmp_path: Path) -> None:
    site = (checkout / "sites" / "lab.toml").read_text()
    (checkout / "sites" / "other.toml").write_text(f'{site}image = "{OTHER}"\n')
    (checkout / "sites" / "copy.toml").write_text(f'{site}image = "mirror.example/cpu@{DIGEST}"\n')
    name = recorded(tmp_path)
    done = reproduce(checkout, tmp_path, name, "--to", "other")
    assert (done.returncode, f"ran in {REFERENCE}; the site's image is {OTHER}" in done.stderr) == (86, True), (
        done.stderr
    )
    done = reproduce(checkout, tmp_path, name, "--to", "copy", "--dry-run")
    assert (done.returncode, f"image=mirror.example/cpu@{DIGEST}" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"status": RunStatus.PREEMPTED}, 30, "so it has no result to compare with"),
        ({"layers": None}, 84, "does not identify the image in which it ran"),
        (
            {"device": Device(accelerator="cuda", world_size=1, precision="32-true")},
            74,
            "this run needs 1 GPU on each machine; the site's machines have 0",
        ),
    ],
)
def test_a_run_that_the_site_cannot_rerun_is_rejected(
    checkout: Path, tmp_path: Path, changed: dict[str, Any], code: int, message: str
) -> None:
    done = reproduce(checkout, tmp_path, recorded(tmp_path, **changed), "--to", "lab")
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "labb"), "unknown site 'labb'"),
        (("--dry-run",), "--dry-run prints a job, but no cluster is named"),
        (("--to", "lab", "--no-container"), "found --no-container with --to"),
        (("--to", "lab", "--chain"), "--chain with --to"),
        (("--to", "lab", "--resume-or-begin", "20260301t120005-abcdef"), "found --resume-or-begin with --to"),
        (("--chain", "--resume-or-begin", "20260301t120005-abcdef"), "--chain with --resume-or-begin"),
    ],
)
def test_options_that_contradict_are_rejected(runs: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(["latest", *words])
    assert not runs.exists()


def test_another_kind_of_cluster_is_rejected_by_name(checkout: Path, tmp_path: Path) -> None:
    (checkout / "sites" / "pods.toml").write_text(PODS % ("a" * 64))
    done = reproduce(checkout, tmp_path, "latest", "--to", "pods")
    assert done.returncode == UsageError.code
    assert "submits to Slurm; site pods has the kind kubernetes" in done.stderr
    assert "-> reproduce on a machine with Docker" in done.stderr
