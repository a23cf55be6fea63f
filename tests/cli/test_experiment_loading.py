"""The start of an attempt: import errors give the reason why a module is missing from the source."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import ExperimentFailedError
from trainer.cli import experiment_loading
from trainer.cli.experiment_loading import import_experiment
from trainer.runs.handoff import FrozenSource, Launch
from trainer.source.description import Source

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


def import_hint(root: Path, monkeypatch: pytest.MonkeyPatch, frozen: FrozenSource | None) -> str | None:
    """Return the hint for an experiment that imports `theirs.net`."""
    monkeypatch.setattr(experiment_loading, "SOURCE", root)
    (root / "idea.py").write_text("import theirs.net\n")
    launch = Launch(
        experiment="idea.py",
        file="idea.py",
        device="cpu",
        command=["reprise"],
        started=datetime(2026, 1, 1, tzinfo=UTC),
        monotonic=0.0,
        frozen=frozen,
    )
    with pytest.raises(ExperimentFailedError, match="No module named 'theirs'") as error:
        import_experiment(launch)
    return error.value.hint


def test_an_import_error_names_the_link_that_the_source_excludes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = ["theirs.md: no regular file", "theirs: a link out of the checkout, to /elsewhere: copy it here"]
    source = Source(how="mounted", left_out=left_out)
    frozen = FrozenSource(run="r", folder="f", shown="f", digest=digest_of_bytes(b""), source=source)
    assert import_hint(tmp_path, monkeypatch, frozen) == f"module theirs is not in the source: {left_out[1]}"


def test_an_import_error_names_a_link_in_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").symlink_to("/elsewhere/theirs")
    message = import_hint(tmp_path, monkeypatch, None)
    assert message is not None
    assert message.startswith("module theirs is not in the source: theirs: a link to /elsewhere/theirs: copy")


def test_a_package_that_is_missing_everywhere_gets_the_hint_for_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "docs/how-to/environments.md" in (import_hint(tmp_path, monkeypatch, None) or "")
