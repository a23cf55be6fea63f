"""Packages on a machine and in a store, without torch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.certified import make_keys
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.cli.find_package import find_package, known_package
from trainer.models.package import (
    OnnxParity,
    OutputComparison,
    Package,
    PackageFile,
    ParityCertificate,
    open_package,
    packages_in,
    write_package,
)
from trainer.models.package_signature import package_signature, sign_package
from trainer.models.package_store import pull_package, push_package, stored_digests
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

NAMES: Final = ("model.pt2", "weights.safetensors", "golden.safetensors", "record.json", "README.md")
DIGEST: Final = "sha256:" + "1" * 64


def small_package(*more: str, graph: bytes | None = None) -> tuple[Package, dict[str, bytes]]:
    """A package whose files are texts, with `more` files; `graph` is the ONNX graph in its certificate."""
    files = {name: f"the file {name}".encode() for name in (*NAMES, *more)}
    same = OutputComparison(samples=2, identical=True, largest=0.0)
    files["certificate.json"] = ParityCertificate(
        program=digest_of_bytes(files["model.pt2"]),
        holds=True,
        tolerance=1e-4,
        test=OutputComparison(samples=20, identical=True, largest=0.0),
        metrics=(),
        onnx=None
        if graph is None
        else OnnxParity(graph=digest_of_bytes(graph), golden=same, tolerance=1e-4, opset=20, onnxruntime="1.30.0"),
        build_id=None,
        device="a processor",
        torch="2.13.0",
        when=datetime(2026, 11, 30, tzinfo=UTC),
        reprise="0.1.0",
    ).to_json()
    about: dict[str, Any] = {
        "run": "20261130t031100-abcdef",
        "attempt": 1,
        "experiment": "ours/dots.py",
        "identity": DIGEST,
        "dataset": None,
        "inputs": [{"name": "image", "dtype": "float32", "shape": [1, 4, "any"]}],
        "outputs": [{"name": "output", "dtype": "float32", "shape": [2]}],
        "answer": {"kind": "class", "names": ["cat", "dog"]},
        "golden": 2,
        "metrics": {"test_accuracy": 0.75},
        "torch": "2.13.0",
        "files": [{"path": path, "sha256": digest_of_bytes(body), "bytes": len(body)} for path, body in files.items()],
    }
    return Package.model_validate(about), files


def test_a_written_package_is_found_by_folder_name_and_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, files = small_package()
    path = write_package(package, files, runs=tmp_path / "runs")
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("trainer.cli.find_package.runs_folder", lambda: tmp_path / "runs")
    assert path.name == f"dots-{package.digest[7:19]}"
    assert packages_in(tmp_path / "runs") == [path]
    assert [find_package(word) for word in (str(path), path.name, package.digest)] == [path] * 3
    assert open_package(path).package == package
    assert known_package("dots") is None
    with pytest.raises(DocumentError, match="is not a package on this machine"):
        find_package("dots")
    with pytest.raises(DocumentError, match="REPRISE_PACKAGE is not set"):
        find_package("/package")


def test_a_pulled_package_is_the_pushed_one(tmp_path: Path) -> None:
    store, (package, files) = MemoryStore(), small_package()
    push_package(open_package(write_package(package, files, runs=tmp_path / "here")), store)
    assert list(stored_digests(store)) == [package.digest]
    path = pull_package(package.digest, store, runs=tmp_path / "there")
    assert {each.name: each.read_bytes() for each in path.iterdir() if each.name in files} == files
    with pytest.raises(DocumentError, match="has no package"):
        pull_package(DIGEST, store, runs=tmp_path / "there")


def test_a_signature_is_pushed_and_pulled_with_its_package(tmp_path: Path) -> None:
    store, (package, files) = MemoryStore(), small_package()
    private, public = make_keys(tmp_path / "keys")
    sign_package(folder := write_package(package, files, runs=tmp_path / "here"), package, key=private)
    push_package(open_package(folder), store)
    assert list(stored_digests(store)) == [package.digest]
    path = pull_package(package.digest, store, runs=tmp_path / "there")
    assert package_signature(path, package, key=public).startswith("good, by key")


@pytest.mark.parametrize("name", [*NAMES, "certificate.json"])
def test_a_file_that_a_store_altered_is_refused(tmp_path: Path, name: str) -> None:
    store, (package, files) = MemoryStore(), small_package()
    push_package(open_package(write_package(package, files, runs=tmp_path / "here")), store)
    key = object_key(digest_of_bytes(files[name]))
    store._objects[key] = b"x" * len(files[name])
    with pytest.raises(DigestMismatchError, match=r"altered"):
        pull_package(package.digest, store, runs=tmp_path / "there")
    assert not packages_in(tmp_path / "there")


def test_a_certificate_of_another_program_is_refused(tmp_path: Path) -> None:
    package, files = small_package()
    files["model.pt2"] = b"another program"
    entries = [each for each in package.files if each.path != "model.pt2"]
    other = PackageFile(path="model.pt2", sha256=digest_of_bytes(files["model.pt2"]), bytes=len(files["model.pt2"]))
    mixed = package.model_copy(update={"files": (other, *entries)})
    path = write_package(mixed, files, runs=tmp_path)
    with pytest.raises(DocumentError, match="is about another program"):
        open_package(path)


def test_a_document_without_all_files_is_refused() -> None:
    package = small_package()[0]
    short = package.model_copy(update={"files": package.files[1:]})
    with pytest.raises(DocumentError, match="lists the files"):
        Package.read(short.to_json(), "package.json")


def test_a_package_with_a_graph_is_written_and_pulled_as_one_without(tmp_path: Path) -> None:
    store, (package, files) = MemoryStore(), small_package("model.onnx", graph=b"the file model.onnx")
    push_package(open_package(write_package(package, files, runs=tmp_path / "here")), store)
    opened = open_package(pull_package(package.digest, store, runs=tmp_path / "there"))
    assert opened.files["model.onnx"] == b"the file model.onnx"
    (opened.path / "model.onnx").write_bytes(b"the file model.onny")
    with pytest.raises(DigestMismatchError, match=r"model.onnx is sha256:"):
        open_package(opened.path)


@pytest.mark.parametrize(("more", "graph"), [(["model.onnx"], b"another"), (["model.onnx"], None), ([], b"none")])
def test_a_certificate_of_another_graph_is_refused(tmp_path: Path, more: list[str], graph: bytes | None) -> None:
    package, files = small_package(*more, graph=graph)
    with pytest.raises(DocumentError, match=r"is about another model.onnx"):
        open_package(write_package(package, files, runs=tmp_path))


def test_a_document_that_lists_a_file_twice_is_refused() -> None:
    package = small_package("model.onnx", graph=b"the file model.onnx")[0]
    twice = package.model_copy(update={"files": (*package.files, package.files[-1])})
    with pytest.raises(DocumentError, match="lists the files"):
        Package.read(twice.to_json(), "package.json")


def test_the_documents_of_a_package_without_a_graph_are_those_of_earlier_versions() -> None:
    package, files = small_package()
    assert package.digest == "sha256:b50013a47faedc94519951dd63cd29823ec8f04163719688c51830a64a1ccde9"
    assert b"onnx" not in package.to_json() + files["certificate.json"]
