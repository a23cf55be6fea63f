"""The documents about an attempt in a store, and records of released versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import DocumentError
from trainer.base.file_entry import File
from trainer.runs.record import Ingredients, identity_of, read_record, record_schema
from trainer.runs.seal import Published, Sealed, identity_as_written, read_claim, read_sealed, read_snapshot

GOLDEN = Path(__file__).parents[1] / "golden"
ROOT = Path(__file__).parents[2]
RUN = "20261123t054805-xhemam"
IDENTITY = "sha256:9ec2d23b9c6353b8523cd636ac257d5e4894fc2f036539458726dac167a2ddfc"


def test_a_record_of_the_first_version_still_loads() -> None:
    record = read_record((GOLDEN / "record-1.json").read_bytes(), where="golden")
    assert (record.run, record.identity, record.ingredients.device.workers) == (RUN, IDENTITY, 2)
    assert record.outcome.metrics["test_accuracy"] == 0.8500000238418579
    assert record.outcome.metrics["worst"] == "NaN"


def test_a_record_of_the_first_version_keeps_its_bytes_and_identity() -> None:
    """This test detects a change of the models that would change the identity of existing runs."""
    text = (GOLDEN / "record-1.json").read_bytes()
    record = read_record(text, where="golden")
    assert record.to_json() == text
    assert identity_of(record.ingredients) == identity_as_written(json.loads(text)) == IDENTITY


def test_a_seal_and_a_claim_of_the_first_version_still_load() -> None:
    seal, claim = (GOLDEN / "sealed-1.json").read_bytes(), (GOLDEN / "claim-1.json").read_bytes()
    sealed, record = read_sealed(seal, run=RUN, attempt=1, where="golden")
    assert record.identity == IDENTITY
    assert sealed.to_json() == seal
    assert read_claim(claim, where="golden").to_json() == claim


def test_a_snapshot_of_the_first_version_still_loads() -> None:
    text = (GOLDEN / "snapshot-1.json").read_bytes()
    snapshot, record = read_snapshot(text, run=RUN, attempt=1, where="golden")
    assert (record.identity, snapshot.number, snapshot.step) == (IDENTITY, 3, 45)
    assert snapshot.to_json() == text


def test_the_identity_follows_from_the_document_as_written() -> None:
    written = json.loads((GOLDEN / "record-1.json").read_bytes())
    before = identity_as_written(written)
    del written["ingredients"]["determinism"]["capabilities"]
    assert Ingredients.model_validate(written["ingredients"]).determinism.capabilities == {}
    assert identity_as_written(written) != before


def test_the_committed_schema_matches_the_models() -> None:
    """If this test fails, run `reprise runs schema > docs/record.schema.json`."""
    assert (ROOT / "docs" / "record.schema.json").read_text(encoding="utf-8") == record_schema()


@pytest.mark.parametrize("change", [{"run": "20260301t120000-aaaaaa"}, {"attempt": 2}, {"identity": f"sha256:{0:064}"}])
def test_a_seal_of_another_record_is_rejected(change: dict[str, object]) -> None:
    seal = json.loads((GOLDEN / "sealed-1.json").read_bytes())
    seal["record"] |= change
    with pytest.raises(DocumentError):
        read_sealed(canonical(seal), run=RUN, attempt=1, where="seal")


@pytest.mark.parametrize("paths", [["a", "a"], ["a", "a/b"], ["a/b/c", "a/b"]])
def test_a_seal_with_conflicting_paths_is_rejected(paths: list[str]) -> None:
    seal = json.loads((GOLDEN / "sealed-1.json").read_bytes())
    seal["files"] = [seal["files"][0] | {"path": path} for path in paths]
    with pytest.raises(DocumentError, match="is listed twice, or is both a file and a folder"):
        read_sealed(canonical(seal), run=RUN, attempt=1, where="seal")


def test_a_claim_has_at_most_64_kib_and_an_attempt_of_at_least_1() -> None:
    claim = (GOLDEN / "claim-1.json").read_bytes()
    assert read_claim(claim.ljust(65_536), where="claim").attempt == 1
    with pytest.raises(DocumentError, match="at most 65,536"):
        read_claim(claim.ljust(65_537), where="claim")
    with pytest.raises(DocumentError, match="attempt"):
        read_claim(canonical(json.loads(claim) | {"attempt": 0}), where="claim")


def test_a_seal_has_at_most_100000_files_and_a_matching_size() -> None:
    file = File(path="a", size=3, sha256=digest_of_bytes(b""))
    assert Sealed(record={}, files=[file] * 100_000).size == 300_000
    assert Sealed(record={}, files=[], source=file).size == 3
    with pytest.raises(ValidationError):
        Sealed(record={}, files=[file] * 100_001)


def test_a_publication_note_omits_unknown_facts() -> None:
    note = Published(store="s", sealed=digest_of_bytes(b""))
    assert set(json.loads(note.to_json())) == {"format", "store", "sealed"}
