"""Documents about runs: serialization, checks on reading, and a folder for each kind of document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from trainer.base.errors import DocumentError
from trainer.comparison.saved_document import SavedDocument, read_files, save_files

if TYPE_CHECKING:
    from pathlib import Path


class Count(SavedDocument):
    """A document that is inconsistent if its count is negative."""

    format: Literal["reprise.count/1"] = "reprise.count/1"
    count: int

    def check(self, where: str) -> None:
        if self.count < 0:
            raise DocumentError(f"{where} has a negative count", hint="correct it")


def test_a_document_round_trips_and_its_check_names_the_file() -> None:
    assert Count.read(Count(count=1).to_json(), "there") == Count(count=1)
    with pytest.raises(DocumentError, match="there has a negative count"):
        Count.read(Count(count=-1).to_json(), "there")
    with pytest.raises(DocumentError, match=r"reprise\.count/1"):
        Count.read(b'{"count":1,"format":"reprise.count/2"}', "there")


def test_files_that_cannot_be_read_are_reported_or_raised(tmp_path: Path) -> None:
    files = {"b.json": Count(count=2).to_json(), "a.json": b"{", "note.txt": b""}
    assert save_files(tmp_path, "counts", files) == tmp_path / "counts" / "note.txt"
    faults: list[str] = []
    documents = read_files(
        tmp_path, "counts", Count.read, most=100, on_fault=lambda name, error: faults.append(f"{name}: {error.message}")
    )
    assert documents == [Count(count=2)]
    assert faults[0].startswith(f"a.json: {tmp_path / 'counts' / 'a.json'} is not valid JSON")
    with pytest.raises(DocumentError, match="not valid JSON"):
        read_files(tmp_path, "counts", Count.read, most=100)
    assert read_files(tmp_path, "none", Count.read, most=100) == []
