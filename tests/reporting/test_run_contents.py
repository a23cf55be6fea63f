"""Loading the content of a run's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.comparison.compared import make_run, save_trace
from tests.runs.runs import start_run
from trainer.reporting.run_contents import load_run_contents
from trainer.runs.figure import FILE, Figures, LineFigure, PictureFigure, Series
from trainer.runs.record import Outcome, RunStatus

if TYPE_CHECKING:
    from pathlib import Path


def test_curves_figures_and_pictures_are_collected(tmp_path: Path) -> None:
    one = make_run(tmp_path / "runs")
    assert one.folder and one.attempt  # noqa: PT018 - narrows the types
    (one.attempt / "metrics.jsonl").write_text('{"step":1,"train_loss":0.5}\n')
    save_trace(one.attempt, 0.5)
    line = LineFigure(name="roc", title="ROC", x_label="x", y_label="y", series=(Series(name="a", x=(0,), y=(0,)),))
    pictures = [PictureFigure(name=name, title="S", file=f"{name}.png") for name in ("samples", "linked")]
    (one.attempt / FILE).write_bytes(Figures(figures=(line, *pictures)).to_json())
    (one.attempt / "samples.png").write_bytes(b"png")
    (one.attempt / "linked.png").symlink_to("/etc/hostname")
    found = load_run_contents(one.folder)
    assert (set(found.metrics), set(found.schedule)) == ({"train_loss"}, {"learning rate", "gradient norm"})
    assert [figure.name for figure in found.figures] == ["roc", "samples", "linked"]
    assert found.pictures == {"samples.png": b"png"}
    assert (found.notes, found.died) == ((), False)


def test_curves_and_pictures_that_differ_from_the_record_are_not_shown(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    (run.folder / "metrics.jsonl").write_text('{"step":1,"train_loss":0.5}\n')
    (run.folder / "telemetry.jsonl").write_text('{"step":1,"samples_per_second":9}\n')
    save_trace(run.folder, 0.5)
    pictures = [PictureFigure(name=name, title="S", file=f"{name}.png") for name in ("samples", "altered")]
    (run.folder / FILE).write_bytes(Figures(figures=tuple(pictures)).to_json())
    for picture in pictures:
        (run.folder / picture.file).write_bytes(b"png")
    run.close(Outcome(status=RunStatus.COMPLETED))
    folder = run.folder.parents[1]
    whole = load_run_contents(folder)
    assert (len(whole.metrics), len(whole.schedule), len(whole.telemetry), len(whole.pictures)) == (1, 2, 1, 2)
    assert whole.notes == ()
    names = ("altered.png", "metrics.jsonl", "telemetry.jsonl", "trace.jsonl")
    for name in names:
        with (run.folder / name).open("a") as file:
            file.write('{"step":2,"train_loss":0}\n')
    found = load_run_contents(folder)
    assert (found.metrics, found.schedule, found.telemetry, found.pictures) == ({}, {}, {}, {"samples.png": b"png"})
    assert [note.partition(" is damaged: recorded ")[0] for note in found.notes] == [str(run.folder / n) for n in names]
    assert all(note.endswith(", so it is not shown") for note in found.notes)
    (run.folder / FILE).write_bytes(Figures().to_json())
    assert len(load_run_contents(folder).notes) == len(names) + 1


def test_unreadable_files_are_notes(tmp_path: Path) -> None:
    one = make_run(tmp_path / "runs")
    assert one.folder and one.attempt  # noqa: PT018 - narrows the types
    (one.attempt / FILE).write_text("{")
    (one.folder / "certificates").mkdir()
    (one.folder / "certificates" / "rerun.json").write_text("{}")
    (one.folder / "source.tar.gz").write_bytes(b"no")
    notes = load_run_contents(one.folder).notes
    assert [note.split(":")[0].split(" ")[0] for note in notes] == [FILE, "source.tar.gz", "certificates/rerun.json"]


def test_files_that_are_too_large_are_notes(tmp_path: Path) -> None:
    one = make_run(tmp_path / "runs")
    assert one.folder and one.attempt  # noqa: PT018 - narrows the types
    for name, size in ((FILE, 1 << 25), ("metrics.jsonl", (1 << 28) + 1)):
        with (one.attempt / name).open("wb") as file:
            file.truncate(size)
    assert load_run_contents(one.folder).notes == (
        "metrics.jsonl has 268,435,457 bytes, so its curves are not drawn: at most 268,435,456 bytes are read",
        f"figures.json: {one.attempt / FILE} has 33554432 bytes; expected at most 16777216",
    )


def test_the_shown_code_is_the_experiments_module(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout" / "trainer" / "experiments"
    checkout.mkdir(parents=True)
    (checkout / "digits.py").write_text("# mine\n")
    assert load_run_contents(start_run(tmp_path / "runs").folder.parents[1]).code == (
        "trainer/experiments/digits.py",
        "# mine\n",
    )
    assert load_run_contents(make_run(tmp_path / "more" / "runs").folder or tmp_path).code is None


def test_a_killed_run_is_distinguished_from_a_running_run(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    assert not load_run_contents(run.folder.parents[1]).died
