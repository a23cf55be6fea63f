"""A model package: a folder with an exported net, its weights, the reader of its inputs, the form of its predictions, and its certificate.

    package.json         this document; its digest names the package
    package.sha256       its digest, as `sha256sum --check` reads it
    model.pt2            the net as a program of torch.export
    model.onnx           the same program as a graph of ONNX, if it has one
    weights.safetensors  the weights, as the run saved them
    golden.safetensors   inputs and outputs of some test samples
    record.json          the run's record
    README.md            the model card
    certificate.json     the package's outputs when it was made, compared with those of the run's net
    package.dsse.json    the document in a signed envelope (DSSE), if it was signed; it is not listed
    retests/             retests of the package, if there are any; they are not listed

Nothing in a package is code, and nothing is unpickled. Each file is compared with its digest when the package is opened: the document
lists those of all other files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AwareDatetime, Field, FiniteFloat, JsonValue, PositiveInt

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import Digest, digest_of_bytes
from trainer.base.document import Count, Document, OneLine
from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.base.plain_text import reading
from trainer.base.safe_folder import Root
from trainer.comparison.saved_document import SavedDocument
from trainer.data.declaration import Dataset
from trainer.data.reader import Typed
from trainer.runs.record import MOST_ATTEMPTS
from trainer.runs.run_id import RUN_ID
from trainer.training.tasks.predictions import PredictionForm

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGE: Final = "package.json"
PROGRAM: Final = "model.pt2"
ONNX: Final = "model.onnx"
CERTIFICATE: Final = "certificate.json"
WEIGHTS: Final = "weights.safetensors"
GOLDEN: Final = "golden.safetensors"
RECORD: Final = "record.json"
CARD: Final = "README.md"
FOLDER: Final = "packages"
"""The folder of packages in the runs folder, and the prefix of their names in a store."""
CHECKSUM: Final = "package.sha256"
SIGNATURE: Final = "package.dsse.json"
SIGNED: Final = "application/vnd.reprise.package+json"
"""The type of a signed document of a package."""
_FILES: Final = (PROGRAM, WEIGHTS, GOLDEN, RECORD, CARD, CERTIFICATE)
"""The files of every package; `model.onnx` is in some."""
MOST_DOCUMENT: Final = 64 << 20
"""Bytes of a package's document, and of its signature."""
_MOST_CHECKSUM: Final = 1 << 10
_SHORT: Final = 12
_FETCH: Final = "fetch it again, or make it again: reprise package RUN"


class TensorSpec(Typed):
    """An input or an output: its type, and its shape without the axis of samples."""

    name: OneLine
    range: tuple[FiniteFloat, FiniteFloat] | None = Field(default=None, exclude_if=lambda value: value is None)
    """The smallest and the largest value of an input in the golden samples, to which a server's page scales a drawing."""

    def __str__(self) -> str:
        """Return the form of messages: `image float32 [1, 8, 8]`."""
        return f"{self.name} {self.dtype} [{', '.join(map(str, self.shape))}]"


class PackageFile(Document):
    """A file of a package."""

    path: Literal[
        "model.pt2",
        "model.onnx",
        "weights.safetensors",
        "golden.safetensors",
        "record.json",
        "README.md",
        "certificate.json",
    ]
    sha256: Digest
    bytes: Count


class Package(SavedDocument):
    """The document of a package."""

    format: Literal["reprise.package/1"] = "reprise.package/1"
    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    attempt: int = Field(ge=1, le=MOST_ATTEMPTS)
    experiment: OneLine
    identity: Digest
    """The identity of the run."""
    dataset: Dataset | None
    """The dataset that the net was trained on, whose reader reads new files; `None` if the net's inputs are not its fields."""
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    answer: PredictionForm
    golden: PositiveInt
    """The number of golden samples."""
    metrics: dict[str, JsonValue]
    """The metrics that the run measured on its test split."""
    torch: OneLine
    """The version of torch that exported the program."""
    files: tuple[PackageFile, ...]

    @property
    def digest(self) -> str:
        """The digest of the document, which names the package."""
        return digest_of_bytes(self.to_json())

    @property
    def name(self) -> str:
        """The name of the package and of its folder: the experiment, and the first digits of the digest."""
        experiment = re.sub(r"[^A-Za-z0-9_-]+", "-", self.experiment.rpartition("/")[2].removesuffix(".py"))
        return f"{experiment}-{self.digest.removeprefix('sha256:')[:_SHORT]}"

    def check(self, where: str) -> None:
        """Raise `DocumentError` if the document does not list each file once."""
        listed: list[str] = [each.path for each in self.files]
        if sorted({*listed, ONNX}) != sorted((*_FILES, ONNX)) or len(listed) > len(set(listed)):
            found = ", ".join(listed) or "none"
            raise DocumentError(f"{where} lists the files {found}; expected {', '.join(_FILES)}", hint=_FETCH)


class OutputComparison(Document):
    """The outputs of a package for some samples, compared with the outputs of the run's net."""

    samples: Count
    identical: bool
    """Whether every bit is equal."""
    largest: FiniteFloat
    """The largest difference, relative to the largest value of its output in the same batch."""
    output: OneLine | None = None
    """The output with the largest difference."""
    sample: Count | None = None
    """The number of its sample."""


class MetricComparison(Document):
    """A metric of the test split: as the run measured it, and recomputed from the package's outputs."""

    name: OneLine
    measured: JsonValue
    recomputed: JsonValue
    holds: bool
    """Whether they are equal, or within the tolerance."""


class OnnxParity(Document):
    """The outputs of the graph in `model.onnx` in onnxruntime on the CPU when the package was made."""

    graph: Digest
    """The digest of the graph."""
    golden: OutputComparison
    """Its outputs for the golden samples, compared with those of the run's net."""
    tolerance: Annotated[FiniteFloat, Field(ge=0)]
    """The largest relative difference at which a graph is still included in a package."""
    opset: PositiveInt
    """The version of ONNX's operators that the graph uses."""
    onnxruntime: OneLine
    """The version of onnxruntime that ran the graph."""


class WayParity(Document):
    """The outputs of a package for its golden samples, in one way to use the package."""

    way: Literal["python", "batch", "http", "v2"]
    """The loaded program (`python`), `reprise predict` on files (`batch`), a server's `/predict` (`http`), its protocol (`v2`)."""
    holds: bool
    """Whether the outputs are within the tolerance and bit-identical to the program's. It is true if this way was not tested."""
    measured: OutputComparison | None = None
    """The comparison with the outputs of the run's net in its test; `None` if there are no outputs."""
    program: OutputComparison | None = None
    """The comparison with the loaded program for the same batches; `None` for `python`, or if there are no outputs."""
    fault: OneLine | None = None
    """Why the golden samples could not be tested."""
    untested: OneLine | None = None
    """Why the golden samples cannot be sent this way."""


class ParityCertificate(SavedDocument):
    """The outputs and metrics of a package when it was made, compared with those of the run's net."""

    format: Literal["reprise.parity/1"] = "reprise.parity/1"
    program: Digest
    """The digest of the tested program."""
    holds: bool
    """Whether all outputs and all metrics are within the tolerance, in all ways that were tested."""
    tolerance: Annotated[FiniteFloat, Field(ge=0)]
    """The largest relative difference that is within the tolerance."""
    test: OutputComparison
    """The comparison of the outputs for all samples of the test split."""
    metrics: tuple[MetricComparison, ...]
    onnx: OnnxParity | None = Field(default=None, exclude_if=lambda value: value is None)
    """The outputs of the ONNX graph; `None` if the package has no graph."""
    onnx_omitted: OneLine | None = Field(default=None, exclude_if=lambda value: value is None)
    """Why the package has no ONNX graph; `None` if it has a graph, or if none was requested."""
    ways: tuple[WayParity, ...] = Field(default=(), exclude_if=lambda ways: not ways)
    """The comparisons for the golden samples, in each way to use the package. Certificates of earlier versions have no comparisons."""
    build_id: Digest | None
    """The build ID of the image in which the package was tested; `None` outside of a container."""
    device: OneLine
    torch: OneLine
    when: AwareDatetime
    reprise: OneLine
    """The version of Reprise that tested the package."""

    def check(self, where: str) -> None:
        """Raise `DocumentError` if the certificate claims more than its comparisons show."""
        compared = [self.test, *(each for way in self.ways for each in (way.measured, way.program) if each)]
        shown = all(each.largest <= self.tolerance for each in compared) and not any(way.fault for way in self.ways)
        held = all(each.holds for each in self.metrics) and all(each.holds for each in self.ways)
        if self.holds and not (shown and held):
            raise DocumentError(f"{where} contradicts itself: it holds, but lists a difference", hint=_FETCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFolder:
    """A package that was read: its files have the listed digests."""

    path: Path
    package: Package
    certificate: ParityCertificate
    files: Mapping[str, bytes]
    """The content of each file, by name."""
    signature: bytes | None = None
    """The signed envelope, unverified; `None` if the package is not signed."""


def open_package(path: Path) -> PackageFolder:
    """Read a package and compare each file with its digest.

    Raise `DocumentError` if a file is missing or invalid, and `DigestMismatchError` with the name of an altered file.
    """
    with reading(path), Root.at(path) as root:
        package = _document(root)
        files: dict[str, bytes] = {each.path: _verified(root, each) for each in package.files}
        signature = root.read(SIGNATURE, most=MOST_DOCUMENT) if root.has_file(SIGNATURE) else None
    certificate = require_certificate(files, str(path))
    return PackageFolder(path=path, package=package, certificate=certificate, files=files, signature=signature)


def require_certificate(files: Mapping[str, bytes], where: str) -> ParityCertificate:
    """Return the certificate among the files of a package. Raise `DocumentError` if it is for other files."""
    certificate = ParityCertificate.read(files[CERTIFICATE], f"{where}: {CERTIFICATE}")
    if certificate.program != digest_of_bytes(files[PROGRAM]):
        raise DocumentError(f"{where}: {CERTIFICATE} is about another program: {certificate.program}", hint=_FETCH)
    tested = certificate.onnx and certificate.onnx.graph
    if tested != (digest_of_bytes(files[ONNX]) if ONNX in files else None):
        raise DocumentError(f"{where}: {CERTIFICATE} is about another {ONNX}: {tested or 'none'}", hint=_FETCH)
    return certificate


def write_package(package: Package, files: Mapping[str, bytes], *, runs: Path, signature: bytes | None = None) -> Path:
    """Write a package into the folder of packages in `runs`, the document last, and return its folder.

    Raise `MachineError` if the folder cannot be written.
    """
    name, text = f"{FOLDER}/{package.name}", package.to_json()
    own = {} if signature is None else {SIGNATURE: signature}
    with disk_faults(runs / name), Root.at(runs, make=True) as root, root.below(name, make=True) as folder:
        root.give(FOLDER)
        root.give(name)
        for path, body in {**files, **own, CHECKSUM: checksum_line(text), PACKAGE: text}.items():
            folder.write_whole(path, body)
            folder.give(path)
    return runs / name


def packages_in(runs: Path) -> list[Path]:
    """Return the folders of packages in `runs`, sorted by name."""
    found = runs / FOLDER
    return sorted(each for each in found.glob("*") if (each / PACKAGE).is_file()) if found.is_dir() else []


def read_package(path: Path) -> tuple[Package, ParityCertificate]:
    """Return the document and the certificate of a package, without reading its other files. Raise as `open_package` does."""
    with reading(path), Root.at(path) as root:
        package = _document(root)
        listed = next(each for each in package.files if each.path == CERTIFICATE)
        return package, ParityCertificate.read(_verified(root, listed), str(path / CERTIFICATE))


def checksum_line(text: bytes) -> bytes:
    """Return the line of `package.sha256` for the text of a document."""
    return f"{digest_of_bytes(text).removeprefix('sha256:')}  {PACKAGE}\n".encode()


def _document(root: Root) -> Package:
    """Return the document of a package. Raise `DigestMismatchError` if `package.sha256` does not have its digest."""
    path = root.path / PACKAGE
    text = root.read(PACKAGE, most=MOST_DOCUMENT)
    expected = root.read(CHECKSUM, most=_MOST_CHECKSUM) if root.has_file(CHECKSUM) else b""
    if expected != checksum_line(text):
        raise DigestMismatchError(
            f"{path} does not have the digest in {CHECKSUM}: one of them was altered", hint=_FETCH
        )
    return parsed_package(text, str(path))


def parsed_package(text: bytes, where: str) -> Package:
    """Parse the document of a package. Raise `DocumentError` if the text is invalid or not canonical."""
    package = Package.read(text, where)
    if text != package.to_json():
        raise DocumentError(f"{where} is not in its canonical form", hint=_FETCH)
    return package


def _verified(root: Root, listed: PackageFile) -> bytes:
    path = root.path / listed.path
    if not root.has_file(listed.path):
        raise DocumentError(f"{path} is missing", hint=_FETCH)
    if (status := root.stat(listed.path)) is not None and status.st_size > listed.bytes:
        message = f"{path} has {status.st_size:,} bytes; the package lists {listed.bytes:,}: it was altered"
        raise DigestMismatchError(message, hint=_FETCH)
    body = root.read(listed.path, most=listed.bytes)
    if (found := digest_of_bytes(body)) != listed.sha256:
        raise DigestMismatchError(f"{path} is {found}; the package lists {listed.sha256}: it was altered", hint=_FETCH)
    return body
