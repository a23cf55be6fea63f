"""A loaded model package. Its program is first run on the golden samples, and its outputs are compared with the stored outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from trainer.base.errors import DatasetError, DocumentError, PackageError
from trainer.models.evaluation import TOLERANCE
from trainer.models.export import ParityCheck, spec_of
from trainer.models.inputs import FAILURES, InputReader, net_failed
from trainer.models.package import GOLDEN, PROGRAM, open_package
from trainer.models.program_file import read_program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from trainer.models.package import OutputComparison, PackageFolder
    from trainer.training.readers import Batch

_MOST_SHAPES: Final = 1024
"""The maximum number of batch shapes that a model remembers as validated."""


class PackagedModel:
    """The model of a package."""

    def __init__(self, opened: PackageFolder) -> None:
        """Load the program and run it on the golden samples.

        Raise `DocumentError` if a file of the package is invalid, and `PackageError` if the outputs differ from the golden outputs.
        """
        self.opened, self.package = opened, opened.package
        self._program = read_program(opened.files[PROGRAM], where=str(opened.path / PROGRAM)).module()
        self._shapes: set[tuple[torch.Size, ...]] = set()
        self.golden = self._check_golden()

    @property
    def reader(self) -> InputReader:
        """The reader of the package's input files. It reads arrays if the inputs are not the fields of a dataset."""
        specs = {each.name: each for each in self.package.inputs}
        return InputReader(dataset=self.package.dataset, fields=tuple(specs), specs=specs)

    def checked(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the input tensors `[samples, ...]` in the program's order. Raise `DatasetError` if a tensor does not fit the package."""
        inputs = {}
        for spec in self.package.inputs:
            if (value := batch.get(spec.name)) is None:
                given = ", ".join(batch) or "nothing"
                raise DatasetError(f"the input {spec} is missing; given: {given}", hint=f"send {spec.name}")
            kind, shape = str(value.dtype).removeprefix("torch."), tuple(value.shape[1:])
            if not value.ndim or not spec.admits(kind, shape):
                message = f"the input {spec.name} is {kind} {[*value.shape]}; expected samples of {spec}"
                raise DatasetError(message, hint="convert it")
            inputs[spec.name] = value
        counts = {len(each) for each in inputs.values()}
        if len(counts) > 1:
            raise DatasetError(f"the inputs have different numbers of samples: {sorted(counts)}", hint="send one batch")
        return inputs

    def outputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the named outputs `[samples, ...]` for the input tensors.

        Raise `DatasetError` if the tensors do not fit the package, or if the program fails for their values.
        """
        inputs = self.checked(batch)
        try:
            with torch.inference_mode():
                return self._called(inputs)
        except FAILURES as fault:
            raise net_failed(f"package {self.package.name}", fault) from fault

    def _called(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the program. It validates only shapes that are new: the validation takes longer than a small net."""
        shapes = tuple(each.shape for each in inputs.values())
        self._program.validate_inputs = shapes not in self._shapes  # type: ignore[assignment] # torch has no type for it
        found: dict[str, Tensor] = self._program(*inputs.values())
        if len(self._shapes) < _MOST_SHAPES:
            self._shapes.add(shapes)
        return found

    def predictions(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the prediction for each sample of a batch."""
        return self.package.answer.predictions(self.outputs(batch))

    def _check_golden(self) -> OutputComparison:
        inputs, outputs = golden_samples(self.opened)
        check = ParityCheck(form=self.package.answer, program=self._program)
        with torch.inference_mode():
            check.compare(self._program(*inputs.values()), outputs, samples=self.package.golden)
        result = check.result()
        if result.largest > TOLERANCE:
            message = (
                f"package {self.package.name} does not reproduce its golden outputs: {result.output} of golden sample {result.sample} "
                f"differs by {result.largest:.3g} of its largest value; the tolerance is {TOLERANCE:g}"
            )
            raise PackageError(
                message, hint="use the image that the certificate names; `reprise doctor` checks this machine"
            )
        return result


def golden_samples(opened: PackageFolder) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the golden inputs and outputs by name. Raise `DocumentError` if they do not fit the package's document."""
    path, package = opened.path / GOLDEN, opened.package
    try:
        tensors = load(opened.files[GOLDEN])
    except SafetensorError as fault:
        raise DocumentError(f"{path} is not a safetensors file: {fault}", hint="fetch the package again") from fault
    found = []
    for kind, specs in (("input", package.inputs), ("output", package.outputs)):
        part = {each.name: tensors.pop(f"{kind}/{each.name}", None) for each in specs}
        for spec in specs:
            value = part[spec.name]
            if value is None or len(value) != package.golden or not spec.admits(*_typed(spec.name, value)):
                raise DocumentError(
                    f"{path} does not hold {package.golden} samples of {spec}", hint="make the package again"
                )
        found.append(part)
    return found[0], found[1]  # type: ignore[return-value] # no tensor is missing


def _typed(name: str, value: Tensor) -> tuple[str, tuple[Any, ...]]:
    spec = spec_of(name, value)
    return spec.dtype, spec.shape


def load_package(path: Path) -> PackagedModel:
    """Open a package, verify its files, and load its program. Raise what `open_package` and `PackagedModel` raise."""
    return PackagedModel(open_package(path))
