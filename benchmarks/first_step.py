"""The digits, with a line on stdout when the first training step is done. For `scripts/bench first-step`."""

from __future__ import annotations

import sys
from typing import Any

from trainer.experiments import digits
from trainer.settings.ledger import configured

Settings = digits.Settings


@configured
class Net(digits.Net):
    """The same net, which says when it has learnt something."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Say it once."""
        if self.global_step == 1:
            sys.stdout.write("first step done\n")
            sys.stdout.flush()
