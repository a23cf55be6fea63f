"""Level `portable`: results on other x86-64 CPUs equal a committed result bit for bit, also if a run is killed and resumed on another CPU.

The other CPUs are emulated by qemu-user, which is slow and uses no instruction set extension of this machine.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import torch

from trainer.base.digest import digest_of_file
from trainer.runs.run_id import is_run_id

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "portable.json"
WORDS: Final = ("--determinism", "portable", "--max-epochs", "3", "--checkpoint-every", "5", "--no-publish")
RESULTS: Final = ("metrics.jsonl", "tensors.json", "trace.jsonl", "weights.safetensors")
CPUS: Final = ("Haswell-noTSX", "EPYC-Rome")
EMULATOR: Final = "qemu-x86_64-static"
UNTIL_S: Final = 300

STARTER: Final = "import runpy, sys; sys.executable = sys.argv.pop(1); runpy.run_module('trainer', run_name='__main__', alter_sys=True)"
"""Runs the launcher without emulation; its first argument is the program that runs the training process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    python: Path
    checkout: Checkout

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", STARTER, str(self.python), "train", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.checkout.root, env=self.checkout.environ, stdout=pipe, stderr=pipe, text=True
        )

    def run(self, *words: str) -> None:
        process = self.start(*words)
        out, err = process.communicate(timeout=UNTIL_S)
        assert process.returncode == 0, out + err

    def killed(self) -> Path:
        process = self.start("--exp", "dots.py", *WORDS)
        assert process.stderr
        while not process.stderr.readline().startswith("epoch 2/"):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=UNTIL_S)
        return newest_run(self.checkout)


def newest_run(checkout: Checkout) -> Path:
    return max(
        (each for each in (checkout.root / "runs").iterdir() if is_run_id(each.name)), key=lambda each: each.name
    )


def result(attempt: Path) -> dict[str, str]:
    return {"torch": torch.__version__, **{name: digest_of_file(attempt / name) for name in RESULTS}}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of qemu-user, from the PATH or from Debian's package, which is unpacked but not installed."""
    if found := shutil.which(EMULATOR) or shutil.which("qemu-x86_64"):
        return found
    if shutil.which("apt-get") is None:
        pytest.skip("needs qemu-user: install it")
    place = tmp_path_factory.mktemp("qemu")
    subprocess.run(["apt-get", "download", "-qq", "qemu-user-static"], cwd=place, check=True)
    (package,) = place.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, place], check=True)
    return str(place / "usr/bin" / EMULATOR)


@pytest.fixture
def this_machine(checkout: Checkout) -> Machine:
    return Machine(python=Path(sys.executable), checkout=checkout)


def emulated_machine(cpu: str, emulator: str, checkout: Checkout) -> Machine:
    python = checkout.root.parent / f"python-{cpu}"
    python.write_text(f'#!/bin/sh\nexec {emulator} -cpu {cpu} {sys.executable} "$@"\n')
    python.chmod(0o755)
    return Machine(python=python, checkout=checkout)


@pytest.fixture(scope="module")
def committed_result() -> dict[str, str]:
    expected: dict[str, str] = json.loads(GOLDEN.read_text())
    return expected


def test_the_bits_match_the_committed_file(this_machine: Machine, committed_result: dict[str, str]) -> None:
    """After a change of torch, of the trace or of the metrics, inspect the change, and commit the result that this test prints."""
    this_machine.run("--exp", "dots.py", *WORDS)
    assert result(newest_run(this_machine.checkout) / "attempts/1") == committed_result


@pytest.mark.long
@pytest.mark.parametrize("cpu", CPUS)
def test_another_cpu_gives_the_same_bits(
    cpu: str, emulator: str, checkout: Checkout, committed_result: dict[str, str]
) -> None:
    emulated_machine(cpu, emulator, checkout).run("--exp", "dots.py", *WORDS)
    assert result(newest_run(checkout) / "attempts/1") == committed_result


@pytest.mark.long
@pytest.mark.parametrize(("first", "second"), [("", CPUS[0]), CPUS, (CPUS[1], "")])
def test_killed_on_one_cpu_and_resumed_on_another_gives_the_same_bits(
    first: str, second: str, emulator: str, checkout: Checkout, committed_result: dict[str, str]
) -> None:
    here = Machine(python=Path(sys.executable), checkout=checkout)
    one, other = (emulated_machine(cpu, emulator, checkout) if cpu else here for cpu in (first, second))
    run = one.killed()
    other.run("--resume", run.name)
    assert result(run / "attempts/2") == committed_result
