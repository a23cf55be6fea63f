"""Check setting names: a name is rejected if a command, the settings' base class or a record gives it another meaning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("exp", "settings", "help", "json", "resume", "allow", "trust", "grant"),
    "sweep": ("exp", "settings", "help", "json", "points", "jobs", "continue", "again", "show", "sort", "mode"),
    "check": ("help", "json", "settings", "synthetic", "bits", "steps"),
    "bench": ("help", "json", "settings", "synthetic", "steps", "warmup", "seconds", "against", "profile"),
    "noise": ("help", "json", "settings", "seeds", "gain"),
    "certify": ("help", "json", "settings", "steps", "kill_after", "key"),
}
"""The options of each command that also accepts settings. No setting may have the name of an option of `train`, which accepts every
setting. For other commands the option takes precedence, and `trainer.cli.shared_options` reports it."""
_FORM: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
"""`trainer.comparison.rerun` expects the same form in a record. Upper case is rejected because an environment variable has one case."""
_UNFILLABLE: Final = frozenset({"self"})
"""Parameters of these names are never filled."""


def name_fault(name: str, *, attributes: Collection[str]) -> str | None:
    """Return why a setting cannot have this name, or `None`; `attributes` are the names in the settings' base class.

    >>> name_fault("resume", attributes=()), name_fault("steps", attributes=())
    ('--resume is an option of reprise train', None)
    """
    if not _FORM.fullmatch(name):
        return "a name has lower-case letters a to z, digits and underscores, and begins with a letter"
    if name in OPTIONS["train"]:
        return f"--{name} is an option of reprise train"
    if name in attributes or name in _UNFILLABLE:
        return "all settings have a method or attribute of that name"
    return None


def negation_fault(names: Collection[str], flags: Collection[str]) -> tuple[str, str] | None:
    """Return a setting whose option equals the negation of another setting's option, and the reason; `flags` are the boolean settings.

    >>> negation_fault(["bias", "no_bias"], ["bias"])
    ('no_bias', '--no-bias sets bias to false')
    """
    for flag in sorted(flags):
        if f"no_{flag}" in names:
            return f"no_{flag}", f"--no-{flag.replace('_', '-')} sets {flag} to false"
    return None
