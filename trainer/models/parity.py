"""Test of a package's golden samples in each way in which a package is used: as a program, by `predict`, and by a server.

The outputs of each way are compared with those of two references. The program, called directly on the same batches, runs the same kernels,
so every bit must be equal. The run's net computed its outputs in the batches of the run's test, where other kernels can run, so differences
within the tolerance are allowed.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from trainer.base.errors import PackageError, RepriseError
from trainer.models.evaluation import TOLERANCE
from trainer.models.export import ParityCheck
from trainer.models.golden_files import golden_files
from trainer.models.package import WayParity
from trainer.models.packaged import PackagedModel, golden_samples
from trainer.models.predictions_file import PredictionsFile
from trainer.models.serving.limits import Limits
from trainer.models.serving.local import served_locally
from trainer.models.serving.tensors import protocol_tensor
from trainer.training.tasks.predictions import CLASSES, OUTPUT, SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Literal

    from torch import Tensor

    from trainer.models.golden_files import GoldenFile
    from trainer.models.inputs import InputReader
    from trainer.models.package import OutputComparison, PackageFolder
    from trainer.models.serving.server import Server
    from trainer.training.readers import Batch
    from trainer.training.tasks.predictions import PredictionForm

    Outputs = dict[str, Tensor]
    Way = Literal["batch", "http", "v2"]

_LIMITS: Final = Limits(max_body=64 << 20, timeout=600.0)
_MOST_VALUES: Final = 1 << 19
"""The maximum number of values in the tensors of a request, unless one sample has more. A server accepts at most a million."""
_OK: Final = 200
"""The HTTP status of a response without an error."""
_LONGEST: Final = 500
"""The maximum number of characters of a reason in the certificate."""


class _UntestedError(Exception):
    """The golden samples cannot be sent in this way."""


def check_ways(opened: PackageFolder) -> tuple[WayParity, ...]:
    """Test the golden samples of a package in each way. If a way fails, its result has the fault."""
    try:
        model = PackagedModel(opened)
    except RepriseError as fault:
        return (WayParity(way="python", holds=False, fault=_line(fault.message)),)
    golden = _Golden(model)
    calls: dict[Way, Callable[[Server], _WayOutputs]] = {
        "batch": lambda _: golden.batch(),
        "http": golden.http,
        "v2": golden.protocol,
    }
    with served_locally(model, _LIMITS, say=lambda _: None) as server:
        ways = [golden.compared(way, call, server) for way, call in calls.items()]
    return (WayParity(way="python", holds=True, measured=model.golden), *ways)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WayOutputs:
    """The outputs of one way, and the batches in which the samples were sent."""

    outputs: Outputs
    batches: Sequence[slice]


class _Golden:
    """The golden samples of a package, and methods that send them."""

    def __init__(self, model: PackagedModel) -> None:
        self._model, self._form, self._count = model, model.package.answer, model.package.golden
        self._inputs, self._expected = golden_samples(model.opened)
        self._files: list[GoldenFile] = []
        self._without_files = ""
        try:
            self._files = golden_files(model.reader, self._inputs)
        except PackageError as fault:
            self._without_files = fault.message

    def compared(self, way: Way, call: Callable[[Server], _WayOutputs], server: Server) -> WayParity:
        """Send the samples in one way, and compare the outputs."""
        try:
            found = call(server)
            program = self._comparison(found, self._directly(found.batches))
        except _UntestedError as fault:
            return WayParity(way=way, holds=True, untested=_line(str(fault)))
        except (RepriseError, OSError, HTTPException) as fault:
            message = fault.message if isinstance(fault, RepriseError) else f"{type(fault).__name__}: {fault}"
            return WayParity(way=way, holds=False, fault=_line(message))
        measured = self._comparison(found, self._expected)
        holds = program.identical and measured.largest <= TOLERANCE
        return WayParity(way=way, holds=holds, measured=measured, program=program)

    def batch(self) -> _WayOutputs:
        """Predict files as `reprise predict FILE... --output` does."""
        if not self._files:
            raise _UntestedError(self._without_files)
        self._require_finite(carried(self._form, self._expected))
        with tempfile.TemporaryDirectory(prefix="reprise-golden-") as folder:
            paths = [Path(folder) / each.name for each in self._files]
            for path, file in zip(paths, self._files, strict=True):
                path.write_bytes(file.body)
            target = PredictionsFile(Path(folder) / "predictions.jsonl", self._model.package.digest, paths)
            watched = _Watched(self._model)
            target.write(watched, report=lambda: None)
            lines = [json.loads(line) for line in target.path.read_bytes().splitlines()]
        if error := next((each["error"] for each in lines if "error" in each), None):
            raise PackageError(error, hint="reprise predict")
        return self._outputs([each["answer"] for each in lines], watched.batches)

    def http(self, server: Server) -> _WayOutputs:
        """Send requests to `/predict`: files if the inputs can be written as files other than .npz, else tensors in JSON."""
        self._require_finite(carried(self._form, self._expected))
        if self._files and not self._files[0].name.endswith(".npz"):
            found = [_post(server, "/predict", each.body) for each in self._files]
            return self._outputs(_predictions(found), [each.samples for each in self._files])
        batches = self._batches()
        bodies = [{name: each[some].tolist() for name, each in self._inputs.items()} for some in batches]
        found = [_post(server, "/predict", json.dumps({"inputs": each}).encode()) for each in bodies]
        return self._outputs(_predictions(found), batches)

    def protocol(self, server: Server) -> _WayOutputs:
        """Send inference requests of the Open Inference Protocol."""
        self._require_finite(self._expected)
        batches, path = self._batches(), f"/v2/models/{server.service.name}/infer"
        found = []
        for some in batches:
            tensors = [protocol_tensor(name, each[some].numpy()) for name, each in self._inputs.items()]
            outputs = _post(server, path, json.dumps({"inputs": tensors}).encode())["outputs"]
            found.append({each["name"]: self._tensor(each["name"], each["data"], each["shape"]) for each in outputs})
        return _WayOutputs(outputs=_joined(found), batches=batches)

    def _batches(self) -> list[slice]:
        """Return the samples of each request with tensors. Raise `_UntestedError` if one sample is too large."""
        values = sum(each[0].numel() for each in self._inputs.values())
        if values > 2 * _MOST_VALUES:
            raise _UntestedError(f"a sample has {values:,} values; a request in JSON has at most {2 * _MOST_VALUES:,}")
        if not all(bool(each.isfinite().all()) for each in self._inputs.values()):
            raise _UntestedError("an input is not finite; JSON cannot represent such numbers")
        step = max(1, min(self._count, _MOST_VALUES // max(1, values)))
        return [slice(first, min(first + step, self._count)) for first in range(0, self._count, step)]

    def _require_finite(self, names: Iterable[str]) -> None:
        """Raise `_UntestedError` for an output that JSON cannot hold."""
        for name in names:
            if not bool(self._expected[name].isfinite().all()):
                raise _UntestedError(f"{name} is not finite for a golden sample; JSON cannot represent such numbers")

    def _directly(self, batches: Sequence[slice]) -> Outputs:
        """Return the program's outputs for the batches."""
        return _joined(
            [self._model.outputs({name: each[some] for name, each in self._inputs.items()}) for some in batches]
        )

    def _comparison(self, found: _WayOutputs, expected: Outputs) -> OutputComparison:
        check = ParityCheck(form=self._form, program=lambda *_: {})
        check.compare(found.outputs, {name: expected[name] for name in found.outputs}, samples=self._count)
        return check.result()

    def _outputs(self, found: Sequence[Mapping[str, Any]], batches: Sequence[slice]) -> _WayOutputs:
        """Return the outputs in predictions. Raise `PackageError` if a prediction differs from the one derived from its outputs."""
        outputs = {name: self._tensor(name, each) for name, each in values_of(self._form, found).items()}
        derived = self._form.predictions(outputs)
        if number := next(
            (at for at, pair in enumerate(zip(found, derived, strict=False)) if pair[0] != pair[1]), None
        ):
            message = f"the prediction for golden sample {number} does not follow from its outputs: {_line(str(found[number]))}"
            raise PackageError(message, hint="make the package again")
        return _WayOutputs(outputs=outputs, batches=batches)

    def _tensor(self, name: str, values: Any, shape: Sequence[int] | None = None) -> Tensor:
        found = torch.tensor(values, dtype=self._expected[name].dtype)
        return found if shape is None else found.reshape([*shape])


@dataclass(slots=True)
class _Watched:
    """A model that notes the batches that it predicts."""

    model: PackagedModel
    batches: list[slice] = field(default_factory=list)

    @property
    def reader(self) -> InputReader:
        return self.model.reader

    def predictions(self, batch: Batch) -> list[dict[str, Any]]:
        first = self.batches[-1].stop if self.batches else 0
        self.batches.append(slice(first, first + len(next(iter(batch.values())))))
        return self.model.predictions(batch)


def carried(form: PredictionForm, names: Collection[str]) -> list[str]:
    """Return which of the named outputs a prediction has."""
    if form.kind == "values":
        return [*names]
    return [SCORES if SCORES in names else CLASSES]


def values_of(form: PredictionForm, predictions: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the outputs in predictions as nested lists `[samples, ...]`, by the names of `PredictionForm.outputs`."""
    if form.kind == "values":
        return {name: [each[name] for each in predictions] for name in predictions[0]}
    if all(SCORES in each for each in predictions):
        return {SCORES: [[each[SCORES][name] for name in form.names] for each in predictions]}
    return {CLASSES: [each[OUTPUT] for each in predictions]}


def _joined(batches: Sequence[Outputs]) -> Outputs:
    return {name: torch.cat([each[name] for each in batches]) for name in batches[0]}


def _predictions(responses: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [each for response in responses for each in response["predictions"]]


def _post(server: Server, path: str, body: bytes) -> Any:
    """Return the JSON of the server's response. Raise `PackageError` if its status is not 200."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=_LIMITS.timeout + 60)
    try:
        connection.request("POST", path, body, {"content-type": _media_type(body)})
        response = connection.getresponse()
        content = json.loads(response.read())
    finally:
        connection.close()
    if response.status != _OK:
        raise PackageError(f"status {response.status}: {content['error']}", hint=content["hint"])
    return content


def _media_type(body: bytes) -> str:
    return "application/json" if body[:1] == b"{" else "application/octet-stream"


def _line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:_LONGEST]
