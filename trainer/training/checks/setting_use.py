"""Check that each given setting has an effect, and that the experiment's own settings are used.

The check covers settings that affect a result, and reads the ledger of a short training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.suggestions import nearest
from trainer.settings.fields import Role, roles
from trainer.settings.ledger import Ledger
from trainer.training.checks.outcomes import CheckFailed, CheckNote, NothingToCheck, listed

if TYPE_CHECKING:
    from trainer.training.checks.subject import Trial


class Notebook(Ledger):
    """A ledger that lets a training begin although a given setting has no effect, and reports the setting afterwards."""

    idle_then: list[str] | None = None
    """The given settings without an effect before the first step; None if no first step was reached."""

    def require_bound(self) -> None:
        """Record the unused settings: in a run, a use in the test would be too late."""
        self.idle_then = self.unbound()


def using(trial: Trial) -> str:
    """Read the ledger of a short training, as `train` reads its own before the first step and at the end."""
    ledger = trial.notebook
    if ledger is None or ledger.idle_then is None:
        raise NothingToCheck("no short training reached its first step")
    bearing = {name for name, role in roles(type(trial.subject.resolved.settings)).items() if role is Role.RESULT}
    if faults := [ledger.unused(name) for name in ledger.idle_then if name in bearing]:
        hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
        raise CheckFailed("; ".join(fault.message for fault in faults), look="; ".join(hints))
    if odd := [name for name in ledger.unread() if name in bearing]:
        near = nearest(odd[0], ledger.origins().keys() - {odd[0]}, most=1)
        raise CheckNote(
            f"nothing uses {listed(odd)}", look=f"did you mean {near[0]} instead of {odd[0]}?" if near else None
        )
    return f"each of {len(bearing)} settings that affect the result is used or has its default"
