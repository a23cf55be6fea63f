"""The bill of materials: the model, its metrics and limitations, and the data and software that trained it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.runs.exports.exported import CONTENTS, PARENT, digest, exported, image, make_record
from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import RunError
from trainer.runs.exports.cyclonedx import bill_of_materials
from trainer.runs.exports.exported_run import run_of_record
from trainer.runs.record import Inventory, Knowledge, read_record

if TYPE_CHECKING:
    from trainer.runs.exports.exported_run import ExportedRun

GOLDEN = Path(__file__).parents[2] / "golden"


def components(run: ExportedRun) -> dict[str, dict[str, Any]]:
    return {each["bom-ref"]: each for each in bill_of_materials(run)["components"]}


def card(run: ExportedRun) -> dict[str, Any]:
    found: dict[str, Any] = bill_of_materials(run)["metadata"]["component"]["modelCard"]
    return found


def test_the_bill_of_a_golden_record_is_golden() -> None:
    record = read_record((GOLDEN / "record-1.json").read_bytes(), where="golden")
    weights = {"path": "weights.safetensors", "size": 3, "sha256": digest("abc")}
    outcome = record.outcome.model_dump(mode="json") | {"files": [weights]}
    whole = record.model_dump(mode="json") | {"outcome": outcome}
    run = run_of_record(canonical(whole) + b"\n", where="golden")
    assert canonical(bill_of_materials(run)) + b"\n" == (GOLDEN / "export-cyclonedx.json").read_bytes()


def test_the_model_is_its_weights() -> None:
    model = bill_of_materials(exported())["metadata"]["component"]
    expected = digest_of_bytes(CONTENTS["weights.safetensors"]).removeprefix("sha256:")
    assert model["hashes"] == [{"alg": "SHA-256", "content": expected}]
    (ancestor,) = model["pedigree"]["ancestors"]
    assert ancestor["version"] == PARENT


def test_metrics_are_at_full_precision_and_by_split() -> None:
    accuracy, loss = card(exported())["quantitativeAnalysis"]["performanceMetrics"]
    assert accuracy == {"type": "accuracy", "slice": "test", "value": "0.30000000000000004"}
    assert loss == {"type": "loss", "slice": "val", "value": "NaN"}


def test_packages_have_package_urls_with_encoded_versions() -> None:
    found = components(exported())
    assert found["pkg:pypi/torch@2.13.0%2Bcpu"]["version"] == "2.13.0+cpu"
    assert found["system:libc6"]["name"] == "libc6"
    assert "purl" in found["system:libc6"]


def test_a_package_of_an_unknown_system_has_no_package_url() -> None:
    host = make_record().circumstances.host.model_copy(update={"system": "Arch Linux"})
    run = exported(make_record(around={"host": host, "inventory": Inventory(python="3", system={"glibc": "2"})}))
    assert "purl" not in components(run)["system:glibc"]


def test_an_image_that_is_not_verified_is_no_component_but_a_limitation() -> None:
    assert components(exported())["image"]["version"] == image().manifest
    run = exported(make_record(around={"image": image(Knowledge.ASSERTED)}))
    assert "image" not in components(run)
    assert "The container image is asserted, not verified." in card(run)["considerations"]["technicalLimitations"]


def test_limits_of_the_record_are_limitations_of_the_model() -> None:
    around = {
        "limits": {"order": "the loader has no state"},
        "drift": ["distribution numpy: 2.0 here, 2.3 in the lock"],
    }
    found = card(exported(make_record(around=around, inputs={"datasets": {}})))["considerations"]
    assert len(found["technicalLimitations"]) == 3
    assert "order: the loader has no state" in found["technicalLimitations"]


def test_a_run_without_weights_is_an_error_that_names_another_format() -> None:
    with pytest.raises(RunError, match="no weights") as error:
        bill_of_materials(exported(make_record(files=[])))
    assert "--as slsa" in str(error.value.hint)


def test_the_serial_number_follows_from_the_record() -> None:
    one, same, other = (bill_of_materials(exported(make_record(steps=steps))) for steps in (1, 1, 2))
    assert canonical(one) == canonical(same)
    assert one["serialNumber"] != other["serialNumber"]
