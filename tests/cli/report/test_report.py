"""The command `reprise report`: the page contains the run's data, and no record can add anything active to it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from tests import certified
from tests.cli import browser
from tests.comparison.compared import make_run, save_trace
from tests.reporting.drawing.test_pictures import png
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import MachineError, RunNotFoundError
from trainer.cli.formatting import duration
from trainer.cli.report import main
from trainer.comparison.certificate import sign
from trainer.comparison.certify import save_certificate
from trainer.comparison.retest import Retest, run_identity, save_retest
from trainer.runs.figure import (
    FILE,
    BarFigure,
    Figures,
    Heights,
    LineFigure,
    MatrixFigure,
    PictureFigure,
    PointFigure,
    Series,
    TextFigure,
)
from trainer.runs.open_run import open_run
from trainer.runs.publish import publish_run
from trainer.runs.record import DatasetIngredient, Knowledge
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.comparison.compare import ComparedRun

EVIL = "</td></style><script>alert(1)</script><img src=x onerror=alert(2)>\"' style=x:y\u202e\x00"
NAME = EVIL.removesuffix("\x00")
"""A name is one line; a record whose name has several lines is rejected."""


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((name, dict(attributes)))


def run_with_figures(one: ComparedRun, *, name: str = "loss") -> ComparedRun:
    assert one.attempt
    rows = [{"step": step, name: 1 / step, f"val_{name}": 2 / step} for step in range(1, 60)]
    (one.attempt / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (one.attempt / "telemetry.jsonl").write_text('{"step": 10, "samples_per_second": 900.5, "seconds": 1}\n')
    save_trace(one.attempt, 0.5, 0.4)
    figures = (
        LineFigure(name="roc", title=name, x_label=name, y_label=name, series=(Series(name=name, x=(0, 1), y=(0, 1)),)),
        PointFigure(name="parity", title=name, x_label=name, y_label=name, x=(1,), y=(1,), of=9, diagonal=True),
        MatrixFigure(
            name="m", title=name, row_label=name, column_label=name, rows=(name,), columns=(name,), counts=((1,),)
        ),
        BarFigure(
            name="b", title=name, x_label=name, y_label=name, labels=(name,), series=(Heights(name=name, y=(1,)),)
        ),
        PictureFigure(name="p", title=name, file="p.png", captions=(name,)),
        TextFigure(name="t", title=name, given=name, text=name),
    )
    (one.attempt / FILE).write_bytes(Figures(figures=figures).to_json())
    (one.attempt / "p.png").write_text(EVIL)
    return one


def write_report(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*argv, "--no-samples", "--output", "-"]) == 0
    return capsys.readouterr().out


def edit_record(one: ComparedRun, **changes: Any) -> None:
    assert one.attempt
    path = one.attempt / "record.json"
    document = json.loads(path.read_text())
    for part, values in changes.items():
        document[part] |= values
    path.write_text(json.dumps(document))


def test_the_page_is_written_to_the_runs_folder_and_its_path_is_printed(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(runs).record.run
    assert main([run, "--no-samples"]) == 0
    assert capsys.readouterr().out.strip().endswith(f"runs/report-{run}.html")
    assert (runs / f"report-{run}.html").read_text().startswith("<!doctype html>\n<html")
    assert main(["latest", "--no-samples", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["runs"], document["bytes"]) == ([run], (runs / f"report-{run}.html").stat().st_size)


def test_a_page_of_one_run_shows_result_curves_figures_and_inputs(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = write_report([run_with_figures(make_run(runs)).record.run], capsys)
    titles = re.findall(r"<h2 id=[^>]*>([^<]*)", page)
    message = "Result Curves Figures Settings Code Environment Machine Files"
    assert [title.split()[0] for title in titles] == message.split()
    for text in (
        "0.5000",
        "gradient norm",
        "samples a second",
        "distribution numpy: 2.0 here",
        "command line",
        "12.5 s",
    ):
        assert text in page
    assert page.count("<svg") == 9


def test_an_undefined_metric_is_not_shown_as_a_number(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_run(runs)
    edit_record(
        one, outcome={"metrics": {"test_auc": "NaN"}, "undefined": {"test_auc": "all pairs are of one <class>"}}
    )
    page = write_report([one.record.run], capsys)
    assert '<dd title="undefined (all pairs are of one &lt;class&gt;)">undefined</dd>' in page
    both = write_report([one.record.run, make_run(runs).record.run], capsys)
    assert "undefined (all pairs are of one &lt;class&gt;)" in both


def test_without_a_trace_the_learning_rate_of_each_optimizer_is_drawn(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_run(runs, loss=0.5)
    assert one.attempt
    (one.attempt / "trace.jsonl").unlink(missing_ok=True)
    (one.attempt / "telemetry.jsonl").write_text('{"step": 1, "learning_rate": 0.1, "learning_rate_critic": 0.2}\n')
    page = write_report([one.record.run], capsys)
    titles = re.findall("<figcaption>(learning[^<]*)</figcaption>", page)
    assert titles == ["learning rate", "learning rate, critic"]


def test_the_runs_picture_of_samples_is_shown_with_the_data(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datasets = {"dots": DatasetIngredient(version=1, content=digest_of_bytes(b"dots"))}
    ids = []
    for seed in range(2):
        one = make_run(runs, datasets=datasets, settings={"seed": seed})
        assert one.attempt
        figure = PictureFigure(name="samples", title="Samples", file="samples.png", split=None)
        (one.attempt / FILE).write_bytes(Figures(figures=(figure,)).to_json())
        (one.attempt / "samples.png").write_bytes(png())
        ids.append(one.record.run)
    assert main([*ids, "--output", "-"]) == 0
    page = capsys.readouterr().out
    assert page.count("data:image/png;base64,") == 1
    assert "Figures</h2>" not in page


def test_several_runs_are_shown_side_by_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = run_with_figures(make_run(runs))
    b = run_with_figures(make_run(runs, loss=0.25, code="x = 2\n", settings={"seed": 1, "learning_rate": 0.001}))
    page = write_report([a.record.run, b.record.run], capsys)
    assert "2 runs of digits" in page
    assert page.count("A: seed 0") == page.count("B: seed 1") >= 3
    assert "different</span>" in page
    assert "result metrics differ (1 of 1)" in page
    assert 'class="add">+x = 2' in page
    marked = re.findall(r'<tr class="differs[^"]*"><th scope="row"><span[^>]*>≠</span>([^<]*)', page)
    assert {"run", "test_loss", "seed", "source"} <= set(marked)
    assert not {"status", "steps", "commit", "host"} & set(marked)


@pytest.mark.parametrize("signed", [True, False])
def test_certificates_and_retests_are_shown_under_sameness(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, signed: bool
) -> None:
    a, b = certified.make_traced_run(runs, 0.5), certified.make_traced_run(runs, 0.5)
    assert a.folder
    stated = certified.make_statement(a, b)
    private = certified.make_keys(tmp_path)[0]
    save_certificate(stated, sign(stated.to_json(), key=private) if signed else None, runs=runs)
    retest = Retest(
        original=run_identity(a.record),
        retest=run_identity(b.record),
        when=a.record.circumstances.timing.started,
        who="me",
        host="h",
        device="a CPU",
        how="here",
        image=Knowledge.UNKNOWN,
        verdict="identical",
        evidence=digest_of_bytes(b"{}"),
    )
    save_retest(a.folder, retest, evidence=b"{}")
    page = write_report([a.record.run], capsys)
    assert "certificate: rerun " in page
    assert ("the signature was not checked" in page) == signed
    assert ("its author is not verified" in page) != signed
    assert f"run again</th><td><span class={chr(34)}badge good{chr(34)}>identical</span>" in page


def test_a_resumed_run_shows_changes_and_the_time_of_all_attempts(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_run(runs)
    assert first.folder
    rate, seconds = first.record.ingredients.settings["learning_rate"], first.record.circumstances.timing.seconds
    assert seconds
    around = first.record.circumstances.model_copy(update={"changed": [f"setting learning_rate: {rate} -> 0.75"]})
    second = open_run(first.folder, ingredients=first.record.ingredients, circumstances=around)
    second.close(first.record.outcome)
    page = write_report([first.record.run], capsys)
    assert f"attempt 2: setting learning_rate: {rate} -&gt; 0.75" in page
    assert "<code>0.75</code>" in page
    assert f"took {duration(2 * seconds)} in 2 attempts" in page


def test_a_running_run_is_shown_so_far(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = run_with_figures(make_run(runs))
    edit_record(one, outcome={"status": "running", "metrics": {}, "weights": None})
    page = write_report([one.record.run], capsys)
    assert "There is no result." in page
    assert 'class="badge bad">killed' in page


def test_text_of_a_record_is_escaped(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = [
        run_with_figures(make_run(runs, code=f"# {number} {EVIL}\n", experiment=NAME), name=EVIL) for number in range(2)
    ]
    for number, one in enumerate(hostile):
        values = {EVIL: EVIL, "learning_rate": number}
        metrics = {f"test_{EVIL}": 0.5 + number, EVIL: EVIL}
        entry = {"value": EVIL, "origin": EVIL, "bound": [EVIL], "read": [EVIL]}
        record = one.record.model_dump(mode="json")
        edit_record(
            one,
            ingredients={"settings": values},
            outcome={
                "metrics": metrics,
                "reason": EVIL,
                "ledger": {EVIL: entry},
                "unread": [EVIL],
                "telemetry": {EVIL: 1},
            },
            circumstances={
                "command": [EVIL],
                "origins": {EVIL: EVIL, "learning_rate": "command line"},
                "drift": [EVIL],
                "host": record["circumstances"]["host"] | {"name": NAME, "cpu": NAME},
                "inventory": {"python": EVIL, "distributions": {f"{EVIL}{number}": {"version": EVIL}}},
                "image": {"known": "unknown", "reason": EVIL, "reference": EVIL},
                "source": {"how": "mounted", "commit": NAME, "left_out": [EVIL]},
                "execution": {f"x{EVIL}": EVIL},
            },
        )
    for words in ([hostile[0].record.run], [each.record.run for each in hostile]):
        page = write_report(words, capsys)
        assert page.count("alert(1)") > 20
        check_harmless(page)


def check_harmless(page: str) -> None:
    """Assert that a page has no script, event, address or control character, and that its policy comes first."""
    found = Tags(page).found
    assert {name for name, _ in found}.isdisjoint(
        {"script", "iframe", "object", "link", "a", "form", "base", "foreignobject"}
    )
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
    sources = [value for _, attributes in found for name, value in attributes.items() if name in {"src", "href"}]
    assert all(str(source).startswith("data:image/png;base64,") for source in sources)
    policies = [each.get("content") or "" for name, each in found if name == "meta" and "http-equiv" in each]
    assert [policy.startswith("default-src 'none';") for policy in policies] == [True]
    assert all(letter.isprintable() or letter == "\n" for letter in page)
    assert "url(" not in page.replace("alert", "")


def test_a_run_that_is_only_in_the_store_is_pulled_first(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    one = make_run(tmp_path / "elsewhere")
    assert one.folder
    publish_run(one.folder, open_store(str(tmp_path / "store")))
    with pytest.raises(RunNotFoundError):
        main([one.record.run])
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    assert one.record.run in write_report([one.record.run], capsys)
    assert (runs / one.record.run).is_dir()


def test_a_page_that_cannot_be_written_is_an_error(runs: Path) -> None:
    run = make_run(runs).record.run
    with pytest.raises(MachineError, match="nowhere"):
        main([run, "--no-samples", "--output", str(runs / "nowhere" / "r.html")])


@pytest.mark.long
@pytest.mark.skipif(browser.BROWSER is None, reason="needs a browser: apt-get install chromium")
def test_a_browser_renders_the_page_in_light_dark_wide_and_narrow(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (
        run_with_figures(make_run(runs)),
        run_with_figures(make_run(runs, loss=0.25, code="x = 2\n"), name=f"loss {EVIL}"),
    )
    c = run_with_figures(make_run(runs, settings={"seed": 2, "learning_rate": 0.1, "note": "word" * 200}))
    pages = []
    for number, words in enumerate([[a], [b], [a, b, c]]):
        pages.append(tmp_path / f"{number}.html")
        pages[-1].write_text(write_report([each.record.run for each in words], capsys))
    papers = set()
    with browser.page() as page:
        for file in pages:
            for width, dark in ((1200, False), (390, False), (390, True)):
                page.open(file, width=width, dark=dark)
                assert page.requests == [file.as_uri()]
                assert page.complaints == []
                assert page.value("document.documentElement.scrollWidth") <= width
                page.value("document.querySelectorAll('details').forEach(each => each.open = true)")
                assert page.value("document.documentElement.scrollWidth") <= width
                ink, paper = (
                    page.value(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")
                )
                assert abs(brightness(ink) - brightness(paper)) > 150
                papers.add(paper)
    assert len(papers) == 2


def brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
