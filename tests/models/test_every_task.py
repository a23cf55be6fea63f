"""For each task, a run's net, its package and its server return equal predictions for 1,000 new samples.

The predictions are bit-identical if the certificate states that those of the run's test are; otherwise the tolerance applies.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import math
import pkgutil
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import trainer.experiments
import trainer.training.tasks
from tests.models.kinds import KINDS, train
from tests.models.new_samples import COUNT, rows_of, write_samples
from tests.models.serving.running import running
from trainer import runs
from trainer.cli import predict
from trainer.models.evaluation import TOLERANCE
from trainer.models.export import difference
from trainer.models.inputs import BATCH
from trainer.models.packaged import load_package
from trainer.models.prediction import load_model
from trainer.models.serving.limits import Limits
from trainer.models.serving.tensors import protocol_tensor
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.models.serving.running import Running
    from tests.training.conftest import Checkout
    from trainer.models.packaged import PackagedModel
    from trainer.models.prediction import RunModel

    Batch = dict[str, torch.Tensor]

pytestmark = [pytest.mark.torch]
EVERY_TIME: Final = ("table", "multi-task")
"""The kinds of model that each test run trains. Other kinds are trained in campaigns."""
_SIZES: Final = (1, 64, 3, 200, 65)
"""Samples of requests. A server and `predict` divide more than 64 samples into batches of 64."""
_ALONE: Final = Limits(batch_wait=0, max_body=64 << 20)


def tasks() -> set[str]:
    """Return the names of the classes from which the nets of experiments are derived."""
    names = [each.name for each in pkgutil.iter_modules(trainer.training.tasks.__path__)]
    modules = [importlib.import_module(f"trainer.training.tasks.{name}") for name in names]
    found = [each for module in modules for _, each in inspect.getmembers(module, inspect.isclass)]
    return {each.__name__ for each in found if issubclass(each, Task) and each is not Task and each.__name__[0] != "_"}


def test_each_task_and_each_experiment_has_a_kind() -> None:
    assert tasks() | {"LightningModule"} == {each.task for each in KINDS.values()}
    experiments = {each.name for each in pkgutil.iter_modules(trainer.experiments.__path__)}
    assert experiments == {each.like for each in KINDS.values() if each.like}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A run, its package, and new samples."""

    kind: str
    checkout: Checkout
    folder: Path
    model: RunModel
    package: PackagedModel
    files: list[Path]
    parts: list[Batch]
    """The inputs as the run reads them; a part holds consecutive samples of equal shape."""

    def requests(self) -> Iterator[Batch]:
        """Yield all samples in order, divided as requests of different sizes."""
        sizes = cycle(_SIZES)
        for part in self.parts:
            first, count = 0, count_of(part)
            while first < count:
                size = next(sizes)
                yield {name: each[first : first + size] for name, each in part.items()}
                first += size

    def predicted(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the predictions of the run's net for samples in batches of 64."""
        return [each for some in batches_of(batch) for each in self.model.predictions(some)]

    @property
    def tolerance(self) -> float:
        """The largest difference, relative to the largest number: 0 if the program was bit-identical to the net in the run's test."""
        return 0.0 if self.package.opened.certificate.test.identical else TOLERANCE

    def require_equal(self, way: str, found: Sequence[Any], expected: Sequence[Any], *, tolerance: float) -> None:
        """Fail with the first sample whose prediction differs: its input and the different values."""
        assert len(found) == len(expected) == COUNT
        slack = tolerance and tolerance * max(map(largest, expected))
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            if one != other and apart(one, other) > slack:
                name = next((name for name in other if apart(one.get(name), other[name]) > slack), "an output")
                given = {name: each.tolist() for name, each in self.sample(number).items()}
                pytest.fail(f"{self.kind} by {way}: sample {number}, {given}: {name} is {one}; the run: {other}")

    def sample(self, number: int) -> Batch:
        for part in self.parts:
            if number < count_of(part):
                return {name: each[number] for name, each in part.items()}
            number -= count_of(part)
        raise AssertionError(number)


def largest(value: Any) -> float:
    """Return the largest absolute number in a prediction or a part of it."""
    parts = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return abs(value) if isinstance(value, int | float) else max(map(largest, parts), default=0.0)


def apart(one: Any, other: Any) -> float:
    """Return the largest difference between the numbers of two predictions; infinity if anything else differs."""
    if isinstance(one, dict) and isinstance(other, dict) and [*one] == [*other]:
        return max((apart(one[name], each) for name, each in other.items()), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(apart, one, other), default=0.0)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other)
    return 0.0 if one == other else math.inf


def count_of(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def batches_of(batch: Batch) -> Iterator[Batch]:
    for first in range(0, count_of(batch), BATCH):
        yield {name: each[first : first + BATCH] for name, each in batch.items()}


def joined(batches: Sequence[Batch]) -> Batch:
    return {name: torch.cat([each[name] for each in batches]) for name in batches[0]}


@pytest.fixture(
    scope="module",
    params=[each if each in EVERY_TIME else pytest.param(each, marks=pytest.mark.long) for each in KINDS],
)
def trained(request: pytest.FixtureRequest, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    kind = request.param
    run = train(checkout, kind, tmp_path_factory.mktemp("data"))
    done = checkout.reprise("package", run, "--onnx", "off", "--json")
    assert done.returncode == 0, done.stderr
    folder, files = checkout.root / "runs" / run, write_samples(kind, tmp_path_factory.mktemp("new"))
    model = load_model(runs.load(str(folder)).record, folder)
    assert KINDS[kind].task in {each.__name__ for each in type(model.net).__mro__}
    read = [joined([*model.reader.of_file(file)]) for file in files]
    return Trained(
        kind=kind,
        checkout=checkout,
        folder=folder,
        model=model,
        package=load_package(Path(json.loads(done.stdout)["path"])),
        files=files,
        parts=[joined(read)] if model.reader.is_one_sample else read,
    )


@pytest.mark.trains
def test_the_package_predicts_as_the_run(trained: Trained) -> None:
    for batch in trained.requests():
        found, expected = trained.package.outputs(batch), trained.model.outputs(batch)
        for name, each in expected.items():
            relative, sample = difference(each, found[name])
            assert relative <= trained.tolerance, (
                trained.kind,
                name,
                {key: part[sample] for key, part in batch.items()},
            )
    assert trained.package.opened.certificate.holds


@pytest.mark.trains
def test_predict_predicts_as_the_run(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main([str(trained.package.opened.path), str(trained.files[0].parent), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["predictions"]
    of_run = [each["answer"] for each in runs.load(str(trained.folder)).predict(*trained.files, trust=True)]
    trained.require_equal("predict", [each["answer"] for each in printed], of_run, tolerance=trained.tolerance)
    by_batches = [each for part in trained.parts for each in trained.predicted(part)]
    trained.require_equal("its batches", of_run, json.loads(json.dumps(by_batches)), tolerance=0.0)


@pytest.fixture(scope="module")
def server(trained: Trained) -> Iterator[Running]:
    with running(trained.package, _ALONE) as started:
        yield started


@pytest.mark.trains
def test_a_server_predicts_tensors_as_the_run(trained: Trained, server: Running) -> None:
    found, expected = [], []
    for batch in trained.requests():
        sent = server.post("/predict", {"inputs": {name: each.tolist() for name, each in batch.items()}})
        assert sent.status == 200, sent.body
        found += sent.json["predictions"]
        expected += trained.predicted(batch)
    trained.require_equal("POST /predict with tensors", found, expected, tolerance=trained.tolerance)


@pytest.mark.trains
def test_a_server_predicts_files_as_the_run(trained: Trained, server: Running) -> None:
    found, expected = [], []
    for body, batch in bodies(trained):
        sent = server.post("/predict", body)
        assert sent.status == 200, sent.body
        found += sent.json["predictions"]
        expected += trained.predicted(batch)
    trained.require_equal("POST /predict with files", found, expected, tolerance=trained.tolerance)


def bodies(trained: Trained) -> Iterator[tuple[Any, Batch]]:
    """Yield the bodies of requests, each a file or a JSON object, with their inputs."""
    if trained.model.reader.is_one_sample:
        for number, file in enumerate(trained.files):
            yield file.read_bytes(), {name: each[None] for name, each in trained.sample(number).items()}
        return
    rows, first = rows_of(trained.kind), 0
    for batch in trained.requests():
        if rows is not None:
            yield {"rows": rows[first : first + count_of(batch)]}, batch
        elif len(batch) == 1:
            body = io.BytesIO()
            np.save(body, next(iter(batch.values())).numpy())
            yield body.getvalue(), batch
        else:
            yield {"inputs": {name: each.tolist() for name, each in batch.items()}}, batch
        first += count_of(batch)


@pytest.mark.trains
def test_a_server_predicts_by_the_inference_protocol_as_the_run(trained: Trained, server: Running) -> None:
    for batch in trained.requests():
        tensors = [protocol_tensor(name, each.numpy()) for name, each in batch.items()]
        sent = server.post(server.infer, {"inputs": tensors})
        assert sent.status == 200, sent.body
        expected = joined([trained.model.outputs(some) for some in batches_of(batch)])
        for each in sent.json["outputs"]:
            own = expected.pop(each["name"])
            found = torch.tensor(each["data"], dtype=own.dtype).reshape(each["shape"])
            relative, sample = difference(own, found)
            assert relative <= trained.tolerance, (
                trained.kind,
                each["name"],
                {key: part[sample] for key, part in batch.items()},
            )
        assert not expected
