"""Packages of small nets, each made in a second without training."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save
from torch import Tensor, nn

from tests.records import record
from trainer.base.digest import digest_of_bytes
from trainer.data.declaration import Dataset
from trainer.models.export import NamedOutputNet, spec_of
from trainer.models.package import OutputComparison, Package, PackageFile, ParityCertificate, write_package
from trainer.training.tasks.predictions import PredictionForm

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DIGEST: Final = "sha256:" + "1" * 64


class Picture(nn.Module):
    """A net that classifies pictures `[batch, 1, size, size]`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (size - 2) ** 2, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)  # type: ignore[no-any-return]


class Columns(nn.Module):
    """A net that computes a number from two numbers and a category."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(5, 2), nn.Linear(4, 1)

    def forward(self, features: Tensor, color: Tensor) -> Tensor:
        return self.layer(torch.cat([features, self.embedding(color)], 1))[:, 0]  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """A net that sums the embeddings of any number of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens).sum(1)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """The parts of a package."""

    net: nn.Module
    inputs: dict[str, Tensor]
    form: PredictionForm
    reader: dict[str, Any] | None
    variable: tuple[int, ...] = ()


def small(kind: str) -> Small:
    """Return a net and its inputs; the weights depend only on the kind."""
    torch.manual_seed(7)
    classes = PredictionForm(kind="class", names=("ant", "bee", "cat"))
    match kind:
        case "arrays":
            fields = {"image": "images.npy", "label": "labels.npy"}
            reader = {
                "reader": {"kind": "arrays", "fields": fields},
                "sample": {"image": {"dtype": "float32", "shape": (1, 4, 4)}},
            }
            return Small(net=Picture(4), inputs={"image": torch.rand(5, 1, 4, 4)}, form=classes, reader=reader)
        case "pictures":
            own = {"kind": "images", "classes": classes.names, "mode": "L", "size": (8, 8), "resize": "stretch"}
            pixels = torch.randint(0, 256, (5, 1, 8, 8)).float() / 255
            return Small(net=Picture(8), inputs={"image": pixels}, form=classes, reader={"reader": own})
        case "table":
            inputs = {"features": torch.rand(5, 2), "color": torch.tensor([0, 1, 2, 3, 4])}
            return Small(net=Columns(), inputs=inputs, form=PredictionForm(), reader=_table())
        case _:
            inputs = {"tokens": torch.arange(20).reshape(4, 5) % 10}
            return Small(net=Tokens(), inputs=inputs, form=PredictionForm(), reader=None, variable=(1,))


def _table() -> dict[str, Any]:
    columns = {"color": {"values": ("red", "green", "blue"), "missing": "category", "unknown": "category"}}
    fields = {
        "features": {"column": ("height", "width")},
        "color": {"column": "color", "dtype": "int64"},
        "target": {"column": "price"},
    }
    source = {
        "file": "houses.csv",
        "format": "csv",
        "delimiter": ",",
        "quote": '"',
        "missing": ("",),
        "columns": {
            "height": {"type": "number", "read": "number"},
            "width": {"type": "number", "read": "number"},
            "color": {"type": "text", "read": "category"},
            "price": {"type": "number", "read": "target"},
        },
    }
    return {
        "reader": {"kind": "table", "files": ("rows.parquet",), "fields": fields, "columns": columns},
        "source_table": source,
    }


def make_package(runs: Path, kind: str, *, holds: bool = True, made: Small | None = None) -> Path:
    """Write a package of a kind, `arrays`, `pictures`, `table` or `tensors`, or of another net, and return its folder."""
    made = made or small(kind)
    net = NamedOutputNet(made.net.eval(), made.form)
    axes = dict.fromkeys((0, *made.variable), torch.export.Dim.AUTO)
    with torch.no_grad():
        program = torch.export.export(
            net, tuple(made.inputs.values()), dynamic_shapes={"given": tuple(dict(axes) for _ in made.inputs)}
        )
        outputs = net(*made.inputs.values())
    body = io.BytesIO()
    torch.export.save(program, body)
    golden = {f"input/{name}": each.contiguous() for name, each in made.inputs.items()}
    golden |= {f"output/{name}": each.contiguous() for name, each in outputs.items()}
    files = {
        "model.pt2": body.getvalue(),
        "weights.safetensors": save(dict(made.net.state_dict())),
        "golden.safetensors": save(golden),
        "record.json": record().to_json(),
        "README.md": b"# A small net\n",
    }
    files["certificate.json"] = _certificate(files["model.pt2"], holds=holds).to_json()
    return write_package(_package(kind, made, outputs, files), files, runs=runs)


def _certificate(program: bytes, *, holds: bool) -> ParityCertificate:
    return ParityCertificate(
        program=digest_of_bytes(program),
        holds=holds,
        tolerance=1e-4,
        test=OutputComparison(
            samples=20,
            identical=holds,
            largest=0.0 if holds else 0.5,
            output=None if holds else "output",
            sample=None if holds else 3,
        ),
        metrics=(),
        build_id=None,
        device="a processor",
        torch=torch.__version__,
        when=datetime(2026, 11, 30, tzinfo=UTC),
        reprise="0.1.0",
    )


def _package(kind: str, made: Small, outputs: Mapping[str, Tensor], files: Mapping[str, bytes]) -> Package:
    versioned = {"name": kind, "version": 1, "manifest": DIGEST, "content": DIGEST, "files": 1, "bytes": 1}
    return Package(
        run=record().run,
        attempt=1,
        experiment=kind,
        identity=DIGEST,
        dataset=None if made.reader is None else Dataset.model_validate(versioned | made.reader),
        inputs=tuple(spec_of(name, each, variable=made.variable, has_range=True) for name, each in made.inputs.items()),
        outputs=tuple(spec_of(name, each) for name, each in outputs.items()),
        answer=made.form,
        golden=len(next(iter(made.inputs.values()))),
        metrics={"test_loss": 0.5},
        torch=torch.__version__,
        files=tuple(
            PackageFile.model_validate({"path": path, "sha256": digest_of_bytes(data), "bytes": len(data)})
            for path, data in files.items()
        ),
    )
