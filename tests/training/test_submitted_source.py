"""A run that begins on a machine which shares no folder with the submitting machine."""

from __future__ import annotations

import shutil
import signal
from time import sleep
from typing import TYPE_CHECKING

import pytest

from tests.sites.pods import Pod
from tests.training.conftest import Checkout
from trainer.base.errors import PreemptedError, SourceError
from trainer.runs.record import RunStatus
from trainer.runs.run import load_record
from trainer.runs.run_id import new_run_id
from trainer.runs.submitted_source import upload_source
from trainer.source.capture import capture
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.trains]
WORDS = ("--threads", "1", "--no-publish", "--max-epochs", "1")


def test_a_run_has_the_source_that_was_submitted_whatever_else_is_in_the_folder(
    checkout: Checkout, tmp_path: Path
) -> None:
    bundle = capture(checkout.root)
    digest, pod = upload_source(bundle, open_store(str(checkout.store))), Pod(tmp_path / "project")
    assert pod.fetch(str(checkout.store), digest).returncode == 0
    (pod.project / "stray.py").write_text("x = 1")
    on_pod = Checkout(root=pod.project, store=checkout.store)
    code, _, err = on_pod.train(*WORDS, REPRISE_SOURCE=digest)
    assert code == 0, err
    _, record = on_pod.last()
    assert record.ingredients.source == bundle.digest
    assert record.circumstances.source == bundle.source


def test_a_run_that_is_stopped_in_one_pod_and_resumed_in_another_has_the_bits_of_an_uninterrupted_run(
    checkout: Checkout, tmp_path: Path
) -> None:
    code = (checkout.root / "dots.py").read_text()
    (checkout.root / "slow.py").write_text(code.replace("return self", "import time; time.sleep(0.2); return self"))
    whole, _, err = checkout.train("--exp", "slow.py", "--threads", "1", "--no-publish")
    assert whole == 0, err
    expected = checkout.last()[1].outcome.weights
    digest = upload_source(capture(checkout.root), open_store(str(checkout.store)))
    run = new_run_id()
    words = ("--resume-or-begin", run, "--exp", "slow.py", "--threads", "1", "--trust")
    first, second = (Pod(tmp_path / name) for name in ("first", "second"))
    for pod in (first, second):
        assert pod.fetch(str(checkout.store), digest).returncode == 0
    process = Checkout(root=first.project, store=checkout.store).start(*words, REPRISE_SOURCE=digest, host="node-a")
    trace = first.project / "runs" / run / "attempts" / "1" / "trace.jsonl"
    while not trace.exists() or trace.read_bytes().count(b"\n") < 4:
        assert process.poll() is None, process.communicate()
        sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == PreemptedError.code, err
    shutil.rmtree(first.project)  # the pod's folders are gone with it
    resumed, _, err = Checkout(root=second.project, store=checkout.store).train(
        *words, REPRISE_SOURCE=digest, host="node-b"
    )
    assert resumed == 0, err
    record = load_record(second.project / "runs" / run / "attempts" / "2" / "record.json")
    assert (record.outcome.status, record.outcome.weights) == (RunStatus.COMPLETED, expected)


def test_a_run_whose_submitted_source_was_not_fetched_does_not_start(checkout: Checkout) -> None:
    code, _, err = checkout.train(*WORDS, REPRISE_SOURCE=f"sha256:{'0' * 64}")
    assert code == SourceError.code
    assert "REPRISE_SOURCE is sha256:000000000000.., but" in err
