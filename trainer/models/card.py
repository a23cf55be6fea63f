"""The model card of a package: what the model is, what it was measured on, and how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.suggestions import counted
from trainer.runs.metric_text import is_of_test

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.declaration import Dataset
    from trainer.models.package import TensorSpec
    from trainer.runs.record import Record


def card(record: Record, dataset: Dataset | None, inputs: Sequence[TensorSpec], *, has_graph: bool) -> str:
    """Return the model card as Markdown; `has_graph` states whether the package has an ONNX graph."""
    device, level = record.ingredients.device, record.ingredients.determinism.level
    lines = [
        f"# {record.ingredients.experiment}",
        "",
        f"The model of run `{record.run}`, identity `{record.identity}`.",
        "",
        "## Measured",
        "",
        "| metric of the test split | value |",
        "| --- | ---: |",
        *(f"| {name} | {value} |" for name, value in record.outcome.metrics.items() if is_of_test(name)),
        "",
        f"Trained on {device.accelerator} with precision {device.precision}, determinism `{level}`.",
        "`record.json` has every setting, the environment and the digests of code and data.",
        "",
        "## Data",
        "",
        *_data(record, dataset),
        "",
        "## Use",
        "",
        f"Inputs: {'; '.join(map(str, inputs))}. `certificate.json` compares this package's predictions with the run's.",
        "",
        "```sh",
        "reprise predict FOLDER FILE...   # predictions for files",
        "reprise serve FOLDER             # predictions over HTTP",
        "```",
        "",
        "Without Reprise: `torch.export.load('model.pt2').module()` returns named outputs for the inputs in this order.",
    ]
    if has_graph:
        lines.append("`model.onnx` is the same net for ONNX runtimes, with inputs and outputs of the same names.")
    return "\n".join(lines) + "\n"


def _data(record: Record, dataset: Dataset | None) -> list[str]:
    lines = []
    for name, each in record.ingredients.datasets.items():
        roles = f", for {', '.join(each.roles)}" if each.roles else ""
        lines.append(f"- `{name}@{each.version}`, content `{each.content}`{roles}")
    if dataset is not None:
        files = counted(dataset.files, "file")
        lines.append(f"- `{dataset.title}` has {files}; license: {dataset.license}; source: {dataset.source}")
    return lines or ["The data are not a dataset: the record does not identify them."]
