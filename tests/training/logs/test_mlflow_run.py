"""MLflow: a real server gets metrics, settings and inputs; a resumed run continues its MLflow run; no credential is recorded."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.request import urlopen

import pytest
from pydantic import ValidationError

from tests.runs.runs import start_run
from trainer.base.errors import SettingError
from trainer.training.logs.mlflow_run import tags_of, tracked
from trainer.training.settings import FitSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch]
SERVER: Final = os.environ.get("REPRISE_TEST_MLFLOW") or shutil.which("mlflow")
"""The executable of the full MLflow; its server is not part of the library that a run needs."""
TOKEN: Final = "planted-token-of-mlflow"  # noqa: S105 - a made-up value


def ignore(_name: str, _reason: str) -> None: ...


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("mlflow", reason="mlflow is in no extra of the lock that this environment has")
    if SERVER is None:
        pytest.skip("REPRISE_TEST_MLFLOW does not name the program mlflow, and the PATH has none")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [SERVER, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "files")]
    environ = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=folder, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _await(f"{address}/health", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    end = monotonic() + 120
    while monotonic() < end and process.poll() is None:
        try:
            with urlopen(address, timeout=1):  # noqa: S310 - the server of this test
                return
        except OSError:
            continue
    pytest.fail("the server of MLflow does not answer")


def runs_of(address: str, experiment: str) -> list[Any]:
    client = importlib.import_module("mlflow").MlflowClient(address)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


@pytest.mark.trains
@pytest.mark.long
def test_a_server_gets_metrics_settings_and_inputs(checkout: Checkout, server: str) -> None:
    words = ("--max-epochs", "2", "--mlflow", "on", "--mlflow-experiment", "whole", "--no-publish")
    code, out, err = checkout.train(*words, MLFLOW_TRACKING_URI=server, MLFLOW_TRACKING_TOKEN=TOKEN)
    assert code == 0, err
    attempt, record = checkout.last()
    (found,) = runs_of(server, "whole")
    assert (found.info.run_name, found.info.status) == (record.run, "FINISHED")
    assert found.data.tags["reprise.identity"] == record.identity
    assert found.data.tags["reprise.dataset.dots"] == record.ingredients.datasets["dots"].content
    assert not [name for name in found.data.tags if name.startswith(("mlflow.user", "mlflow.source"))]
    assert found.data.params["learning_rate"] == "0.001"
    assert found.data.metrics["test_accuracy"] == record.outcome.metrics["test_accuracy"]
    assert "telemetry/samples_per_second" in found.data.metrics
    everything = out + err + "".join(path.read_text(errors="replace") for path in attempt.rglob("*") if path.is_file())
    assert TOKEN not in everything
    assert "View run" not in out


@pytest.mark.trains
@pytest.mark.long
def test_a_resumed_run_continues_its_run_in_mlflow(checkout: Checkout, server: str) -> None:
    words = ("--max-epochs", "60", "--mlflow", server, "--mlflow-experiment", "resumed", "--no-publish")
    process = checkout.start(*words)
    assert process.stderr is not None
    run = ""
    for line in process.stderr:
        run = run or (found[1] if (found := re.match(r"run (\S+):", line)) else "")
        if line.startswith("epoch 2/"):
            process.terminate()
            break
    process.communicate()
    assert process.returncode == 143
    assert [each.info.status for each in runs_of(server, "resumed")] == ["FAILED"]
    done = checkout.reprise("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    (found_run,) = runs_of(server, "resumed")
    assert (found_run.info.status, found_run.data.tags["reprise.attempt"]) == ("FINISHED", "2")
    history = (
        importlib.import_module("mlflow").MlflowClient(server).get_metric_history(found_run.info.run_id, "val_loss")
    )
    assert [each.step for each in history] == [7 * epoch for epoch in range(1, 61)]


@pytest.mark.trains
@pytest.mark.long
def test_a_server_that_is_down_is_rejected_before_the_first_step_and_its_password_is_not_shown(
    checkout: Checkout,
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is in no extra of the lock that this environment has")
    address = f"http://me:{TOKEN}@127.0.0.1:9"
    code, _, err = checkout.train("--mlflow", "on", MLFLOW_TRACKING_URI=address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert code != 0
    assert "--mlflow on: no server answers at http://127.0.0.1:9" in err
    assert TOKEN not in err


def test_without_the_library_the_hint_says_what_to_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    record = start_run(tmp_path / "runs").record
    with pytest.raises(SettingError, match="mlflow is not installed") as raised:
        tracked(record, ignore, address="on", experiment="reprise")
    assert "add mlflow-skinny" in str(raised.value.hint)
    reports: dict[str, str] = {}

    def report(name: str, reason: str) -> None:
        reports[name] = reason

    assert tracked(record.model_copy(update={"attempt": 2}), report, address="on", experiment="reprise") == []
    assert list(reports) == ["logs of MLFlowLogger"]


def test_tags_identify_the_run_and_its_inputs(tmp_path: Path) -> None:
    record = start_run(tmp_path / "runs").record
    found = tags_of(record)
    assert (found["reprise.run"], found["reprise.attempt"]) == (record.run, "1")
    assert {record.identity, record.ingredients.source} <= set(found.values())


@pytest.mark.parametrize(
    "text", ["off", "on", "http://host:5000", "https://host/path", "databricks", "sqlite:////tmp/a.db"]
)
def test_an_address_is_accepted(text: str) -> None:
    assert FitSettings(mlflow=text).mlflow == text


@pytest.mark.parametrize("text", ["", "onn", "host:5000", "http://me:secret@host", "http://host/?token=secret"])
def test_another_word_and_a_password_in_an_address_are_rejected(text: str) -> None:
    with pytest.raises(ValidationError, match="without user and password"):
        FitSettings(mlflow=text)
