"""A fresh clone with a real engine and a real S3 server."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trainer.environments.dotenv import all_values

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
RUN_ID = re.compile(r"\b[0-9]{8}t[0-9]{6}-[a-z2-7]{6}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Return stdout and stderr."""
        return self.out + self.err

    @property
    def run(self) -> str:
        """Return the last run ID in the output."""
        found = RUN_ID.findall(self.text)
        assert found, self.text
        return str(found[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A clone of this checkout with its own compose project and port."""

    root: Path
    env: dict[str, str]

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command in the clone."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            words, cwd=self.root, env=self.env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, **more
        )

    def type(self, *words: str, seconds: float = 600) -> CommandResult:
        """Run a command in the clone."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return CommandResult(code=process.returncode, out=out, err=err)

    def train(self, *words: str) -> CommandResult:
        """Train with `docker compose run`."""
        return self.type("docker", "compose", "run", "--rm", "train", *words)

    def train_and_stop(self, *words: str) -> CommandResult:
        """Train in a container until an epoch is complete, then `docker stop` it."""
        name = f"{self.root.name}-stopped"
        running = self.start("docker", "compose", "run", "--rm", "--name", name, "train", *words)
        assert running.stderr is not None
        output = ""
        while "epoch 2/" not in output.lower():
            line = running.stderr.readline()
            assert line, output
            output += line
        subprocess.run(["docker", "stop", name], capture_output=True, check=True)
        out, rest = running.communicate(timeout=60)
        assert running.returncode == 75, output + rest
        return CommandResult(code=75, out=out, err=output + rest)

    def record(self, run: str) -> dict[str, Any]:
        """Return a run's record, as `reprise runs show --json` prints it."""
        result = self.type("scripts/reprise", "runs", "show", run, "--json")
        assert result.code == 0, result.text
        document: dict[str, Any] = json.loads(result.out)
        return document


def clone(into: Path) -> None:
    """Copy all files of the working tree, except ignored files, into a new repository, and commit them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (CHECKOUT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, into / name)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-qm", "A clone")):
        subprocess.run(["git", *words], cwd=into, check=True)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def house_at(root: Path, environ: dict[str, str]) -> Iterator[House]:
    """Yield a clone at `root`; its containers are removed afterwards."""
    root.chmod(0o755)  # pytest makes it 0700; containers of a root host run as another user
    mine = House(root=root, env=environ)
    try:
        yield mine
    finally:
        mine.type("docker", "compose", "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "1")


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Yield a clone in which the first command of the README has run once; its containers are removed afterwards."""
    root = tmp_path_factory.mktemp("reprise-e2e-")
    clone(root)
    with house_at(root, os.environ | {"REPRISE_STORE_PORT": str(free_port()), "NO_COLOR": "1"}) as mine:
        result = mine.type("scripts/train", "--yes", "--exp", "digits", seconds=1500)
        (root / "runs" / ".first.json").write_text(json.dumps({"code": result.code, "text": result.text}))
        yield mine


@pytest.fixture(scope="session")
def first_result(house: House) -> CommandResult:
    """Return the result of the first command."""
    kept = json.loads((house.root / "runs" / ".first.json").read_text())
    return CommandResult(code=kept["code"], out=kept["text"], err="")


@pytest.fixture
def second_house(
    house: House, first_result: CommandResult, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Yield another clone on the same machine, in which no command has run."""
    assert first_result.code == 0, first_result.text
    root = tmp_path_factory.mktemp("reprise-second-")
    clone(root)
    with house_at(root, dict(house.env)) as mine:
        yield mine


def dotenv_values(house: House) -> dict[str, str]:
    """Return the values of `.env`."""
    return all_values(house.root / ".env")


def docker(*words: str) -> str:
    """Run a docker command and return its output."""
    return subprocess.run(["docker", *words], capture_output=True, check=True, text=True).stdout.strip()
