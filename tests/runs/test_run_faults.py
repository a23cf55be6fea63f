"""A run's record remains valid if a system call that writes it fails or the process is killed during the call."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.runs.run import record_of

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
from tests.runs.runs import start_run
from trainer.cli.messages import report
from trainer.runs.record import Outcome, RunStatus

try:
    run = start_run(Path(sys.argv[1]))
    for step in range(3):
        run.update(outcome=Outcome(status=RunStatus.RUNNING, steps=step))
    run.close(Outcome(status=RunStatus.COMPLETED, steps=3))
except Exception as fault:
    sys.exit(report(fault, as_json=False, debug=False))
print("done")
"""

pytestmark = [pytest.mark.long, pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")]


def run_with_fault(folder: Path, *, call: str, fault: str, place: int) -> subprocess.CompletedProcess[str]:
    """Open, change and close a run below `folder`, with a fault at call number `place` of the system call `call`."""
    inject = f"--inject={call}:{fault}:when={place}"
    words = ["strace", "-f", "-qq", "-o", str(folder.parent / "trace"), f"--trace={call}", inject]
    script = [sys.executable, "-B", "-c", SCRIPT, str(folder)]
    return subprocess.run([*words, *script], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("call", ["fsync", "rename,renameat", "fchmod", "mkdir,mkdirat"])
@pytest.mark.parametrize("error", ["error=ENOSPC", "error=EIO", "signal=SIGKILL"])
def test_the_record_stays_valid_wherever_a_write_fails(tmp_path: Path, call: str, error: str) -> None:
    for place in itertools.count(1):
        folder = tmp_path / str(place) / "runs"
        (folder.parent / "checkout").mkdir(parents=True)
        done = run_with_fault(folder, call=call, fault=error, place=place)
        assert "Traceback" not in done.stderr, done.stderr
        assert "bug in Reprise" not in done.stderr, done.stderr
        for run in folder.glob("*-*") if folder.exists() else []:
            if not list(run.glob("attempts/*/record.json")):
                continue
            steps = record_of(run).outcome.steps
            assert steps in {None, 0, 1, 2, 3}
            assert json.loads((run / "attempts/1/claim.json").read_bytes())["attempt"] == 1
        if (
            "INJECTED" not in (folder.parent / "trace").read_text()
            and "killed" not in (folder.parent / "trace").read_text()
        ):
            assert done.stdout == "done\n"
            assert place > 1
            return
