"""MLflow: a real server gets metrics, settings and inputs; a resumed run continues its MLflow run; no credential is recorded."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from pydantic import ValidationError

from tests.runs.runs import start_run
from tests.venvs import make_client
from trainer.base.errors import SettingError
from trainer.training.logs.mlflow_run import tags_of, tracked
from trainer.training.settings import FitSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch]
REQUIREMENTS: Final = Path(__file__).with_name("mlflow.txt")
"""The full MLflow with its dependencies, by hash. A run needs only its client library; no environment has its server."""
TOKEN: Final = "planted-token-of-mlflow"  # noqa: S105 - a made-up value


def ignore(_name: str, _reason: str) -> None: ...


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the environments `server` and `client` of MLflow; return their folder."""
    folder = tmp_path_factory.mktemp("environments")
    python = make_client(folder, REQUIREMENTS)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [python, "-c", "import mlflow"]
    subprocess.run(command, check=True, env=environ)  # compiled once, not in every run
    return folder


@pytest.fixture
def logging_checkout(checkout: Checkout, installed: Path) -> Checkout:
    """The checkout, with a Python that has the library."""
    return replace(checkout, python=str(installed / "client/bin/python"))


@pytest.fixture(scope="module")
def server(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = str(installed / "server/bin/mlflow")
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "files")]
    environ = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the server starts several processes with many modules
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
    end = monotonic() + 300
    while monotonic() < end and process.poll() is None:
        try:
            with urlopen(address, timeout=1):  # noqa: S310 - the server of this test
                return
        except OSError:
            continue
    pytest.fail("the server of MLflow does not respond")


def ask(address: str, method: str, content: dict[str, Any] | None = None, **query: str) -> Any:
    """Call a method of the server's API; `content` is posted as JSON."""
    body = None if content is None else json.dumps(content).encode()
    url = f"{address}/api/2.0/mlflow/{method}?{urlencode(query)}"
    with urlopen(Request(url, data=body, headers={"Content-Type": "application/json"}), timeout=30) as answer:  # noqa: S310 - the server of this test
        return json.load(answer)


def runs_of(address: str, experiment: str) -> list[dict[str, Any]]:
    """Return the runs of an experiment, each with its tables of metrics, params and tags."""
    found = ask(address, "experiments/get-by-name", experiment_name=experiment)["experiment"]["experiment_id"]
    return [
        {**run["info"], **{table: {each["key"]: each["value"] for each in run["data"][table]} for table in run["data"]}}
        for run in ask(address, "runs/search", {"experiment_ids": [found]})["runs"]
    ]


@pytest.mark.trains
@pytest.mark.index
@pytest.mark.long
def test_a_server_gets_metrics_settings_and_inputs(logging_checkout: Checkout, server: str) -> None:
    words = ("--max-epochs", "2", "--mlflow", "on", "--mlflow-experiment", "whole", "--no-publish")
    code, out, err = logging_checkout.train(*words, MLFLOW_TRACKING_URI=server, MLFLOW_TRACKING_TOKEN=TOKEN)
    assert code == 0, err
    attempt, record = logging_checkout.last()
    (found,) = runs_of(server, "whole")
    assert (found["run_name"], found["status"]) == (record.run, "FINISHED")
    assert found["tags"]["reprise.identity"] == record.identity
    assert found["tags"]["reprise.dataset.dots"] == record.ingredients.datasets["dots"].content
    assert not [name for name in found["tags"] if name.startswith(("mlflow.user", "mlflow.source"))]
    assert found["params"]["learning_rate"] == "0.001"
    assert found["metrics"]["test_accuracy"] == record.outcome.metrics["test_accuracy"]
    assert "telemetry/samples_per_second" in found["metrics"]
    everything = out + err + "".join(path.read_text(errors="replace") for path in attempt.rglob("*") if path.is_file())
    assert TOKEN not in everything
    assert "View run" not in out


@pytest.mark.trains
@pytest.mark.index
@pytest.mark.long
def test_a_resumed_run_continues_its_run_in_mlflow(logging_checkout: Checkout, server: str) -> None:
    words = ("--max-epochs", "60", "--mlflow", server, "--mlflow-experiment", "resumed", "--no-publish")
    process = logging_checkout.start(*words)
    assert process.stderr is not None
    run = ""
    for line in process.stderr:
        run = run or (found[1] if (found := re.match(r"run (\S+):", line)) else "")
        if line.startswith("epoch 2/"):
            process.terminate()
            break
    process.communicate()
    assert process.returncode == 75
    assert [each["status"] for each in runs_of(server, "resumed")] == ["FAILED"]
    done = logging_checkout.reprise("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    (found_run,) = runs_of(server, "resumed")
    assert (found_run["status"], found_run["tags"]["reprise.attempt"]) == ("FINISHED", "2")
    history = ask(server, "metrics/get-history", run_id=found_run["run_id"], metric_key="val_loss")["metrics"]
    assert [int(each["step"]) for each in history] == [7 * epoch for epoch in range(1, 61)]


@pytest.mark.trains
@pytest.mark.index
@pytest.mark.long
def test_a_server_that_is_down_is_rejected_before_the_first_step_and_its_password_is_not_shown(
    logging_checkout: Checkout,
) -> None:
    address = f"http://me:{TOKEN}@127.0.0.1:9"
    variables = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    code, _, err = logging_checkout.train("--mlflow", "on", **variables)
    assert code != 0
    assert "--mlflow on: no server responds at http://127.0.0.1:9" in err
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
    with pytest.raises(ValidationError, match="without user or password"):
        FitSettings(mlflow=text)
