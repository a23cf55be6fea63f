"""A run that begins on a machine which shares no folder with the submitting machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sites.pods import Pod
from tests.training.conftest import Checkout
from trainer.base.errors import SourceError
from trainer.runs.submitted_source import upload_source
from trainer.source.capture import capture
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.trains]
WORDS = ("--threads", "1", "--no-publish", "--max-epochs", "1")


def test_a_run_has_the_source_that_was_submitted_whatever_else_is_in_the_folder(
    checkout: Checkout, tmp_path: Path
) -> None:
    bundle = capture(checkout.root)
    digest, pod = upload_source(bundle, open_store(str(checkout.store))), Pod(tmp_path / "project")
    assert pod.fetch(str(checkout.store), digest).returncode == 0
    (pod.project / "stray.py").write_text("x = 1")
    on_pod = Checkout(root=pod.project, store=checkout.store)
    code, _, err = on_pod.train(*WORDS, REPRISE_SOURCE=digest)
    assert code == 0, err
    _, record = on_pod.last()
    assert record.ingredients.source == bundle.digest
    assert record.circumstances.source == bundle.source


def test_a_run_whose_submitted_source_was_not_fetched_does_not_start(checkout: Checkout) -> None:
    code, _, err = checkout.train(*WORDS, REPRISE_SOURCE=f"sha256:{'0' * 64}")
    assert code == SourceError.code
    assert "REPRISE_SOURCE is sha256:000000000000.., and" in err
