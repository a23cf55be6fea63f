"""Provenance: its subjects, dependencies and external parameters, and the facts that it does not claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.runs.exports.exported import CONTENTS, PARENT, digest, exported, image, make_record
from trainer.base.digest import canonical, digest_of_bytes
from trainer.runs.exports.exported_run import run_of_record
from trainer.runs.exports.slsa import provenance
from trainer.runs.record import Knowledge
from trainer.source.description import Source

if TYPE_CHECKING:
    from trainer.runs.exports.exported_run import ExportedRun

GOLDEN = Path(__file__).parents[2] / "golden"


def definition(run: ExportedRun) -> dict[str, Any]:
    found: dict[str, Any] = provenance(run)["predicate"]["buildDefinition"]
    return found


def dependencies(run: ExportedRun) -> dict[str, dict[str, str]]:
    return {each["name"]: each["digest"] for each in definition(run)["resolvedDependencies"]}


def sha256(text: str) -> dict[str, str]:
    return {"sha256": digest(text).removeprefix("sha256:")}


def test_the_provenance_of_a_golden_record_is_golden() -> None:
    run = run_of_record((GOLDEN / "record-1.json").read_bytes(), where="golden")
    assert canonical(provenance(run)) + b"\n" == (GOLDEN / "export-slsa.json").read_bytes()


def test_subjects_are_the_results_and_byproducts_the_logs() -> None:
    statement = provenance(exported())
    record = digest_of_bytes(make_record().to_json())
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    weights = digest_of_bytes(CONTENTS["weights.safetensors"])
    assert list(subjects) == ["record.json", "checkpoints/latest.json", "weights.safetensors"]
    assert f"sha256:{subjects['record.json']}" == record
    assert f"sha256:{subjects['weights.safetensors']}" == weights
    logs = [each["name"] for each in statement["predicate"]["runDetails"]["byproducts"]]
    assert logs == ["log.txt", "metrics.jsonl", "tensorboard/events"]


def test_only_what_the_user_gave_is_an_external_parameter() -> None:
    found = definition(exported())
    given = {"layers": [8, None], "learning_rate": 0.001, "seed": 0}
    assert found["externalParameters"] == {"experiment": "digits", "settings": given}
    assert found["internalParameters"]["settings"] == {"batch_size": 32}


def test_every_input_is_a_dependency_by_digest() -> None:
    source = {"repriseSource": digest("source").removeprefix("sha256:")}
    assert dependencies(exported()) == {
        "source.tar.gz": source | sha256("source"),
        "commit": {"gitCommit": "0" * 40},
        "uv.lock": sha256("lock"),
        image().reference: sha256("manifest of the image"),
        "manifest of digits@1": sha256("manifest of digits"),
        f"initial weights, of run {PARENT}": {"sha256": digest_of_bytes(CONTENTS["initial.safetensors"])[7:]},
    }


@pytest.mark.parametrize("known", [Knowledge.ASSERTED, Knowledge.UNKNOWN])
def test_an_image_that_is_not_verified_is_stated_and_not_claimed(known: Knowledge) -> None:
    run = exported(make_record(around={"image": image(known)}))
    assert image().reference not in dependencies(run)
    assert definition(run)["internalParameters"]["image"]["known"] == known.value


@pytest.mark.parametrize(("without", "expected"), [("config", "manifest"), ("manifest", "configuration")])
def test_the_digest_of_an_image_says_what_it_is_of(without: str, expected: str) -> None:
    whole = image().model_copy(update={"config": digest("configuration"), without: None})
    found = definition(exported(make_record(around={"image": whole})))["resolvedDependencies"]
    (about,) = [each for each in found if each["name"] == image().reference]
    assert about["annotations"]["digestOf"] == expected
    assert about["digest"] == sha256("manifest of the image" if expected == "manifest" else "configuration")


def test_a_changed_or_unknown_commit_is_no_dependency() -> None:
    for source in (Source(how="mounted", commit="0" * 40, dirty=True), Source(how="mounted", dirty=False)):
        run = exported(make_record(around={"source": source}))
        assert "commit" not in dependencies(run)
        about = definition(run)["resolvedDependencies"][0]["annotations"]
        assert (about["commit"], about["dirty"]) == (source.commit, source.dirty)


def test_without_the_bundle_no_sha256_of_it_is_stated() -> None:
    assert list(dependencies(exported(source=False))["source"]) == ["repriseSource"]


def test_a_dataset_without_a_manifest_is_identified_by_its_content() -> None:
    run = exported(make_record(around={"manifests": {}}))
    assert dependencies(run)["digits@1"] == {"repriseContent": digest("content").removeprefix("sha256:")}


def test_a_resumed_run_depends_on_its_earlier_attempts() -> None:
    first = make_record(status="preempted")
    second = make_record(around={"changed": ["setting seed: 0 -> 1"]}).model_copy(update={"attempt": 2})
    run = exported(first, second)
    assert dependencies(run)["attempts/1/record.json"] == {"sha256": digest_of_bytes(first.to_json())[7:]}
    assert definition(run)["internalParameters"]["changed"] == ["setting seed: 0 -> 1"]


def test_times_are_those_of_the_attempt() -> None:
    details = provenance(exported())["predicate"]["runDetails"]["metadata"]
    assert details["startedOn"] == "2026-03-01T12:00:00.000+00:00"
    assert details["finishedOn"] == "2026-03-01T12:00:12.500+00:00"


def test_equal_records_give_equal_bytes() -> None:
    assert canonical(provenance(exported())) == canonical(json.loads(canonical(provenance(exported()))))
