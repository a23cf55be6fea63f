"""Two users and root share a cache and a store; each of them can train and read after another user damaged shared files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.conftest import CHECKOUT
from tests.e2e.test_images import reprise
from tests.security.outside import state, victims_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.training.conftest import Checkout

pytestmark = [
    pytest.mark.engine,
    pytest.mark.torch,
    pytest.mark.skipif(os.getuid() != 0, reason="becomes other users, which root alone can"),
]
ATTACKER: Final = 2000
VICTIM: Final = 1000
ROOT: Final = 0
TEAM: Final = 3000
USERS: Final = (ATTACKER, VICTIM, ROOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A checkout that all users can read, a cache and a store to which the group can write, and a runs folder for each user."""

    place: Path
    image: str

    @property
    def cache(self) -> Path:
        return self.place / "cache"

    @property
    def store(self) -> Path:
        return self.place / "store"

    def type(self, uid: int, *words: str) -> subprocess.CompletedProcess[str]:
        mine = {"STORE": self.store, "CACHE": self.cache, "RUNS": self.place / f"runs-{uid}"}
        named = [f"--env=REPRISE_{name}={path}" for name, path in mine.items()]
        mounts = [f"--volume={self.place}:{self.place}", f"--volume={self.place / 'checkout'}:/project:ro"]
        who = [f"--user={uid}:{uid}", f"--group-add={TEAM}", "--network=none", "--tmpfs=/home/reprise:mode=1777"]
        command = ["--entrypoint=sh", self.image, "-c", 'umask 002; exec python -m trainer "$@"', "sh", *words]
        return subprocess.run(
            ["docker", "run", "--rm", *who, *named, *mounts, *command], capture_output=True, text=True, check=False
        )

    def train(self, uid: int) -> Path:
        document = self.type(uid, "train", "--exp", "dots.py", "--json")
        assert document.returncode == 0, document.stderr
        return self.place / f"runs-{uid}" / str(json.loads(document.stdout)["run"])


@pytest.fixture(scope="module")
def team(checkout: Checkout) -> Iterator[Team]:
    """Yield a team without runs, with an image built from this checkout."""
    with tempfile.TemporaryDirectory(prefix="reprise-team-") as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copytree(checkout.root, place / "checkout", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.rmtree(place / "checkout/runs")
        shutil.copytree(CHECKOUT / "environments", place / "checkout/environments")
        shutil.copytree(CHECKOUT / "docker", place / "checkout/docker")
        shutil.copy(CHECKOUT / "pyproject.toml", place / "checkout")
        (place / "checkout/runs").mkdir()
        shutil.copytree(checkout.store, place / "store", ignore=shutil.ignore_patterns("runs"))
        (place / "cache").mkdir()
        subprocess.run(["chmod", "-R", "a+rX", place], check=True)
        subprocess.run(["chgrp", "-R", str(TEAM), place / "cache", place / "store"], check=True)
        for shared in (place / "cache", place / "store"):
            for folder in (shared, *(path for path in shared.rglob("*") if path.is_dir())):
                folder.chmod(0o2775)
        for uid in USERS:
            for own in (place / f"runs-{uid}", place / f"home-{uid}"):
                own.mkdir()
                os.chown(own, uid, uid)
        yield Team(place=place, image=reprise("image", "build", "cpu")["reference"])


@pytest.fixture(scope="module")
def trained_runs(team: Team) -> dict[int, Path]:
    """Train as each user. The attacker is first, so the files in the cache belong to the attacker."""
    return {uid: team.train(uid) for uid in USERS}


@pytest.fixture
def home(team: Team) -> Iterator[Path]:
    path = victims_folder(team.place / "victim")
    for each in (path, *path.rglob("*")):
        os.chown(each, VICTIM, VICTIM)
    before = state(path)
    yield path
    assert state(path) == before
    shutil.rmtree(path)


def run_as_attacker(*words: str) -> None:
    become = ["setpriv", f"--reuid={ATTACKER}", f"--regid={ATTACKER}", f"--groups={TEAM}", "--"]
    subprocess.run([*become, *words], check=True, umask=0o002)


def test_each_user_trains_as_itself_and_sees_all_runs(team: Team, trained_runs: dict[int, Path]) -> None:
    weights = {(run / "attempts/1/weights.safetensors").read_bytes() for run in trained_runs.values()}
    assert len(weights) == 1
    for uid, run in trained_runs.items():
        assert {path.lstat().st_uid for path in run.rglob("*")} == {uid}
        document = team.type(uid, "runs", "ls", "--json")
        assert document.returncode == 0, document.stderr
        listed = {row["run"]: row["location"] for row in json.loads(document.stdout)}
        assert listed.keys() == {path.name for path in trained_runs.values()}
        assert [name for name, where in listed.items() if where != "remote only"] == [run.name]


@pytest.mark.parametrize("planted", ["versions/dots", "objects", "fetch.lock", "files"])
def test_a_planted_link_is_named_or_skipped(
    team: Team, trained_runs: dict[int, Path], home: Path, planted: str
) -> None:
    """The victim and root can fetch and verify despite the link, or get an error that names it."""
    assert trained_runs
    kept = team.cache.with_name("kept")
    team.cache.rename(kept)
    try:
        team.cache.mkdir()
        os.chown(team.cache, ROOT, TEAM)
        team.cache.chmod(0o2775)
        version = next((kept / "versions/dots").iterdir()).name
        path = team.cache / (
            planted if "/" in planted or planted == "objects" else f"versions/dots/{version}/{planted}"
        )
        run_as_attacker("mkdir", "-p", str(path.parent))
        run_as_attacker(
            "ln", "-s", str(home / ".ssh" / ("authorized_keys" if planted == "fetch.lock" else "")), str(path)
        )
        for uid in (VICTIM, ROOT):
            for words in (("data", "fetch", "dots"), ("data", "verify", "dots")):
                result = team.type(uid, *words)
                assert result.returncode in ({0} if planted == "files" else {0, 44, 76}), result.stderr
                if words[1] == "fetch" and planted != "files":
                    assert (result.returncode, f"{path.name} is a symbolic link" in result.stderr) == (76, True), (
                        result.stderr
                    )
            assert path.is_symlink()
    finally:
        shutil.rmtree(team.cache)
        kept.rename(team.cache)


def test_root_writes_nothing_through_a_link_in_a_run_of_the_containers_user(
    team: Team, trained_runs: dict[int, Path], home: Path
) -> None:
    """Root reproduces its own run after another user has created `retests` as a link."""
    link = trained_runs[ROOT] / "retests"
    link.symlink_to(home)
    os.chown(link, ATTACKER, ATTACKER, follow_symlinks=False)
    result = team.type(ROOT, "reproduce", trained_runs[ROOT].name, "--no-container")
    link.unlink()
    assert "retests is a symbolic link" in result.stderr, result.stderr


def test_a_replaced_object_is_detected_and_the_result_is_unchanged(team: Team, trained_runs: dict[int, Path]) -> None:
    pack = max(
        (path for path in (team.cache / "objects").glob("*/*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    data = bytearray(pack.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(byte ^ 1 for byte in data[len(data) // 2 : len(data) // 2 + 64])
    forged = team.place / "home-2000" / "forged"
    forged.write_bytes(data)
    run_as_attacker("cp", "--remove-destination", str(forged), str(pack))
    weights = (trained_runs[ATTACKER] / "attempts/1/weights.safetensors").read_bytes()
    for uid in (VICTIM, ROOT):
        first, again = (team.type(uid, "train", "--exp", "dots.py", "--json", "--no-publish") for _ in range(2))
        assert first.returncode == 0 or "dots" in first.stderr, first.stderr
        assert again.returncode == 0, again.stderr
        run = team.place / f"runs-{uid}" / json.loads(again.stdout)["run"]
        assert (run / "attempts/1/weights.safetensors").read_bytes() == weights
        shutil.rmtree(run)


def test_an_edited_and_a_malformed_record_in_the_store_are_named(team: Team, trained_runs: dict[int, Path]) -> None:
    seal = team.store / "runs" / trained_runs[VICTIM].name / "attempts/1/sealed.json"
    good = seal.read_bytes()
    bad = team.store / "runs/20260101t000000-aaaaaa/attempts/1"
    forged = team.place / "home-2000" / "sealed.json"
    forged.write_bytes(good.replace(b'"test_accuracy":', b'"test_accuracy":1'))
    assert forged.read_bytes() != good
    run_as_attacker("cp", "--remove-destination", str(forged), str(seal))
    run_as_attacker("mkdir", "-p", str(bad))
    run_as_attacker("sh", "-c", f"printf '{{\"a\":' >'{bad}/sealed.json'")
    try:
        for uid in (VICTIM, ROOT):
            listed = team.type(uid, "runs", "ls")
            assert {run.name for run in trained_runs.values()} <= set(listed.stdout.split()), (
                listed.stdout + listed.stderr
            )
            assert "20260101t000000-aaaaaa" in listed.stdout + listed.stderr
            assert team.type(uid, "runs", "pull", bad.parents[1].name).returncode in {40, 55}
        pulled = team.type(VICTIM, "runs", "pull", trained_runs[VICTIM].name)
        assert (pulled.returncode, trained_runs[VICTIM].name in pulled.stderr) == (55, True), pulled.stderr
        shown = team.type(VICTIM, "runs", "show", trained_runs[VICTIM].name, "--json")
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)["outcome"]["metrics"]["test_accuracy"] <= 1
    finally:
        seal.write_bytes(good)
        shutil.rmtree(bad.parents[1])
