"""Build a model package from a run: export its net, keep golden samples, and test the package on the run's test split."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import torch
from safetensors.torch import save

from trainer import __version__
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import PackageError
from trainer.data.declaration import sample_types
from trainer.models.card import card
from trainer.models.evaluation import TOLERANCE, compared_metrics, saved_test
from trainer.models.export import (
    GoldenSamples,
    ParityCheck,
    export_net,
    require_any_count,
    spec_of,
    varying_axes,
    watched,
)
from trainer.models.onnx_file import GoldenBatch, export_onnx
from trainer.models.package import (
    CARD,
    CERTIFICATE,
    GOLDEN,
    ONNX,
    PROGRAM,
    RECORD,
    WEIGHTS,
    Package,
    PackageFile,
    PackageFolder,
    ParityCertificate,
)
from trainer.models.parity import check_ways
from trainer.models.prediction import inputs_of
from trainer.models.program_file import read_program
from trainer.models.weights_retest import measured_on_test
from trainer.runs.hardware import read_host
from trainer.training.saved_net import read_weights
from trainer.training.tasks.predictions import PredictionForm
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from trainer.data.declaration import Dataset
    from trainer.models.evaluation import TestSplit
    from trainer.models.onnx_file import OnnxGraph
    from trainer.models.package import TensorSpec
    from trainer.runs.record import Record
    from trainer.training.assembly import FetchedDataset
    from trainer.training.saved_net import SavedNet

OnnxChoice = Literal["auto", "required", "off"]
"""Whether a package gets an ONNX graph: if the net allows it (`auto`), always, or an error (`required`), or never (`off`)."""
SAMPLES: Final = 16
"""Golden samples of a package, at most."""
_LONGEST: Final = 1000
"""The maximum number of characters of a line in a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPackage:
    """A package that is not yet written."""

    package: Package
    certificate: ParityCertificate
    files: dict[str, bytes]

    @property
    def opened(self) -> PackageFolder:
        """The package as if it was read from a folder. The path of the folder is the package's name."""
        path = Path(self.package.name)
        return PackageFolder(path=path, package=self.package, certificate=self.certificate, files=self.files)


def build_package(
    record: Record,
    folder: Path,
    datasets: Sequence[FetchedDataset],
    *,
    build_id: str | None,
    onnx: OnnxChoice = "auto",
    say: Callable[[str], object],
) -> BuiltPackage:
    """Export the net of a run whose code this process may execute, and test the package on the run's test split.

    `build_id` identifies the image of this process. Raise what `saved_test` raises, and `PackageError` if the net cannot be packaged, or a
    required ONNX graph cannot be made.
    """
    with saved_test(record, folder, datasets) as tested:
        net = tested.saved.net
        form = net.prediction_form() if isinstance(net, Task) else PredictionForm()
        golden = GoldenSamples(form=form, most=SAMPLES)
        with watched(net, golden.call):
            tested.run()
        if not golden.inputs:
            message = f"the test of {type(net).__name__} does not call its forward"
            raise PackageError(message, hint="call self(x) in test_step")
        say(f"exporting the net of run {record.run}")
        parts = _parts(record, folder, tested, golden, say=say)
        exported = read_program(parts.program, where=PROGRAM)
        program = exported.module()
        require_any_count(program, golden.joined()[0])
        graph, omitted = _graph(exported, parts, onnx)
        check = ParityCheck(form=form, program=program)
        say("testing the package on the test split")
        with watched(net, check.call):
            metrics = compared_metrics(record, tested.run())
    outputs, weights = check.result(), read_weights(record, folder)
    certificate = ParityCertificate(
        program=digest_of_bytes(parts.program),
        holds=outputs.largest <= TOLERANCE and all(each.holds for each in metrics),
        tolerance=TOLERANCE,
        test=outputs,
        metrics=metrics,
        onnx=graph and graph.parity,
        onnx_omitted=omitted,
        build_id=build_id,
        device=read_host().cpu,
        torch=torch.__version__,
        when=datetime.now(UTC),
        reprise=__version__,
    )
    files = {WEIGHTS: weights, **({} if graph is None else {ONNX: graph.data})}
    say("testing the golden samples by predict and by a server")
    ways = check_ways(parts.package(record, certificate, files=files).opened)
    holds = certificate.holds and all(each.holds for each in ways)
    return parts.package(record, certificate.model_copy(update={"ways": ways, "holds": holds}), files=files)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PackageParts:
    """The parts of a package that the net determines."""

    program: bytes
    dataset: Dataset | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: GoldenSamples
    tensors: dict[str, Tensor]

    def package(self, record: Record, certificate: ParityCertificate, *, files: dict[str, bytes]) -> BuiltPackage:
        """Return the package of a run with its parts, `certificate` and further `files`."""
        files = {
            PROGRAM: self.program,
            **files,
            GOLDEN: save(self.tensors),
            RECORD: record.to_json(),
            CERTIFICATE: certificate.to_json(),
            CARD: card(record, self.dataset, self.inputs, has_graph=ONNX in files).encode(),
        }
        package = Package(
            run=record.run,
            attempt=record.attempt,
            experiment=record.ingredients.experiment,
            identity=record.identity,
            dataset=self.dataset,
            inputs=self.inputs,
            outputs=self.outputs,
            answer=self.golden.form,
            golden=self.golden.count,
            metrics=measured_on_test(record),
            torch=torch.__version__,
            files=tuple(_listed(path, data) for path, data in files.items()),
        )
        return BuiltPackage(package=package, certificate=certificate, files=files)


def _graph(
    exported: torch.export.ExportedProgram, parts: _PackageParts, choice: OnnxChoice
) -> tuple[OnnxGraph | None, str | None]:
    """Return the ONNX graph, or why there is no graph; neither for `off`. Raise `PackageError` if a required graph cannot be made."""
    if choice == "off":
        return None, None
    inputs, outputs = parts.golden.joined()
    golden = GoldenBatch(specs=parts.inputs, inputs=inputs, outputs=outputs, form=parts.golden.form)
    try:
        return export_onnx(exported, golden), None
    except PackageError as fault:
        if choice == "required":
            raise
        return None, "".join(each if each.isprintable() else " " for each in fault.message)[:_LONGEST]


def _listed(path: str, data: bytes) -> PackageFile:
    return PackageFile.model_validate({"path": path, "sha256": digest_of_bytes(data), "bytes": len(data)})


def _parts(
    record: Record, folder: Path, tested: TestSplit, golden: GoldenSamples, *, say: Callable[[str], object]
) -> _PackageParts:
    """Export the net, and describe its inputs and outputs."""
    (inputs, outputs), saved = golden.joined(), tested.saved
    dataset, names, declared = _read_by(record, folder, saved, count=len(inputs))
    if dataset is not None and not isinstance(saved.net, Task) and (changed := _changed_input(tested, names, golden)):
        say(
            f"the test changes {changed} before it calls forward: the package takes tensors, not files of {dataset.title}"
        )
        dataset, declared = None, {}
    variable = [golden.variable(number) | declared.get(number, set()) for number in range(len(inputs))]
    body = io.BytesIO()
    program = export_net(saved.net, inputs, golden.form, variable=variable)
    varying = varying_axes(program, [*outputs])
    torch.export.save(program, body)
    given = dict(zip(names, inputs, strict=True))
    return _PackageParts(
        program=body.getvalue(),
        dataset=dataset,
        inputs=tuple(
            spec_of(name, each, variable=axes, has_range=True)
            for (name, each), axes in zip(given.items(), variable, strict=True)
        ),
        outputs=tuple(
            spec_of(name, each, variable=golden.variable(name) | varying[name]) for name, each in outputs.items()
        ),
        golden=golden,
        tensors={
            **{f"input/{name}": each for name, each in given.items()},
            **{f"output/{name}": each for name, each in outputs.items()},
        },
    )


def _changed_input(tested: TestSplit, names: Sequence[str], golden: GoldenSamples) -> str | None:
    """Return the first input that differs from the field of its name, such as a picture that a step or a hook normalizes; else `None`."""
    first = zip(names, golden.inputs[0], strict=True)
    return next((name for name, each in first if not tested.begins_with(name, each)), None)


def _read_by(
    record: Record, folder: Path, saved: SavedNet, *, count: int
) -> tuple[Dataset | None, tuple[str, ...], dict[int, set[int]]]:
    """Return the dataset that reads the net's inputs, their names, and the axes of each input whose length the dataset lets vary."""
    dataset, fields = inputs_of(saved, record, folder, count=count)
    if dataset is None:
        return None, fields, {}
    dataset = dataset.published
    types = sample_types(dataset)
    lengths = [each.shape if (each := types[name]) is not None else () for name in fields]
    variable = {
        number: {axis for axis, length in enumerate(shape, start=1) if length == "any"}
        for number, shape in enumerate(lengths)
    }
    return dataset, fields, variable
