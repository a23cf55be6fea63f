"""What a store holds about an attempt, and records of every version that was ever released."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.digest import canonical
from trainer.errors import DocumentError
from trainer.record import Ingredients, identity_of, read_record
from trainer.record_schema import record_schema
from trainer.seal import identity_as_written, read_claim, read_sealed

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]
RUN = "20261123t054805-xhemam"
IDENTITY = "sha256:9ec2d23b9c6353b8523cd636ac257d5e4894fc2f036539458726dac167a2ddfc"


def test_a_record_of_the_first_version_loads_for_ever() -> None:
    """Written by a real run, with every field in use; it keeps its identity, and its meaning."""
    record = read_record((GOLDEN / "record-1.json").read_bytes(), where="golden")
    assert (record.run, record.identity, record.ingredients.device.workers) == (RUN, IDENTITY, 2)
    assert record.outcome.metrics["test_accuracy"] == 0.8500000238418579
    assert record.outcome.metrics["worst"] == "NaN"


def test_the_first_versions_bytes_and_identity_are_still_the_same() -> None:
    """A change of the models that would rename every run ever made is seen here."""
    text = (GOLDEN / "record-1.json").read_bytes()
    record = read_record(text, where="golden")
    assert record.to_json() == text
    assert identity_of(record.ingredients) == identity_as_written(json.loads(text)) == IDENTITY


def test_a_seal_and_a_claim_of_the_first_version_load_for_ever() -> None:
    """And are written again byte for byte."""
    seal, claim = (GOLDEN / "sealed-1.json").read_bytes(), (GOLDEN / "claim-1.json").read_bytes()
    sealed, record = read_sealed(seal, run=RUN, attempt=1, where="golden")
    assert record.identity == IDENTITY
    assert sealed.to_json() == seal
    assert read_claim(claim, where="golden").to_json() == claim


def test_identity_is_that_of_the_words_as_written() -> None:
    """An ingredient that a later version adds does not change what an earlier record was."""
    written = json.loads((GOLDEN / "record-1.json").read_bytes())
    before = identity_as_written(written)
    del written["ingredients"]["determinism"]["capabilities"]
    assert Ingredients.model_validate(written["ingredients"]).determinism.capabilities == {}
    assert identity_as_written(written) != before


def test_the_committed_schema_is_that_of_the_models() -> None:
    """`reprise runs schema > docs/record.schema.json` makes it."""
    assert (ROOT / "docs" / "record.schema.json").read_text(encoding="utf-8") == record_schema()


@pytest.mark.parametrize("change", [{"run": "20260301t120000-aaaaaa"}, {"attempt": 2}, {"identity": f"sha256:{0:064}"}])
def test_a_seal_whose_record_is_another_is_refused(change: dict[str, object]) -> None:
    """Another run, another attempt, an identity that is not that of the ingredients."""
    seal = json.loads((GOLDEN / "sealed-1.json").read_bytes())
    seal["record"] |= change
    with pytest.raises(DocumentError):
        read_sealed(canonical(seal), run=RUN, attempt=1, where="seal")
