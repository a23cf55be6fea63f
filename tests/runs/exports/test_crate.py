"""The metadata of a crate: each attempt as an action with its objects and results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.runs.exports.exported import digest, exported, image, make_record
from trainer.base.digest import canonical
from trainer.runs.exports.crate import crate_metadata
from trainer.runs.exports.exported_run import run_of_record
from trainer.runs.record import Knowledge

if TYPE_CHECKING:
    from trainer.runs.exports.exported_run import ExportedRun

GOLDEN = Path(__file__).parents[2] / "golden"


def entities(run: ExportedRun) -> dict[str, dict[str, Any]]:
    return {each["@id"]: each for each in crate_metadata(run)["@graph"]}


def references(value: Any) -> set[str]:
    match value:
        case {"@id": str(name)} if len(value) == 1:
            return {name}
        case dict():
            return set().union(*map(references, value.values()))
        case list():
            return set().union(*map(references, value))
    return set()


def test_the_metadata_of_a_golden_record_is_golden() -> None:
    run = run_of_record((GOLDEN / "record-1.json").read_bytes(), where="golden")
    assert canonical(crate_metadata(run)) + b"\n" == (GOLDEN / "export-ro-crate.json").read_bytes()


def test_an_action_has_inputs_as_objects_and_files_as_results() -> None:
    action = entities(exported())["#attempt-1"]
    objects, results = ({each["@id"] for each in action[name]} for name in ("object", "result"))
    assert {"#dataset-digits", "#setting-learning_rate", "attempts/1/initial.safetensors"} <= objects
    assert {"attempts/1/record.json", "attempts/1/weights.safetensors", "attempts/1/log.txt"} <= results
    assert not objects & results
    assert action["instrument"] == {"@id": "source.tar.gz"}


def test_every_reference_leads_to_an_entity() -> None:
    for run in (exported(), exported(source=False)):
        outside = {name for name in references(crate_metadata(run)) if name.startswith("http")}
        assert references(crate_metadata(run)) - outside <= entities(run).keys()


def test_only_a_verified_image_is_an_entity() -> None:
    found = entities(exported())
    expected = found["#attempt-1"]["containerImage"]["@id"]
    assert (found[expected]["registry"], found[expected]["name"]) == ("localhost:5000", "reprise/cpu")
    assert found[expected]["sha256"] == digest("manifest of the image").removeprefix("sha256:")
    run = exported(make_record(around={"image": image(Knowledge.UNKNOWN)}))
    assert "containerImage" not in entities(run)["#attempt-1"]
    assert "The container image is unknown" in entities(run)["#attempt-1"]["description"]


@pytest.mark.parametrize(
    ("status", "reason", "error"), [("failed", "out of memory", "out of memory"), ("preempted", None, "preempted")]
)
def test_an_attempt_that_did_not_complete_has_its_reason(status: str, reason: str | None, error: str) -> None:
    action = entities(exported(make_record(status=status, reason=reason)))["#attempt-1"]
    assert (action["actionStatus"], action["error"]) == ("http://schema.org/FailedActionStatus", error)


def test_each_attempt_is_an_action() -> None:
    run = exported(make_record(status="preempted"), make_record().model_copy(update={"attempt": 2}))
    assert entities(run)["./"]["mentions"] == [{"@id": "#attempt-1"}, {"@id": "#attempt-2"}]
    assert "attempts/2/weights.safetensors" in entities(run)
    assert {"@id": "attempts/1/record.json"} in entities(run)["#attempt-2"]["object"]
