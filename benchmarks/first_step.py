"""The digits experiment with a line on stdout after the first training step. For `scripts/bench first-step`."""

from __future__ import annotations

import sys
from typing import Any

from trainer.experiments import digits
from trainer.settings.ledger import configured

Settings = digits.Settings


@configured
class Net(digits.Net):
    """The net of the digits, which prints a line after the first step."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Print the line once."""
        if self.global_step == 1:
            sys.stdout.write("first step done\n")
            sys.stdout.flush()
