"""Keeping retests beside their run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.comparison.test_retest import AGAIN, RUN, a_retest
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError
from trainer.comparison.keep_retest import keep_retest, publish_retest, push_retests, retests_here, retests_in_store
from trainer.comparison.retest import retest_key
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

EVIDENCE = b"evidence"


def test_a_retest_lies_beside_its_run(tmp_path: Path) -> None:
    """With its evidence; one that cannot be read spoils none that can."""
    folder = tmp_path / RUN
    folder.mkdir()
    keep_retest(folder, a_retest(), evidence=EVIDENCE)
    (folder / "retests" / "20260303t120000-abcdef.json").write_text("{")
    assert retests_here(folder) == [a_retest()]
    assert (folder / "retests" / f"{AGAIN}.evidence.json").read_bytes() == EVIDENCE


def test_a_retest_is_published_once() -> None:
    """By create: again is as once, and another under its name is refused."""
    store = MemoryStore()
    for _ in range(2):
        publish_retest(a_retest(), store, evidence=EVIDENCE)
    assert retests_in_store(RUN, store) == [a_retest()]
    assert store.size(object_key(digest_of_bytes(EVIDENCE))) == len(EVIDENCE)
    with pytest.raises(DigestMismatchError, match="with other content"):
        publish_retest(a_retest(verdict="different"), store, evidence=EVIDENCE)


def test_what_others_wrote_there_is_passed_over() -> None:
    """A store is not trusted to hold retests only."""
    store = MemoryStore()
    store.create(retest_key(a_retest()), b"{}")
    store.create(f"runs/{RUN}/retests/x.json", a_retest().to_json())
    assert retests_in_store(RUN, store) == []


def test_retests_are_copied_into_another_store() -> None:
    source, target = MemoryStore(), MemoryStore()
    publish_retest(a_retest(), source, evidence=EVIDENCE)
    push_retests(RUN, source=source, target=target)
    assert retests_in_store(RUN, target) == [a_retest()]
    assert b"".join(target.read(object_key(a_retest().evidence))) == EVIDENCE
