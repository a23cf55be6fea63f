"""A rerun that is stopped and started again with the same command, as in a job on a cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from time import sleep
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import PreemptedError
from trainer.runs.record import RunStatus
from trainer.runs.run import load_record
from trainer.runs.run_id import new_run_id

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]


def test_a_stopped_rerun_is_resumed_by_the_same_words_and_compared(checkout: Checkout) -> None:
    code = (checkout.root / "dots.py").read_text()
    (checkout.root / "slow.py").write_text(code.replace("return self", "import time; time.sleep(0.2); return self"))
    assert checkout.train("--exp", "slow.py", "--no-publish", "--checkpoint-every", "2")[0] == 0
    original, new = checkout.last()[1].run, new_run_id()
    words = ("reproduce", original, "--no-container", "--resume-or-begin", new, "--json")
    retests = checkout.root / "runs" / original / "retests"
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *words], cwd=checkout.root, env=checkout.environ, stderr=subprocess.PIPE
    )
    attempt = checkout.root / "runs" / new / "attempts" / "1"
    while not (attempt / "checkpoints" / "latest.json").exists():
        assert process.poll() is None, process.communicate()
        sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == PreemptedError.code, err
    assert not retests.exists(), "nothing was compared"
    done = checkout.reprise(*words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["retest"]
    assert (result["verdict"], result["retest"]["run"]) == ("identical", new)
    record = load_record(checkout.root / "runs" / new / "attempts" / "2" / "record.json")
    assert (record.outcome.status, record.circumstances.retest_of) == (RunStatus.COMPLETED, original)
    again = checkout.reprise(*words)
    assert (again.returncode, f"{new} is completed: it is compared" in again.stderr) == (0, True), again.stderr
