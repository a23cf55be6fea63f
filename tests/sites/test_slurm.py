"""The files of Slurm jobs, compared with golden files, and the scripts' behavior, with shell scripts in place of Slurm and the engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sites.plans import IMAGE, RUN, SWEEP, certificate_plan, plan, programs, rerun_plan, site, sweep_plan
from trainer.base.errors import UsageError
from trainer.sites.plan import PlannedPoint
from trainer.sites.slurm import JOB, NODE, job_files

GOLDEN = Path(__file__).with_name("golden")
RUNTIMES = ("docker", "podman", "apptainer", "pyxis")
HOSTILE = """it's "$(touch stolen)" `touch stolen`; touch stolen & $HOME\n* ~ \\ #"""
DOCKER = """
case "$1 $2" in
    "image inspect") [ "$3" != --format ] || echo '{"seen": true}' ;;
    run*) printf '%s\\0' "$@" >"$OUT/words"; env -0 >"$OUT/environment"; exit "${CODE:-0}" ;;
esac"""
SRUN = """
while [ "${1#--}" != "$1" ]; do shift; done
for node in 0 1; do SLURM_NODEID=$node "$@" & done
wait -n; first=$?; wait -n; second=$?
exit $((first > second ? first : second))"""


@pytest.mark.parametrize("kind", ["", "sweep-", "rerun-", "certificate-"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_text_of_a_job_is_the_golden_one(runtime: str, kind: str) -> None:
    plans = {"": plan, "sweep-": sweep_plan, "rerun-": rerun_plan, "certificate-": certificate_plan}
    planned = plans[kind]()
    folder = Path("/shared/runs") / (f"sweeps/{SWEEP}" if kind == "sweep-" else RUN)
    declared = site(
        runtime,
        partition="gpu",
        account="vision",
        time="8:00:00",
        cpus=8,
        memory="64G",
        shm="512",
        gpus=1,
        pass_on=("NCCL_SOCKET_IFNAME",),
        mounts=("/data/my files",),
        options=("--label=a b",),
        lines=("#SBATCH --constraint=a100", "export NCCL_SOCKET_IFNAME=ib0"),
    )
    for name, text in job_files(planned, declared, folder=folder, number=3).items():
        assert text == (GOLDEN / f"{kind}{runtime}-{name}").read_text(), name


def test_one_machine_meets_no_other() -> None:
    files = job_files(plan(nodes=1), site("docker"), folder=Path("/shared/runs") / RUN)
    assert not [text for text in files.values() if "REPRISE_MAIN_ADDRESS" in text or "REPRISE_NODES" in text]


@pytest.mark.parametrize("character", [":", ",", "\n", "\\"])
def test_a_folder_that_cannot_be_mounted_is_rejected(character: str) -> None:
    with pytest.raises(UsageError, match="a mount of a container cannot have"):
        job_files(plan(), site("docker"), folder=Path(f"/shared{character}runs") / RUN)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("is_sweep", [False, True])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_hostile_names_leave_the_scripts_clean(runtime: str, tmp_path: Path, *, is_sweep: bool) -> None:
    points = [PlannedPoint(number=1, run=RUN, words=[HOSTILE])] if is_sweep else []
    names = plan(words=["train", HOSTILE], variables={"REPRISE_SETTING_NAME": HOSTILE}, points=points, nodes=1)
    declared = site(
        runtime, cache="/var/it's $(x)", mounts=("/data/`x`",), options=(HOSTILE.replace("\n", " "),), gpus=2
    )
    for name, text in job_files(names, declared, folder=Path("/shared/it's $(x) `y`/sweeps") / RUN).items():
        (tmp_path / name).write_text(text)
        subprocess.run(["bash", "-n", tmp_path / name], check=True)
        subprocess.run(["shellcheck", "--severity=warning", tmp_path / name], check=True)


def written(folder: Path, *, words: list[str], variables: dict[str, str]) -> Path:
    """Write a run's folder as `reprise submit` does, and return the folder of the run's job."""
    submission = folder / "submission"
    submission.mkdir(parents=True)
    (folder / "source.tar.gz").write_text("the source")
    (submission / "captured.json").write_text("{}")
    files = job_files(plan(words=words, variables=variables), site(cache=str(folder.parent / "cache")), folder=folder)
    for name, text in files.items():
        (submission / name).write_text(text)
    return submission


def run_node(submission: Path, tmp_path: Path, node: int, code: int = 0) -> tuple[int, list[str], dict[str, str]]:
    """Run the script of machine `node`; return its exit code, and the words and the environment of the engine's `run`."""
    environ = programs(tmp_path / "bin", docker=DOCKER)
    environ |= {"OUT": str(tmp_path), "CODE": str(code), "SLURM_NODEID": str(node), "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", submission / NODE], env=environ, check=False, cwd=tmp_path)
    values = (pair.partition("=") for pair in (tmp_path / "environment").read_text().split("\0"))
    words = (tmp_path / "words").read_text().split("\0")[:-1]
    return done.returncode, words, {name: value for name, _, value in values}


def test_hostile_words_and_variables_reach_the_container_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "my $(touch stolen) runs" / RUN
    submission = written(folder, words=["train", HOSTILE], variables={"REPRISE_SETTING_NAME": HOSTILE})
    code, words, environ = run_node(submission, tmp_path, 0)
    assert (code, words[-3:]) == (0, [IMAGE, "train", HOSTILE])
    assert environ["REPRISE_SETTING_NAME"] == HOSTILE
    assert {"--env=REPRISE_SETTING_NAME", "--env=AWS_ACCESS_KEY_ID", f"{folder}/source:/project:ro"} <= {*words}
    assert not [*tmp_path.rglob("stolen")]


def test_node_0_has_the_run_and_the_engines_word_about_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN
    submission = written(folder, words=["train"], variables={})
    (folder / "attempts" / "1").mkdir(parents=True)
    (folder / "image-seen.json").write_text("of attempt 1")
    code, words, environ = run_node(submission, tmp_path, 0, code=75)
    assert (code, (submission / "ended-7-0").read_text()) == (75, "75\n")
    assert f"{folder.parent}:/project/runs" in words
    assert environ["REPRISE_WATCHED_RUN"] == RUN
    assert json.loads((folder / "image-seen.json").read_text()) == {"seen": True}
    assert (folder / "attempts" / "1" / "image-seen.json").read_text() == "of attempt 1"
    assert (folder / "captured.json").read_text() == "{}"


def test_another_machine_has_the_source_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN
    submission = written(folder, words=["train"], variables={})
    code, words, environ = run_node(submission, tmp_path, 1, code=143)
    assert (code, [*submission.glob("ended-*")]) == (143, [])
    assert f"{folder.parent}:/project/runs" not in words
    assert environ["REPRISE_PREPARED_RUN"] == RUN
    assert "REPRISE_WATCHED_RUN" not in environ
    assert not (folder / "captured.json").exists()
    [runs] = [word.partition(":")[0] for word in words if word.endswith(":/project/runs")]
    assert not Path(runs).exists(), "it is removed at the end"


@pytest.mark.parametrize(
    ("codes", "is_cancelled", "code", "is_requeued"),
    [
        ((0, 0), False, 0, False),
        ((75, 143), False, 75, True),
        ((75, 143), True, 75, False),
        ((143, 143), False, 143, False),
        ((92, 75), False, 92, False),
        ((0, 75), False, 0, False),
    ],
)
def test_only_node_0_ending_with_75_requeues_the_job(
    tmp_path: Path, codes: tuple[int, int], *, is_cancelled: bool, code: int, is_requeued: bool
) -> None:
    submission = written(tmp_path / "runs" / RUN, words=["train"], variables={})
    texts = {
        "srun": SRUN,
        "docker": f'case "$1" in run) exit $([ "$SLURM_NODEID" = 0 ] && echo {codes[0]} || echo {codes[1]}) ;; esac',
        "scancel": "exit 0",
        "scontrol": f'[ "$1" = show ] && echo n1 || echo "$@" >>{tmp_path}/asked',
        "sleep": "exit 0",
    }
    environ = programs(tmp_path / "bin", **texts) | {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]"}
    if is_cancelled:
        (submission / "cancelled-7").touch()
    done = subprocess.run(["bash", submission / JOB], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 7\n" if is_requeued else "")


def test_machines_that_wait_for_a_failed_node_0_are_stopped(tmp_path: Path) -> None:
    submission = written(tmp_path / "runs" / RUN, words=["train"], variables={})
    waits = f"until [ -e {tmp_path}/asked ]; do :; done; exit 143"
    waiting = f'[ "$1" = run ] || exit 0; [ "$SLURM_NODEID" != 0 ] || exit 41; {waits}'
    texts = {"srun": SRUN, "docker": waiting, "scancel": f'echo "$@" >>{tmp_path}/asked', "sleep": "exit 0"}
    environ = programs(tmp_path / "bin", scontrol="echo n1", **texts)
    environ |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]"}
    done = subprocess.run(["bash", submission / JOB], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "asked").read_text()) == (41, "--signal=TERM 7\n"), done.stderr


def test_a_node_0_that_cannot_start_the_image_ends_the_job_with_its_code(tmp_path: Path) -> None:
    submission = written(tmp_path / "runs" / RUN, words=["train"], variables={})
    environ = programs(tmp_path / "bin", docker="exit 1") | {"SLURM_NODEID": "0", "SLURM_JOB_ID": "7"}
    assert subprocess.run(["bash", submission / NODE], env=environ, check=False).returncode == 1
    assert (submission / "ended-7-0").read_text() == "1\n"


def test_the_machines_meet_at_the_first_ones_address(tmp_path: Path) -> None:
    submission = written(tmp_path / "runs" / RUN, words=["train"], variables={})
    texts = {"srun": f'echo "$REPRISE_MAIN_ADDRESS" >{tmp_path}/address', "scontrol": "echo n1; echo n2"}
    environ = programs(tmp_path / "bin", **texts)
    environ |= {"SLURM_JOB_ID": "10007", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_RESTART_COUNT": "2"}
    subprocess.run(["bash", submission / JOB], env=environ, capture_output=True, check=True)
    assert (tmp_path / "address").read_text() == "n1:20009\n"
