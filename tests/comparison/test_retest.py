"""Retests: their format, and saving them in the run's folder and in a store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.comparison.retest import (
    Retest,
    RunIdentity,
    local_retests,
    publish_retest,
    published_retests,
    push_retests,
    read_retest,
    save_retest,
    summarize_retests,
)
from trainer.runs.record import Knowledge
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

RUN, AGAIN = "20260301t120000-abcdef", "20260302t120000-abcdef"
KEY = f"runs/{RUN}/retests/{AGAIN}.json"
EVIDENCE = b"evidence"


def a_retest(*, verdict: str = "identical", device: str = "AMD EPYC", day: int = 2) -> Retest:
    identity = digest_of_bytes(b"identity")
    return Retest(
        original=RunIdentity(run=RUN, attempt=1, identity=identity),
        retest=RunIdentity(run=AGAIN, attempt=1, identity=identity),
        when=datetime(2026, 3, day, tzinfo=UTC),
        who="someone",
        host="h",
        device=device,
        how="container",
        image=Knowledge.VERIFIED,
        verdict=verdict,
        evidence=digest_of_bytes(b"evidence"),
    )


def test_a_retest_round_trips() -> None:
    retest = a_retest()
    assert read_retest(retest.to_json(), "there", run=RUN) == retest
    assert read_retest(retest.to_json(), "there", run=RUN).to_json() == retest.to_json()


def test_a_retest_of_the_first_version_still_loads() -> None:
    text = (Path(__file__).parents[1] / "golden" / "retest-1.json").read_bytes()
    retest = read_retest(text, "golden", run=RUN)
    assert (retest.verdict, retest.hashed, retest.to_json()) == ("identical", 23560, text)


def test_a_retest_of_another_run_is_rejected() -> None:
    with pytest.raises(DocumentError, match="is a retest of"):
        read_retest(a_retest().to_json(), "there", run=AGAIN)


def test_the_key_in_a_store_contains_both_runs() -> None:
    store = MemoryStore()
    publish_retest(a_retest(), store, evidence=EVIDENCE)
    assert list(store.keys("runs/")) == [KEY]


def test_retests_are_counted_by_device_and_verdict() -> None:
    lines = summarize_retests([a_retest(), a_retest(day=5), a_retest(verdict="different", device="Xeon")])
    assert lines == ["identical: 2 on AMD EPYC, last 2026-03-05", "different: 1 on Xeon, last 2026-03-02"]


@pytest.mark.parametrize(("verdict", "confirms"), [("identical", True), ("within noise", True), ("different", False)])
def test_a_retest_confirms_or_refutes(verdict: str, *, confirms: bool) -> None:
    assert a_retest(verdict=verdict).confirms is confirms


def test_a_retest_and_its_evidence_are_saved_beside_its_run_and_damaged_retests_are_skipped(tmp_path: Path) -> None:
    folder = tmp_path / RUN
    folder.mkdir()
    save_retest(folder, a_retest(), evidence=EVIDENCE)
    (folder / "retests" / "20260303t120000-abcdef.json").write_text("{")
    assert local_retests(folder) == [a_retest()]
    assert (folder / "retests" / f"{AGAIN}.evidence.json").read_bytes() == EVIDENCE


def test_publishing_a_retest_is_idempotent_and_another_retest_of_that_name_is_rejected() -> None:
    store = MemoryStore()
    for _ in range(2):
        publish_retest(a_retest(), store, evidence=EVIDENCE)
    assert published_retests(RUN, store) == [a_retest()]
    assert store.size(object_key(digest_of_bytes(EVIDENCE))) == len(EVIDENCE)
    with pytest.raises(DigestMismatchError, match="with different content"):
        publish_retest(a_retest(verdict="different"), store, evidence=EVIDENCE)


def test_damaged_and_unknown_files_in_a_store_are_skipped() -> None:
    store = MemoryStore()
    store.create(KEY, b"{}")
    store.create(f"runs/{RUN}/retests/x.json", a_retest().to_json())
    assert published_retests(RUN, store) == []


def test_retests_are_copied_into_another_store() -> None:
    source, target = MemoryStore(), MemoryStore()
    publish_retest(a_retest(), source, evidence=EVIDENCE)
    push_retests(RUN, source=source, target=target)
    assert published_retests(RUN, target) == [a_retest()]
    assert b"".join(target.read(object_key(a_retest().evidence))) == EVIDENCE
