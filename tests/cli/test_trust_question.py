"""The trust question at a terminal, and untrusted checkpoints and sweeps."""

from __future__ import annotations

import io
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_trust import make_bundle
from tests.records import record as a_record
from tests.runs.runs import finish_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, SourceError, UntrustedCodeError
from trainer.cli import trust
from trainer.cli.trust import (
    ISOLATION,
    TrustDecision,
    grants,
    host_command,
    is_own_sweep,
    isolation,
    own_attempts_of,
    page,
    register_sweep,
    require_checkpoint_trust,
    require_own_sweep,
    require_trust,
    trust_options,
)
from trainer.runs.register import register_attempt
from trainer.source.capture import ARCHIVE
from trainer.source.description import Source
from trainer.sweeps.document import Point, Sweep, SweepRequest

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.open_run import OpenRun

WORD = TrustDecision(command="reprise reproduce RUN")
TRUSTED = TrustDecision(trusted=True, command="reprise reproduce RUN")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenRun:
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    return finish_run(tmp_path / "runs")


def answer_question(monkeypatch: pytest.MonkeyPatch, text: str) -> Terminal:
    """Simulate a terminal with the input `text`; return its output stream."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(text))
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


@pytest.mark.parametrize("text", ["y\n", "yes\n", " Y \n", "YES\n"])
def test_yes_at_a_terminal_runs_the_code(run: OpenRun, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    shown = answer_question(monkeypatch, text)
    assert require_trust(run.record, run.folder.parents[1], WORD, is_isolated=True) is False
    assert shown.getvalue().endswith(f"Run it ({ISOLATION})? [y/N] ")


@pytest.mark.parametrize("text", ["", "\n", "n\n", "no\n", "yep\n", "ye\n"])
def test_any_other_answer_does_not_run_the_code(run: OpenRun, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    answer_question(monkeypatch, text)
    with pytest.raises(UntrustedCodeError, match="is from another user or machine; it was not run") as caught:
        require_trust(run.record, run.folder.parents[1], WORD, is_isolated=True)
    archive = run.folder.parents[1] / ARCHIVE
    assert caught.value.hint == f"read it (tar -xzf {archive} -C DIR), then: reprise reproduce RUN --trust"


@pytest.mark.parametrize("stream", ["stdin", "stderr"])
def test_a_terminal_on_one_stream_only_is_not_a_terminal(
    run: OpenRun, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    answer_question(monkeypatch, "y\n")
    monkeypatch.setattr(sys, stream, io.StringIO("y\n"))
    with pytest.raises(UntrustedCodeError, match="it is not trusted"):
        require_trust(run.record, run.folder.parents[1], WORD, is_isolated=True)


def test_trust_option_skips_the_question_and_grant_option_alone_does_not(
    run: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, folder = answer_question(monkeypatch, ""), run.folder.parents[1]
    assert not require_trust(run.record, folder, TRUSTED, is_isolated=True)
    assert "[y/N]" not in shown.getvalue()
    with pytest.raises(UntrustedCodeError, match="it was not run"):
        require_trust(run.record, folder, TrustDecision(granted=grants("machine"), command="x"), is_isolated=False)
    assert "Run it (everything that this user can access" in shown.getvalue()


def test_a_source_that_does_not_match_the_record_is_never_run(run: OpenRun) -> None:
    folder = run.folder.parents[1]
    other = run.record.ingredients.model_copy(update={"source": digest_of_bytes(b"other")})
    with pytest.raises(DigestMismatchError, match="the record names"):
        require_trust(run.record.model_copy(update={"ingredients": other}), folder, TRUSTED, is_isolated=True)
    (folder / ARCHIVE).unlink()
    with pytest.raises(SourceError, match="does not exist"):
        require_trust(run.record, folder, TRUSTED, is_isolated=True)


@pytest.mark.parametrize(
    ("lines", "more"), [(397, None), (398, "... and 1 more line"), (500, "... and 103 more lines")]
)
def test_a_diff_is_cut_at_400_lines(lines: int, more: str | None) -> None:
    shown = list(page(a_record(), make_bundle(new=b"x\n" * lines), checkout={}))
    assert sum(line == "+x" for line in shown) == min(lines, 397)
    assert (shown[-1] if "more line" in shown[-1] else None) == more


def test_the_question_names_the_owner_of_the_code() -> None:
    record, source = a_record(), make_bundle(one=b"x" * 1_250_000)
    around = record.circumstances
    named = around.image.model_copy(update={"reference": "registry.example/cpu\x1b[2J"})
    record = record.model_copy(update={"circumstances": around.model_copy(update={"image": named})})
    head = [
        f"run {record.run} is from another user or machine, host {around.host.name}",
        f"its source: 1 file, 1.2 MB, commit {around.source.commit}",
        "its image: registry.example/cpu\\u001b[2J",
    ]
    assert list(page(record, source, checkout={"one.py": source.files[0].sha256})) == [
        *head,
        "every file is identical to this checkout's",
    ]
    nameless = around.model_copy(update={"image": named.model_copy(update={"reference": None})})
    lines = list(page(record.model_copy(update={"circumstances": nameless}), source, checkout={}))
    assert lines[:4] == [*head[:2], "different from this checkout: 1 file", "  one.py  1,250,000 bytes"]


def test_files_that_cannot_be_compared_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "CHECKOUT", tmp_path)
    (tmp_path / "there.py").mkdir()
    shown = list(
        page(a_record(), make_bundle(bits=b"\xff\x00", there=b"x = 1\n"), checkout={"there.py": digest_of_bytes(b"")})
    )
    assert shown[-2:] == ["  bits.py  2 bytes", "  there.py  6 bytes"]
    monkeypatch.setattr(trust, "CHECKOUT", tmp_path / "gone")
    assert trust.checkout_files() == {}


def test_checkpoints_of_other_users_need_trust(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UntrustedCodeError, match="it is not trusted"):
        require_checkpoint_trust(a_record(), WORD)
    require_checkpoint_trust(a_record(), TRUSTED)
    assert capsys.readouterr().err.count("values that this user did not compute on this machine") == 2


def test_the_question_lists_what_the_code_can_reach() -> None:
    assert isolation(frozenset()) == ISOLATION == "no network, no keys, nothing writable but its own run folder"
    assert isolation(grants("store,network")) == (
        f"{ISOLATION}; granted: the network, the store, with its keys, and the network"
    )
    assert host_command("reprise why A B") == "scripts/reprise why A B"
    assert grants(None) == grants(" , ") == frozenset()


@pytest.mark.parametrize(("typed", "trusted"), [([], False), (["--trust"], True)])
def test_options_answer_the_question_in_advance(typed: list[str], *, trusted: bool) -> None:
    parser = ArgumentParser()
    trust_options(parser)
    result = parser.parse_args([*typed, "--grant", "store"])
    assert (result.trust, result.grant) == (trusted, "store")


def test_registered_attempts_are_listed(run: OpenRun) -> None:
    assert own_attempts_of(run.folder.parents[1]) == []
    register_attempt(run.folder)
    assert own_attempts_of(run.folder.parents[1]) == [1]


def test_a_registered_sweep_belongs_to_the_user(run: OpenRun) -> None:
    sweep = Sweep(
        id=run.record.run,
        created=datetime.now(UTC),
        asked=SweepRequest(experiment="digits", points=[{"seed": "0"}]),
        source=run.record.ingredients.source,
        captured=Source(how="mounted"),
        points=[Point(settings={"seed": "0"})],
    )
    folder = run.folder.parents[1]
    with pytest.raises(UntrustedCodeError, match="is from another user or machine") as caught:
        require_own_sweep(sweep, folder)
    assert "--again" in str(caught.value.hint)
    register_sweep(sweep)
    require_own_sweep(sweep, folder)
    for change in (
        {"source": digest_of_bytes(b"x")},
        {"asked": SweepRequest(experiment="evil", points=[{"seed": "0"}])},
    ):
        assert not is_own_sweep(sweep.model_copy(update=change))
    (folder / ARCHIVE).write_bytes(b"other")
    with pytest.raises(SourceError):
        require_own_sweep(sweep, folder)
