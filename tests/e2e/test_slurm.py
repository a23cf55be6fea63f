"""A cluster with a real Slurm, a controller and two machines in containers: submit, preempt, cancel, and kill runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.conftest import CHECKOUT, House, docker, dotenv_values
from trainer.environments.build import resolve_base
from trainer.environments.declaration import load_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.long]

FILES: Final = Path(__file__).with_name("slurm")
IMAGE: Final = "localhost/reprise/test-slurm:sid"
MACHINES: Final = ("ctl", "n1", "n2")
EPOCHS: Final = 12
SITE: Final = """kind = "slurm"
runtime = "{runtime}"
partition = "low"
time = "20"
cpus = 1
memory = "2000"
cache = "/var/cache/reprise"
lines = ["export TMPDIR={folder}/tmp"]
"""


def settings(epochs: int) -> tuple[str, ...]:
    return ("--threads", "1", "--max-epochs", str(epochs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster, and a clone of this checkout on its login machine."""

    house: House
    folder: Path
    """A folder that all machines share, outside the clone."""
    prefix: str
    """The beginning of the names of the machines' containers."""

    def reprise(self, *words: str) -> str:
        """Run a command of `reprise` and return its output."""
        result = self.house.type("scripts/reprise", *words)
        assert result.code == 0, result.text
        return result.out

    def submit(self, site: str = "docker", *, epochs: int = EPOCHS) -> str:
        """Submit a run on two machines; return its ID."""
        typed = ("submit", "digits", "--to", site, "--nodes", "2", "--devices", "2", *settings(epochs))
        return self.reprise(*typed).split()[1].rstrip(":")

    def follow(self, run: str, text: str) -> subprocess.Popen[str]:
        """Follow a run's output until a line contains `text`; return the process that follows the output."""
        following = self.house.start("scripts/reprise", "logs", run, "--follow")
        assert following.stdout is not None
        lines: list[str] = []
        while not lines or text not in lines[-1]:
            lines.append(following.stdout.readline())
            assert lines[-1], "".join(lines)
        return following

    def slurm(self, *words: str) -> str:
        """Run a program of Slurm on the login machine, in the shared folder."""
        done = subprocess.run(words, cwd=self.folder / "tmp", env=self.house.env, capture_output=True, check=True)
        return done.stdout.decode()

    def results(self, run: str, attempt: int = 1) -> tuple[Any, bytes, bytes]:
        """Return the weights, metrics and trace of a completed run, whose last attempt must be `attempt`."""
        record = self.house.record(run)
        assert (record["outcome"]["status"], record["attempt"]) == ("completed", attempt)
        attempts = self.house.root / "runs" / run / "attempts" / str(attempt)
        files = [(attempts / name).read_bytes() for name in ("metrics.jsonl", "trace.jsonl")]
        return record["outcome"]["weights"], files[0], files[1]


@pytest.fixture(scope="module")
def cluster(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield a cluster whose login machine has a clone with a store that the machines share."""
    folder = tmp_path_factory.mktemp("reprise-slurm-")
    build_image()
    prefix = f"{house.root.name}-slurm-"
    paths = {"PATH": f"{folder}/bin:{house.env['PATH']}", "REPRISE_STORE": f"{folder}/store"}
    mine = replace(house, env={**house.env, **paths, "SLURM_TEST_CONTROLLER": f"{prefix}ctl"})
    prepare(folder, uid=int(dotenv_values(house)["REPRISE_UID"]))
    (house.root / "sites").mkdir()
    (house.root / "sites" / "docker.toml").write_text(SITE.format(runtime="docker", folder=folder))
    pushed = house.type("scripts/reprise", "data", "push", "digits", "--store", f"{folder}/store")
    assert pushed.code == 0, pushed.text
    subprocess.run(["chmod", "-R", "a+rwX", folder / "store"], check=True)
    with running_machines(house.root, folder, prefix=prefix, uid=dotenv_values(house)["REPRISE_UID"]):
        yield Cluster(house=mine, folder=folder, prefix=prefix)


def build_image() -> None:
    """Build the machines' image, with the Slurm of Debian sid from the Debian server that this machine uses."""
    base = resolve_base(load_environment("cpu", root=CHECKOUT).base, root=CHECKOUT)
    sources = subprocess.run(
        [CHECKOUT / "scripts/machine/debian", "sources"], capture_output=True, text=True, check=True
    )
    source = next(line.replace(" bookworm ", " sid ") for line in sources.stdout.splitlines() if " bookworm " in line)
    docker("build", "--build-arg", f"BASE={base}", "--build-arg", f"SOURCE={source}", "--tag", IMAGE, str(FILES))


def prepare(folder: Path, *, uid: int) -> None:
    """Write the cluster's files into the folder that its machines share."""
    folder.chmod(0o755)
    shutil.copytree(FILES, folder / "conf")
    (folder / "conf" / "munge.key").write_bytes(os.urandom(1024))
    for name in ("tmp", "cache-n1", "cache-n2", "store", "bin"):
        (folder / name).mkdir()
        (folder / name).chmod(0o1777)
    for program in ("sbatch", "squeue", "scancel", "sinfo"):
        (folder / "bin" / program).symlink_to(folder / "conf" / "client")
    if os.getuid() == 0:
        os.chown(folder / "store", uid, uid)


@contextmanager
def running_machines(root: Path, folder: Path, *, prefix: str, uid: str) -> Iterator[None]:
    """Run the cluster's machines until the block ends."""
    socket, client = Path("/var/run/docker.sock"), shutil.which("docker")
    variables = {"DOCKER_GID": str(socket.stat().st_gid), "USER_UID": uid, "MACHINES": prefix, "SHARED": str(folder)}
    mounts = [f"{folder}:{folder}", f"{root}:{root}", f"{folder}/conf:/conf:ro", f"{socket}:{socket}"]
    options = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    options += [word for mount in (*mounts, f"{client}:/opt/docker:ro") for word in ("--volume", mount)]
    network = f"{prefix}net"
    docker("network", "create", network)
    try:
        for name in MACHINES:
            placed = ("--name", f"{prefix}{name}", "--hostname", name, "--network", network, "--network-alias", name)
            docker(
                "run",
                "--detach",
                "--init",
                "--privileged",
                *placed,
                *options,
                "--entrypoint",
                "bash",
                IMAGE,
                "/conf/start",
                name,
            )
        yield
    finally:
        subprocess.run(["docker", "rm", "--force", *(f"{prefix}{name}" for name in MACHINES)], check=False)
        subprocess.run(["docker", "network", "rm", network], check=False)


@pytest.fixture(scope="module")
def alone(cluster: Cluster) -> tuple[Any, bytes, bytes]:
    """Return the results of the same run on one machine."""
    result = cluster.house.type("scripts/train", "--exp", "digits", "--shards", "2", *settings(EPOCHS), "--no-publish")
    assert result.code == 0, result.text
    return cluster.results(result.run)


def test_a_job_on_two_machines_has_the_bits_of_one(cluster: Cluster, alone: tuple[Any, bytes, bytes]) -> None:
    planned = cluster.house.type(
        "scripts/reprise", "submit", "digits", "--to", "docker", "--nodes", "2", "--devices", "2", "--dry-run"
    )
    assert (planned.code, "#SBATCH --nodes=2" in planned.out, "to start at" in planned.err) == (0, True, True), (
        planned.text
    )
    run = cluster.submit()
    cluster.reprise("logs", run, "--follow")
    assert cluster.results(run) == alone
    record = cluster.house.record(run)
    assert record["circumstances"]["image"]["known"] == "verified"
    assert [node["host"]["name"] for node in record["circumstances"]["nodes"]] == ["n2"]
    assert record["scheduler"].endswith("COMPLETED on n[1-2]")


def test_a_preempted_job_is_requeued_and_has_the_same_bits(cluster: Cluster, alone: tuple[Any, bytes, bytes]) -> None:
    run = cluster.submit()
    following = cluster.follow(run, "epoch 3/")
    cluster.slurm("sbatch", "--partition=high", "--nodes=2", "--wrap=true")
    output, _ = following.communicate(timeout=500)
    assert "reprise: the tasks ended with exit code 143, that of node 0 with 75" in output
    assert "start 2, on n[1-2]" in output
    assert cluster.results(run, attempt=2) == alone


def test_a_sweep_is_an_array_job_whose_preempted_tasks_resume_their_runs(cluster: Cluster) -> None:
    epochs = 200  # the points still train when they are preempted
    words = ("sweep", "digits", "--seed", "0..2", "--to", "docker", "--jobs", "2", *settings(epochs))
    planned = cluster.house.type("scripts/reprise", *words, "--dry-run")
    assert (planned.code, "#SBATCH --array=1-3%2" in planned.out, "to start at" in planned.err) == (0, True, True), (
        planned.text
    )
    submitted = json.loads(cluster.reprise(*words, "--json"))
    runs = [*submitted["runs"].values()]
    following = cluster.follow(runs[0], "epoch 3/")
    cluster.slurm("sbatch", "--partition=high", "--nodes=2", "--wrap=true")
    assert " as job " not in cluster.reprise(*words), "each point has a task that runs or waits, or is finished"
    output, _ = following.communicate(timeout=1500)
    assert "that of node 0 with 75" in output
    assert f"reprise: job {submitted['job']}_1, start 2, on" in output
    for run in runs[1:]:
        cluster.reprise("logs", run, "--follow")
    assert "3 finished" in cluster.reprise(*words)
    records = [cluster.house.record(run) for run in runs]
    assert [record["ingredients"]["settings"]["seed"] for record in records] == [0, 1, 2]
    assert {record["circumstances"]["image"]["known"] for record in records} == {"verified"}
    assert records[0]["attempt"] == 2
    measured = cluster.house.type("scripts/reprise", "noise", "digits", "--seeds", "3", *settings(epochs))
    assert (measured.code, measured.err.count("is reused"), "training" in measured.err) == (0, 3, False), measured.text
    submitted_noise = cluster.reprise("noise", "digits", "--seeds", "3", *settings(epochs), "--to", "docker")
    assert "noise of digits: 3 seeds" in submitted_noise, "the points are the seeds of the sweep"


def test_noise_submits_its_seeds_and_measures_them_when_they_have_finished(cluster: Cluster) -> None:
    words = ("noise", "digits", "--seeds", "3", "--to", "docker", *settings(1))
    for run in json.loads(cluster.reprise(*words, "--json"))["runs"].values():
        cluster.reprise("logs", run, "--follow")
    measured = json.loads(cluster.reprise(*words, "--json"))
    assert (measured["seeds"], len(measured["metrics"]["test_loss"])) == ([0, 1, 2], 3)


def test_a_certificate_is_made_in_a_job(cluster: Cluster) -> None:
    words = ("certify", "resume", "digits", "--steps", "60", "--kill-after", "20", *settings(9))
    submitted = json.loads(cluster.reprise(*words, "--to", "docker", "--json"))
    output = cluster.reprise("logs", submitted["run"], "--follow")
    assert "that of node 0 with 0" in output, output
    certificate = cluster.house.root / "runs" / submitted["run"] / "certificates" / "resume.json"
    assert cluster.house.type("scripts/reprise", "verify", str(certificate)).code == 0
    record = cluster.house.record(submitted["run"])
    assert (record["outcome"]["status"], "COMPLETED" in record["scheduler"]) == ("completed", True)


def test_a_rerun_is_compared_in_its_job(cluster: Cluster) -> None:
    original = cluster.house.type("scripts/train", "--exp", "digits", *settings(2), "--no-publish").run
    submitted = json.loads(cluster.reprise("reproduce", original, "--to", "docker", "--json"))
    output = cluster.reprise("logs", submitted["run"], "--follow")
    assert "identical: final weights and all result metrics" in output
    assert "identical: 1 on" in cluster.reprise("runs", "show", original)
    record = cluster.house.record(submitted["run"])
    assert (record["circumstances"]["retest_of"], record["outcome"]["status"]) == (original, "completed")
    assert "COMPLETED" in record["scheduler"]


def test_a_cancelled_run_is_saved_and_not_requeued(cluster: Cluster) -> None:
    run = cluster.submit(epochs=200)
    following = cluster.follow(run, "epoch 2/")
    cluster.reprise("cancel", run)
    output, _ = following.communicate(timeout=200)
    assert "that of node 0 with 75" in output
    record = cluster.house.record(run)
    assert (record["outcome"]["status"], "FAILED" in record["scheduler"]) == ("preempted", True)


def test_a_killed_machine_ends_the_job_with_a_named_error(cluster: Cluster) -> None:
    run = cluster.submit(epochs=200)
    following = cluster.follow(run, "epoch 2/")
    docker("kill", f"reprise-{run}-1")
    output, _ = following.communicate(timeout=200)
    assert "that of node 0 with 92" in output
    assert "FAILED" in cluster.house.record(run)["scheduler"]


def test_the_job_of_a_lost_machine_is_requeued_and_has_the_same_bits(
    cluster: Cluster, alone: tuple[Any, bytes, bytes]
) -> None:
    run = cluster.submit()
    following = cluster.follow(run, "epoch 3/")
    # a container is started by the engine, outside of its machine
    docker("kill", f"{cluster.prefix}n2", f"reprise-{run}-1")
    time.sleep(45)  # until Slurm sees that the machine does not respond (SlurmdTimeout)
    docker("start", f"{cluster.prefix}n2")
    output, _ = following.communicate(timeout=500)
    assert "start 2, on n[1-2]" in output, output
    assert cluster.results(run, attempt=2) == alone


def test_apptainer_has_the_bits_of_docker(cluster: Cluster, alone: tuple[Any, bytes, bytes]) -> None:
    image = dotenv_values(cluster.house)["REPRISE_IMAGE"]
    archive, folder = cluster.folder / "image.tar", cluster.folder / "tmp" / "cpu"
    docker("save", "--output", str(archive), image)
    archive.chmod(0o644)
    build = ("apptainer", "build", "--sandbox", str(folder), f"docker-archive:{archive}")
    docker("exec", "--user", "u", "--env", f"TMPDIR={cluster.folder / 'tmp'}", f"{cluster.prefix}n1", *build)
    site = SITE.format(runtime="apptainer", folder=cluster.folder)
    (cluster.house.root / "sites" / "apptainer.toml").write_text(f'{site}image = "{folder}"\n')
    run = cluster.submit("apptainer")
    following = cluster.follow(run, "epoch 3/")
    cluster.slurm("sbatch", "--partition=high", "--nodes=2", "--wrap=true")
    output, _ = following.communicate(timeout=500)
    assert "that of node 0 with 75" in output
    assert cluster.results(run, attempt=2) == alone
    assert cluster.house.record(run)["circumstances"]["image"]["known"] == "asserted"
