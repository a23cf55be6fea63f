"""Somebody else's code is shown, and not run unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sameness.test_rerun import a_record
from trainer.actions.pull_run import PULLED
from trainer.cli.reproduce.trust import ask, is_foreign, page
from trainer.digest import digest_of_bytes
from trainer.errors import ForeignCodeError
from trainer.host.source import SourceBundle, SourceFile, bundle_digest
from trainer.record import Source

if TYPE_CHECKING:
    from pathlib import Path


def bundle(**files: bytes) -> SourceBundle:
    """A source of Python files."""
    made = tuple(
        SourceFile(path=f"{name}.py", executable=False, sha256=digest_of_bytes(body), data=body)
        for name, body in files.items()
    )
    return SourceBundle(digest=bundle_digest(made), source=Source(how="baked"), files=made)


def test_a_run_that_was_pulled_or_lies_elsewhere_is_somebody_elses(tmp_path: Path) -> None:
    """One of this checkout's own runs is not."""
    runs, run = tmp_path / "runs", tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    assert not is_foreign(run, runs=runs)
    assert is_foreign(tmp_path / "b", runs=runs)
    (run / PULLED).touch()
    assert is_foreign(run, runs=runs)


def test_what_is_not_here_is_shown_as_a_difference(tmp_path: Path) -> None:
    """Files of this checkout are not."""
    (tmp_path / "same.py").write_bytes(b"x = 1\n")
    (tmp_path / "mine.py").write_bytes(b"x = 1\n")
    shown = list(page(a_record(), bundle(same=b"x = 1\n", mine=b"x = 2\n"), checkout=tmp_path))
    assert "not as in this checkout: 1 file" in shown
    assert "-x = 1" in shown
    assert "+x = 2" in shown


def test_a_long_difference_is_cut(tmp_path: Path) -> None:
    """And how much more there is, is said."""
    shown = list(page(a_record(), bundle(long=b"x\n" * 5000), checkout=tmp_path))
    assert shown[-1].endswith("more lines")
    assert len(shown) < 500


def test_without_a_terminal_and_without_trust_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would have been run is shown all the same."""
    with pytest.raises(ForeignCodeError) as caught:
        ask(a_record(), bundle(a=b""), checkout=tmp_path, trusted=False, isolation="none")
    assert "--trust" in str(caught.value.hint)
    assert "a.py  0 bytes" in capsys.readouterr().err
    ask(a_record(), bundle(a=b""), checkout=tmp_path, trusted=True, isolation="none")
