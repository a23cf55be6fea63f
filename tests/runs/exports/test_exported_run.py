"""Reading a run to export: from a folder, from a store without its files, and from only a record."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.certified import make_traced_run, resume_copy
from tests.runs.runs import finish_run, start_run
from trainer.base.errors import DigestMismatchError, DocumentError, RunError, RunNotFoundError
from trainer.runs.exports.crate_file import write_crate
from trainer.runs.exports.exported_run import run_in_folder, run_in_store, run_of_record
from trainer.runs.exports.slsa import provenance
from trainer.runs.publish import publish_run
from trainer.stores.directory import DirectoryStore
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path


def test_a_published_run_gives_the_same_document_without_its_files(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    run, store = finish_run(tmp_path / "runs"), DirectoryStore(tmp_path / "store")
    folder = run.folder.parents[1]
    publish_run(folder, store)
    shutil.rmtree(tmp_path / "store/objects")
    assert provenance(run_in_store(run.record.run, store)) == provenance(run_in_folder(folder))


def test_every_attempt_of_a_resumed_run_is_read_and_copied(tmp_path: Path) -> None:
    folder = resume_copy(make_traced_run(tmp_path / "runs", 0.5, 0.4)).folder
    assert folder
    run = run_in_folder(folder)
    assert [attempt.record.attempt for attempt in run.attempts] == [1, 2]
    write_crate(run, folder, out=tmp_path / "crate")
    weights = [tmp_path / "crate/attempts" / number / "weights.safetensors" for number in "12"]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    names = [each["name"] for each in provenance(run)["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert names[-1] == "attempts/1/record.json"


def test_a_run_that_has_not_ended_is_rejected(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    with pytest.raises(RunError, match="still running") as error:
        run_in_folder(run.folder.parents[1])
    assert f"runs publish {run.record.run} --abandoned" in str(error.value.hint)


def test_an_edited_published_record_is_rejected(tmp_path: Path) -> None:
    run = finish_run(tmp_path / "runs")
    publish_run(run.folder.parents[1], MemoryStore())
    (run.folder / "record.json").write_bytes((run.folder / "record.json").read_bytes().replace(b"0.300", b"0.900"))
    with pytest.raises(DigestMismatchError, match="changed after"):
        run_in_folder(run.folder.parents[1])


def test_missing_runs_and_other_documents_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        run_in_folder(tmp_path / "runs" / "20260301t120005-abcdef")
    with pytest.raises(RunNotFoundError):
        run_in_store("20260301t120005-abcdef", MemoryStore())
    with pytest.raises(DocumentError):
        run_of_record(b"{}", where="there")
