"""The commands `reprise packages push --to` and `pull` with a registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.environments.engine.registry import on_free_port
from tests.models.test_package_store import small_package
from trainer.base.errors import DigestMismatchError, UsageError
from trainer.cli.packages import main
from trainer.models.package import PROGRAM, open_package, write_package

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return the folder of a small package, outside the folder of runs."""
    made, files = small_package()
    return write_package(made, files, runs=tmp_path / "elsewhere")


def test_a_package_is_pushed_to_a_registry_and_pulled(
    package: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with on_free_port(tmp_path / "registry") as address:
        assert main(["push", str(package), "--to", f"{address}/team/dots"]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"{package.name} is in {address}/team/dots:{package.name}"
        reference = second.rpartition(" ")[2]
        assert reference.startswith(f"{address}/team/dots@sha256:")
        assert main(["pull", reference]) == 0
        assert main(["pull", first.rpartition(" ")[2], "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[1])["package"] == open_package(package).package.digest
    assert "compare the digest with the one that its author published" in err
    assert open_package(runs / "packages" / package.name).files == open_package(package).files


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pull", "localhost:5000/team/dots"], "has neither a tag nor a digest"),
        (
            ["pull", "localhost:5000/team/dots:1", "--store", "/tmp"],  # noqa: S108
            "--store is accepted only with a digest, for a package in a store",
        ),
        (["push", "PACKAGE", "--license", "MIT"], "--license is accepted only with --to, for a registry"),
        (["push", "PACKAGE", "--to", "localhost/a", "--store", "/tmp"], "are two targets"),  # noqa: S108
        (["push", "PACKAGE", "--to", "localhost/a@sha256:" + "0" * 64], "names a digest"),
        (["push", "PACKAGE", "--to", "team/dots"], "is not the name of a registry"),
    ],
)
def test_other_words_are_usage_errors(package: Path, runs: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main([str(package) if word == "PACKAGE" else word for word in words])
    assert not runs.exists()


@pytest.mark.parametrize("harm", ["longer", "other"])
def test_an_altered_package_is_not_shown(package: Path, harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(package)]) == 0
    path = package / PROGRAM
    body = path.read_bytes()
    path.write_bytes(body + b"\n" if harm == "longer" else bytes([body[0] ^ 1]) + body[1:])
    capsys.readouterr()
    with pytest.raises(DigestMismatchError, match=f"{path} .* was altered"):
        main(["show", str(package)])
    assert not capsys.readouterr().out
