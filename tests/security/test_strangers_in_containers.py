"""End-to-end tests: a stranger's stopped run is resumed with compose and from the host."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import CommandResult, first_result, house
from trainer.cli.trust import ISOLATION

if TYPE_CHECKING:
    from tests.e2e.conftest import House

__all__ = ["first_result", "house"]
pytestmark = pytest.mark.engine

HARM = '''

import os, pathlib, socket, sys

def reached():
    """What this process can reach, a line each."""
    try:
        socket.create_connection(("store", 8333), timeout=2).close()
        yield "the network"
    except OSError:
        pass
    yield from (name for name in os.environ if name.startswith("AWS") and os.environ[name].strip())
    runs = pathlib.Path(os.environ.get("REPRISE_RUNS", "/project/runs"))
    for path in (runs / "STOLEN.txt", pathlib.Path("/project/runs/STOLEN.txt"), pathlib.Path("/project/STOLEN.txt")):
        try:
            path.write_text("stolen")
            yield str(path)
        except OSError:
            pass

print("CODE OF A STRANGER RUNS", file=sys.stderr)
for each in reached():
    print("REACHED", each, file=sys.stderr)
'''
RAN, REACHED = "CODE OF A STRANGER RUNS", "REACHED"


@pytest.fixture(scope="module")
def stranger_run(house: House) -> str:
    """Return the ID of a run that a stranger stopped and published; the victim's checkout and register do not contain its code."""
    idea = house.root / "idea.py"
    idea.write_text((house.root / "trainer/experiments/digits.py").read_text() + HARM)
    result = house.train_and_stop("--exp", "idea.py", "--max-epochs", "9")
    assert {f"{REACHED} the network", f"{REACHED} AWS_SECRET_ACCESS_KEY"} <= set(result.text.splitlines()), (
        "the probes work"
    )
    idea.unlink()
    for register in (house.root / "runs").glob(".own-*"):
        shutil.rmtree(register)
    return result.run


@pytest.fixture
def run(house: House, stranger_run: str) -> str:
    shutil.rmtree(house.root / "runs" / stranger_run, ignore_errors=True)
    (house.root / "runs/STOLEN.txt").unlink(missing_ok=True)
    return stranger_run


@pytest.mark.parametrize(("pulled", "trust"), [(False, ()), (False, ("--trust",)), (True, ())])
def test_evil_3b_compose_rejects_an_untrusted_run_and_names_the_hosts_command(
    house: House, run: str, trust: tuple[str, ...], *, pulled: bool
) -> None:
    if pulled:
        assert house.type("scripts/reprise", "runs", "pull", run).code == 0
    result = house.train("--resume", run, *trust)
    assert result.code == 85, result.text
    assert f"scripts/reprise train --resume {run} --trust" in result.text
    assert not has_run(house, result)


@pytest.mark.parametrize("pulled", [False, True])
def test_the_host_finds_an_untrusted_run_in_the_store_and_does_not_run_it(
    house: House, run: str, *, pulled: bool
) -> None:
    if pulled:
        assert house.type("scripts/reprise", "runs", "pull", run).code == 0
    result = house.type("scripts/reprise", "train", "--resume", run)
    assert (result.code, "is not trusted" in result.text) == (85, True), result.text
    assert f'+print("{RAN}"' in result.err
    assert not has_run(house, result)


@pytest.mark.parametrize("answer", ["n", ""])
def test_the_user_is_asked_before_anything_runs(house: House, run: str, answer: str) -> None:
    result = answer_at_terminal(house, answer, "scripts/reprise", "train", "--resume", run)
    assert (result.code, f"Run it ({ISOLATION})? [y/N]" in result.err) == (85, True), result.text
    assert not has_run(house, result)


def test_a_trusted_run_is_resumed_in_isolation(house: House, run: str) -> None:
    result = house.type("scripts/reprise", "train", "--resume", run, "--trust")
    assert result.code == 0, result.text
    assert (f"\n{RAN}" in result.text, reached_resources(house, result)) == (True, set())
    record = house.record(run)
    assert (record["attempt"], record["outcome"]["status"]) == (2, "completed")
    assert record["circumstances"]["image"]["known"] == "verified"
    assert not list((house.root / "runs").glob(f".own-*/{run}-*"))
    again = house.type("scripts/reprise", "reproduce", run, "--trust", "--grant", "network")
    assert (again.code, reached_resources(house, again)) == (0, {"the network"}), again.text


def test_a_run_with_store_access_has_keys_and_network_and_publishes(house: House, run: str) -> None:
    result = house.type("scripts/reprise", "train", "--resume", run, "--trust", "--grant", "network,store")
    assert result.code == 0, result.text
    keys = {"the network", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert keys <= reached_resources(house, result) <= keys | {"AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"}
    assert re.search(r"^published +s3://reprise", result.text, re.MULTILINE), result.text


def has_run(house: House, message: CommandResult) -> bool:
    return f"\n{RAN}" in message.text or (house.root / "runs/STOLEN.txt").exists()


def reached_resources(house: House, message: CommandResult) -> set[str]:
    assert not (house.root / "runs/STOLEN.txt").exists()
    return set(re.findall(rf"^{REACHED} (.*?)\r?$", message.text, re.MULTILINE))


def answer_at_terminal(house: House, answer: str, *words: str) -> CommandResult:
    """Run a command in a terminal, and type `answer` at its prompt."""
    ours, theirs = os.openpty()
    os.write(ours, f"{answer}\n".encode())
    process = subprocess.Popen(
        words, cwd=house.root, env=house.env, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE
    )
    os.close(theirs)
    out, _ = process.communicate(timeout=120)
    output = b""
    with contextlib.suppress(OSError):  # the terminal was closed
        while part := os.read(ours, 65536):
            output += part
    os.close(ours)
    return CommandResult(code=process.returncode, out=out.decode(), err=output.decode())
