"""Names of settings: which names no setting can have, since a command, the settings' own class or a record gives them another meaning."""

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
"""The options of each command that takes settings beside its own options. No setting is named like one of `train`, which every setting
is given to; of another command the option is meant, and `trainer.cli.shared_options` says so."""
_FORM: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
"""As `trainer.comparison.rerun` expects the names in a record; an environment variable has only one case."""
_UNFILLABLE: Final = frozenset({"self"})
"""A parameter of this name is never filled."""


def name_fault(name: str, *, attributes: Collection[str]) -> str | None:
    """Say why no setting can have this name, if none can; `attributes` are those of the settings' base class.

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
    """Give a setting whose option would be the negation of another one's, and why it cannot be; `flags` are the truth values.

    >>> negation_fault(["bias", "no_bias"], ["bias"])
    ('no_bias', '--no-bias sets bias to false')
    """
    for flag in sorted(flags):
        if f"no_{flag}" in names:
            return f"no_{flag}", f"--no-{flag.replace('_', '-')} sets {flag} to false"
    return None
