"""Settings of a resumed run that its checkpoint rules out."""

from __future__ import annotations

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import SettingError
from trainer.cli.process import require_epochs_left
from trainer.runs.checkpoint_pointer import Saved


def test_a_run_cannot_end_before_the_step_that_it_resumes_from() -> None:
    saved = Saved(path="a.ckpt", sha256=digest_of_bytes(b""), step=810, epoch=18, batch=0)
    require_epochs_left(saved, epochs=18)
    with pytest.raises(SettingError, match="max_epochs is 3, but the run has already completed 18 epochs"):
        require_epochs_left(saved, epochs=3)
