"""A run in MLflow: its metrics, its settings as parameters, and its inputs by digest as tags; a resumed attempt continues it.

The run is created without the library's automatic tags: user, path of the program, git remote. Its usage statistics are disabled.
"""

from __future__ import annotations

import importlib.util
import json
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from lightning.pytorch.loggers import MLFlowLogger

from trainer.base.errors import SettingError
from trainer.base.redaction import REDACTOR
from trainer.training.failures import first_line
from trainer.training.logs.guarded_loggers import guard, report_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch.loggers import Logger

    from trainer.runs.record import Record
    from trainer.training.logs.guarded_loggers import Report

_DEFAULTS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Variables that the library reads when it is imported: with its own defaults, a server that is down blocks a step for minutes."""
_RUN: Final = "reprise.run"
_MOST: Final = 100
"""The maximum number of parameters in a request."""


def tracked(record: Record, report: Report, *, address: str, experiment: str) -> list[Logger]:
    """Return the guarded logger of the run at `address`; `on` is the address in MLFLOW_TRACKING_URI.

    Raise `SettingError` if a new run cannot be logged. For a resumed run, report that and return an empty list.
    """
    try:
        return [guard(_logger(record, address, experiment), report)]
    except SettingError as fault:
        if record.attempt == 1:
            raise
        report_failure(report, MLFlowLogger.__name__, fault)
        return []


def _logger(record: Record, address: str, experiment: str) -> MLFlowLogger:
    if importlib.util.find_spec("mlflow") is None:
        hint = "add mlflow-skinny to an extra of the environment: docs/how-to/environments.md; or use --mlflow off"
        raise SettingError(f"--mlflow {address}: mlflow is not installed in this environment", hint=hint)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.environment_variables import MLFLOW_TRACKING_URI

    variable: Any = MLFLOW_TRACKING_URI
    found = variable.get() if address == "on" else address
    if not found:
        hint = "set MLFLOW_TRACKING_URI in the shell or in .env, or use --mlflow http://HOST:5000"
        raise SettingError("--mlflow on: MLFLOW_TRACKING_URI is not set", hint=hint)
    REDACTOR.add("MLFLOW_TRACKING_URI", urlsplit(found).password)
    try:
        run = _run_of(record, found, experiment)
        logger = MLFlowLogger(experiment, tracking_uri=found, run_id=run)
        _ = logger.experiment  # otherwise Lightning reads the run later, without a guard
    except Exception as fault:  # the library raises many kinds of exceptions
        hint = "correct the address, or the variables MLFLOW_TRACKING_...; or use --mlflow off"
        raise SettingError(f"--mlflow {address}: {_reason(fault, found)}", hint=hint) from fault
    return logger


def _run_of(record: Record, address: str, name: str) -> str:
    """Return the ID of the MLflow run with this run's tag; create the MLflow run with tags and parameters if it does not exist."""
    from mlflow import MlflowClient
    from mlflow.entities import Param

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name(name)
    place = experiment.experiment_id if experiment else client.create_experiment(name)
    earlier = client.search_runs([place], filter_string=f"tags.`{_RUN}` = '{record.run}'", max_results=1)
    if earlier:
        found: str = earlier[0].info.run_id
        client.set_tag(found, "reprise.attempt", str(record.attempt))
        client.update_run(found, status="RUNNING")
        return found
    created: str = client.create_run(place, tags=tags_of(record), run_name=record.run).info.run_id
    parameters = [Param(key, _text(value)) for key, value in record.ingredients.settings.items()]
    for start in range(0, len(parameters), _MOST):
        client.log_batch(created, params=parameters[start : start + _MOST])
    return created


def _reason(fault: BaseException, address: str) -> str:
    message, each = f"{type(fault).__name__}{first_line(fault)}", fault.__context__
    while each is not None and not isinstance(each, ConnectionError | OSError):
        each = each.__context__
    if each is None:
        return message
    host = address.rpartition("@")[2]
    return f"no server responds at {host if '://' in host else 'http://' + host}"


def tags_of(record: Record) -> dict[str, str]:
    """Return the tags of a run: its ID, and its inputs by digest."""
    ingredients, source = record.ingredients, record.circumstances.source
    found: Mapping[str, Any] = {
        "run": record.run,
        "attempt": record.attempt,
        "identity": record.identity,
        "experiment": ingredients.experiment,
        "source": ingredients.source,
        "lock": ingredients.lock,
        "initial_weights": ingredients.initial_weights,
        "image": record.circumstances.image.manifest,
        "commit": source.commit,
        "dirty": source.dirty,
        **{f"dataset.{name}": each.content for name, each in ingredients.datasets.items()},
    }
    return {f"reprise.{name}": _text(value) for name, value in found.items() if value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
