"""Comparing two runs: verdict and evidence."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.comparison.compared import float_tensor, make_run, save_trace, save_weights
from tests.runs.runs import finish_run
from trainer.base.digest import canonical
from trainer.base.errors import DigestMismatchError, DocumentError, RunError, RunNotFoundError
from trainer.comparison.compare import (
    METRICS,
    ComparedRun,
    Comparison,
    EvidenceSources,
    compare,
    load_compared_run,
    stronger_verdicts,
)
from trainer.comparison.verdict import VerdictLevel
from trainer.comparison.weights import TENSORS, WEIGHTS
from trainer.runs.differences import DifferenceKind
from trainer.runs.run import RECORD
from trainer.source.capture import ARCHIVE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def run_compare(a: ComparedRun, b: ComparedRun, runs: Path) -> Comparison:
    return compare(a, b, sources=EvidenceSources(runs=runs, cache=runs.parent / "cache"))


def test_comparing_a_run_with_itself_is_noted(runs: Path) -> None:
    a = make_run(runs)
    assert a.folder is not None
    assert a.attempt is not None
    (runs.parent / "link").symlink_to(runs)
    for again in (a, load_compared_run(runs.parent / "link" / a.folder.name), load_compared_run(a.attempt)):
        found = run_compare(a, again, runs)
        assert (found.verdict.level, found.same_run) == (VerdictLevel.IDENTICAL, True)


def test_runs_with_equal_results_are_identical_despite_other_inputs(runs: Path) -> None:
    found = run_compare(make_run(runs), make_run(runs, code="x = 2\n", settings={"seed": 1}), runs)
    assert (found.verdict.level, found.same_run, stronger_verdicts(found)) == (VerdictLevel.IDENTICAL, False, {})
    assert [each.kind for each in found.candidates] == [
        DifferenceKind.SETTING,
        DifferenceKind.SETTING,
        DifferenceKind.CODE,
    ]
    assert found.candidates[-1].inside[:2] == ("--- A/code.py", "+++ B/code.py")
    assert {"-x = 1", "+x = 2"} < set(found.candidates[-1].inside)


def test_a_difference_of_one_ulp_in_one_weight_is_found(runs: Path) -> None:
    weights = {"same": float_tensor(3.0), "w": float_tensor(1.0, 2.0000002384185791)}
    a = make_run(runs, weights={"same": float_tensor(3.0), "w": float_tensor(1.0, 2.0)})
    found = run_compare(a, make_run(runs, weights=weights, settings={"seed": 1, "learning_rate": 0.001}), runs)
    assert found.verdict.level is VerdictLevel.DIFFERENT
    assert found.weights is not None
    (tensor,) = found.weights.differing
    assert tensor.apart is not None
    assert (tensor.name, tensor.apart.differing, tensor.apart.first, tensor.apart.ulp) == ("w", 1, 1, 1)
    assert "setting seed" in stronger_verdicts(found)[VerdictLevel.IDENTICAL]


def test_equal_ingredients_are_noted_as_no_explanation(runs: Path) -> None:
    found = run_compare(make_run(runs), make_run(runs, loss=0.25), runs)
    assert "no ingredient differs" in stronger_verdicts(found)[VerdictLevel.IDENTICAL]


def test_the_first_step_comes_from_the_traces(runs: Path) -> None:
    a, b = make_run(runs), make_run(runs, loss=0.25)
    assert a.attempt is not None
    assert b.attempt is not None
    save_trace(a.attempt, 0.5, 0.4, 0.3)
    save_trace(b.attempt, 0.5, 0.4, 0.2, slow_from=2)
    divergence = run_compare(a, b, runs).divergence
    assert divergence is not None
    assert (divergence.step, divergence.stream, divergence.quantity) == (2, "schedule", "0.lr")


def test_steps_are_not_compared_by_a_log_that_differs_from_its_record(runs: Path) -> None:
    a, b = (load_compared_run(finish_run(runs / name).folder) for name in ("a", "b"))
    assert a.attempt is not None
    path = a.attempt / METRICS
    path.write_text(path.read_text() + '{"step":2,"train_loss":0.5}\n')
    comparison = run_compare(a, b, runs)
    assert comparison.divergence is None
    (note,) = [note for note in comparison.notes if note.startswith("steps")]
    assert note.startswith(f"steps: not compared: {path} is damaged: recorded 11 bytes, found 39; it is in no store: ")


def test_a_missing_file_is_a_note(runs: Path) -> None:
    a, b = make_run(runs), make_run(runs, code="y\n", loss=0.25)
    remote = run_compare(a, ComparedRun(record=b.record), runs)
    assert remote.verdict.level is VerdictLevel.DIFFERENT
    assert f"`reprise runs pull {b.record.run}` first" in remote.notes[-1]
    assert b.folder is not None
    assert b.attempt is not None
    for path in (b.folder / ARCHIVE, b.attempt / TENSORS):
        path.unlink()
    notes = run_compare(a, b, runs).notes
    assert [note.partition(":")[0] for note in notes] == ["steps", "code", "weights"]


def test_missing_weights_are_compared_by_digest(runs: Path) -> None:
    a, b = make_run(runs), make_run(runs, weights={"w": float_tensor(1.0)})
    assert b.attempt is not None
    (b.attempt / WEIGHTS).unlink()
    found = run_compare(a, b, runs)
    assert found.weights is not None
    assert [(tensor.shapes, tensor.apart) for tensor in found.weights.differing] == [(((2,), (1,)), None)]
    assert any("by the digests" in note for note in found.notes)


def test_the_json_document_is_deterministic(runs: Path) -> None:
    a, b = make_run(runs), make_run(runs, weights={"w": float_tensor(float("nan"), 2.0)})
    document = run_compare(a, b, runs).document()
    again = json.loads(canonical(document))
    assert (again["format"], again["verdict"], again["exit"]) == ("reprise.comparison/1", "different", 20)
    assert again["weights"]["differing"][0]["apart"]["nan_against_number"] == 1
    assert canonical(run_compare(a, b, runs).document()) == canonical(document)


def test_weights_that_differ_from_the_record_are_rejected(runs: Path) -> None:
    a, b, c = make_run(runs), make_run(runs), make_run(runs)
    assert b.attempt is not None
    assert c.attempt is not None
    save_weights(b.attempt, {"w": float_tensor(1.0, 3.0)})
    with pytest.raises(DigestMismatchError, match=r"tensors\.json belongs to the weights"):
        run_compare(a, b, runs)
    body = bytearray((c.attempt / WEIGHTS).read_bytes())
    body[-1] ^= 1
    (c.attempt / WEIGHTS).write_bytes(body)
    with pytest.raises(DigestMismatchError, match="tensor 'w' is sha256"):
        run_compare(a, c, runs)


@pytest.mark.parametrize("name", [WEIGHTS, TENSORS])
@pytest.mark.parametrize("kept", [0, 1, 9, -1])
def test_a_truncated_file_is_rejected_in_one_line(runs: Path, name: str, kept: int) -> None:
    a, b = make_run(runs), make_run(runs)
    assert b.attempt is not None
    (b.attempt / name).write_bytes((b.attempt / name).read_bytes().rstrip(b"\n")[:kept])
    with pytest.raises(DocumentError) as caught:
        run_compare(a, b, runs)
    assert str(b.attempt / name) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_source_that_differs_from_the_record_is_rejected(runs: Path) -> None:
    a, b = make_run(runs), make_run(runs, code="y = 1\n")
    assert a.folder is not None
    assert b.folder is not None
    shutil.copy(a.folder / ARCHIVE, b.folder / ARCHIVE)
    with pytest.raises(DigestMismatchError, match="its record names"):
        run_compare(a, b, runs)


def test_a_folder_that_is_not_a_run_is_rejected(runs: Path) -> None:
    with pytest.raises(RunNotFoundError, match="is not a run's folder"):
        load_compared_run(runs.parent)
    a = make_run(runs)
    assert a.attempt is not None
    document = json.loads((a.attempt / RECORD).read_text())
    (a.attempt / RECORD).write_text(json.dumps(document | {"verdict": "identical"}))
    with pytest.raises(DocumentError, match="unknown key 'verdict'"):
        load_compared_run(a.attempt)
    (a.attempt / RECORD).unlink()
    with pytest.raises(RunError, match="cannot be read"):
        load_compared_run(runs / a.record.run)
