"""The golden samples of packages, tested in each way in which a package is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import torch

from tests.models.serving import small_packages
from trainer.base.errors import DocumentError
from trainer.cli.packages import mismatch, way_text
from trainer.data.tables.convert import conversion
from trainer.data.tables.source_table import SourceColumn, SourceTable
from trainer.models.golden_files import _cell, golden_files
from trainer.models.package import ParityCertificate, open_package
from trainer.models.packaged import PackagedModel, golden_samples
from trainer.models.parity import check_ways
from trainer.training.tasks.predictions import PredictionForm

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from trainer.models.package import WayParity

pytestmark = pytest.mark.torch


def ways_of(folder: Path) -> dict[str, WayParity]:
    return {each.way: each for each in check_ways(open_package(folder))}


def changed(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change parts of the small packages that are made from now on."""
    usual = small_packages.small
    small = small_packages.Small

    def other(kind: str) -> small_packages.Small:
        made = usual(kind)
        parts = {name: getattr(made, name) for name in ("net", "inputs", "form", "reader", "variable")}
        return small(**(parts | changes))

    monkeypatch.setattr(small_packages, "small", other)


@pytest.mark.parametrize("kind", ["arrays", "pictures", "table", "tensors"])
def test_each_way_gives_the_bits_of_the_program(tmp_path: Path, kind: str) -> None:
    found = ways_of(small_packages.make_package(tmp_path, kind))
    assert [*found] == ["python", "batch", "http", "v2"]
    assert all(each.holds for each in found.values()), found
    tested = [way for way, each in found.items() if each.untested is None and way != "python"]
    assert tested == ["batch", "http", "v2"]
    for each in map(found.__getitem__, tested):
        assert each.program
        assert each.measured
        assert (each.program.identical, each.measured.samples) == (True, 4 if kind == "tensors" else 5)


@pytest.mark.parametrize("kind", ["arrays", "pictures", "table"])
def test_files_are_read_to_the_golden_inputs(tmp_path: Path, kind: str) -> None:
    model = PackagedModel(open_package(small_packages.make_package(tmp_path, kind)))
    inputs, _ = golden_samples(model.opened)
    files = golden_files(model.reader, inputs)
    assert len(files) == (5 if kind == "pictures" else 1)
    for file in files:
        batches = list(model.reader.of_bytes(file.body, name=file.name))
        for name, expected in inputs.items():
            assert torch.equal(torch.cat([each[name] for each in batches]), expected[file.samples])


@pytest.mark.parametrize(
    ("zoned", "text"),
    [(True, "2022-01-08 12:00:00+00:00"), (False, "2022-01-08 12:00:00"), (None, "2022-01-08 12:00:00")],
)
def test_a_date_is_written_with_a_time_zone_if_the_dates_of_the_table_have_one(zoned: Any, text: str) -> None:
    column = SourceColumn(type="date", read="date", zoned=zoned)
    source = SourceTable(file="t.csv", format="csv", columns={"t": column})
    assert _cell(19000.5, column, None, source) == text
    convert = conversion(column, decimal=".", thousands="")
    assert convert is not None
    assert convert(text) == 19000.5


def test_pictures_that_no_file_holds_are_not_tested_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, inputs={"image": torch.rand(5, 1, 8, 8)})
    found = ways_of(small_packages.make_package(tmp_path, "pictures"))
    assert "image is not bit-identical after it is written to 0.png and read back" in str(found["batch"].untested)
    assert way_text(found["batch"]).startswith("not tested: ")
    assert found["http"].program
    assert all(each.holds for each in found.values())


class OfTheBatch(torch.nn.Module):
    """A net whose outputs depend on the other samples of a batch."""

    def forward(self, image: Tensor) -> Tensor:
        flat = image.flatten(1)[:, :3]
        return flat - flat.mean(0)


def test_predictions_that_depend_on_the_batch_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, net=OfTheBatch())
    folder = small_packages.make_package(tmp_path, "pictures")
    found = ways_of(folder)
    assert [way for way, each in found.items() if not each.holds] == ["http"], "a request for each picture"
    certificate = open_package(folder).certificate.model_copy(update={"ways": tuple(found.values()), "holds": False})
    assert mismatch(certificate).startswith("golden samples by http: the largest difference is ")
    assert mismatch(certificate).endswith(f"in scores of sample {found['http'].measured.sample}")  # type: ignore[union-attr] # this way was tested


def test_two_classes_of_one_name_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, form=PredictionForm(kind="class", names=("ant", "ant", "cat")))
    found = ways_of(small_packages.make_package(tmp_path, "arrays"))
    assert [way for way, each in found.items() if not each.holds] == ["batch", "http"]
    assert "scores of sample" in way_text(found["http"])


def test_outputs_that_json_does_not_have_are_not_tested_over_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Infinite(torch.nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return torch.where(tokens > 3, float("inf"), tokens.float())

    changed(monkeypatch, net=Infinite())
    found = ways_of(small_packages.make_package(tmp_path, "tensors"))
    assert "output is not finite for a golden sample" in str(found["v2"].untested)
    assert found["v2"].holds


def test_a_certificate_that_claims_more_than_its_ways_show_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(monkeypatch, net=OfTheBatch())
    folder = small_packages.make_package(tmp_path, "pictures")
    forged = open_package(folder).certificate.model_copy(update={"ways": tuple(ways_of(folder).values())})
    with pytest.raises(DocumentError, match="contradicts itself"):
        ParityCertificate.read(forged.to_json(), "certificate.json")


def test_a_certificate_without_ways_is_written_as_before(tmp_path: Path) -> None:
    text = (small_packages.make_package(tmp_path, "arrays") / "certificate.json").read_bytes()
    assert b"ways" not in text
    assert ParityCertificate.read(text, "certificate.json").to_json() == text


class Sum(torch.nn.Module):
    """A net with two inputs."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


def test_several_tensors_are_predicted_from_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"one": torch.rand(5, 3), "other": torch.rand(5, 3)}
    changed(monkeypatch, net=Sum(), inputs=inputs, variable=())
    folder = small_packages.make_package(tmp_path, "tensors")
    model = PackagedModel(open_package(folder))
    (file,) = golden_files(model.reader, inputs)
    assert file.name == "samples.npz"
    found = ways_of(folder)
    assert [way for way, each in found.items() if each.program and each.program.identical] == ["batch", "http", "v2"]
