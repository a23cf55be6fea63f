"""The commands `reprise retest` and `reprise package` with a key, on a host whose container does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.certified import make_keys
from tests.models.test_package_store import small_package
from tests.models.test_weights_retest import written
from trainer.base.errors import CertificateError
from trainer.cli import package as package_command
from trainer.cli import retest as retest_command
from trainer.models.package import read_package, write_package
from trainer.models.package_signature import package_signature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def test_a_host_signs_the_retest_that_its_container_wrote(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = make_keys(tmp_path / "keys")
    folder = written(runs).folder
    before = next(each for each in (folder / "retests").glob("weights-*.json") if "evidence" not in each.name)
    before.rename(folder / before.name)  # until the container writes the retest

    def container(words: Sequence[str]) -> int:
        assert words == ["retest", str(folder), "--json", "--trust"]
        (folder / before.name).rename(before)
        return 0

    monkeypatch.setattr(retest_command, "can_train", lambda: False)
    monkeypatch.setattr(retest_command, "run_in_image", container)
    assert retest_command.main([str(folder), "--key", str(private), "--json", "--trust"]) == 0
    signed = before.with_suffix(".dsse.json")
    assert signed.is_file()
    assert not before.exists()
    assert f"signed: {signed}" in capsys.readouterr().err
    with pytest.raises(CertificateError, match="is not a readable private key"):
        retest_command.main([str(folder), "--key", str(public)])


def test_a_host_signs_the_package_that_its_container_wrote(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = make_keys(tmp_path / "keys")
    made, files = small_package()

    def container(words: Sequence[str]) -> int:
        assert words == ["package", "latest", "--onnx", "auto", "--force"]
        write_package(made, files, runs=runs)
        return 0

    monkeypatch.setattr(package_command, "can_train", lambda: False)
    monkeypatch.setattr(package_command, "run_in_image", container)
    assert package_command.main(["latest", "--force", "--key", str(private)]) == 0
    folder = runs / "packages" / made.name
    assert package_signature(folder, read_package(folder)[0], key=public).startswith("good, by key")
