"""The record, and the ingredients that determine a run's identity."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.records import ingredients, record
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DocumentError
from trainer.runs.record import identity_of, read_record
from trainer.runs.run_id import is_run_id, new_run_id

OTHER = digest_of_bytes(b"other")


def test_a_record_round_trips_through_json() -> None:
    written = record(metrics={"test_accuracy": 0.1 + 0.2, "test_loss": "NaN"})
    assert read_record(written.to_json(), where="here") == written


@pytest.mark.parametrize(
    "changed",
    [
        {"experiment": "faces"},
        {"settings": {"seed": 1, "learning_rate": 0.001}},
        {"source": OTHER},
        {"lock": None},
        {"layers": None},
        {"layers": [OTHER]},
    ],
)
def test_every_ingredient_changes_the_identity(changed: dict[str, Any]) -> None:
    assert identity_of(ingredients(**changed)) != identity_of(ingredients())


def test_the_order_of_settings_does_not_change_the_identity() -> None:
    assert identity_of(ingredients(settings={"learning_rate": 0.001, "seed": 0})) == identity_of(ingredients())


def test_run_ids_contain_the_time_and_random_characters() -> None:
    run_id = new_run_id(datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC))
    assert run_id.startswith("20260301t120005-")
    assert is_run_id(run_id)
    assert not is_run_id("../" + run_id)


def test_a_record_of_an_unknown_version_is_rejected() -> None:
    later = json.loads(record().to_json()) | {"format": "reprise.run/9"}
    with pytest.raises(DocumentError, match=r"reprise\.run/9"):
        read_record(json.dumps(later), where="there")
