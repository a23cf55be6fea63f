"""Write the pages of docs/reference/ that are generated from the code: `.venv/bin/python scripts/reference.py`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base import errors
from trainer.cli.train.manual import describe_default, describe_type, documented_roles
from trainer.comparison.verdict import EXIT_CODES
from trainer.settings.fields import Role
from trainer.settings.hints import option
from trainer.settings.values import is_flag
from trainer.settings.variables import VARIABLES
from trainer.training import settings as training

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
_GENERATED: Final = (
    "<!-- Generated from {}: edit that, then run .venv/bin/python scripts/reference.py. A test compares both. -->"
)
_EXIT_CODES: Final = """
This page lists every exit code with its reason, so that a script can handle each failure.
With `--json`, errors are also printed as JSON.

The classes of the codes 50 to 99 derive from the class of their range's first code: `except StoreError` catches 50 to 55.
`reprise compare --at-least VERDICT` exits with 1 if the verdict is weaker."""
_SETTINGS: Final = """
This page lists every setting of Reprise, and the ways to set it. `reprise train --exp NAME --help`
prints the same list for one experiment, with that experiment's own settings and defaults.
[Settings and the ledger](../how-to/settings.md) shows how values are written.

| set by | example |
|---|---|
| option | `--learning-rate 3e-4`, `--progress`, `--no-progress` |
| line of the file that `--settings FILE.toml` names | `learning_rate = 3e-4` |
| environment variable | `REPRISE_SETTING_LEARNING_RATE=3e-4` |
| line of the experiment's `Settings` (not for launch settings) | `learning_rate = 3e-4` |"""
_VARIABLES: Final = (
    """A variable that begins with `REPRISE_` and that nothing reads is an error, in the environment and in `.env`."""
)
_ROLES: Final = {
    Role.LAUNCH: "Launch settings\n\nRead before torch or the experiment is imported. An experiment cannot set them.",
    Role.RESULT: "Settings that change the result\n\nPart of a run's identity; of `init_from`, the digest of the weights is.",
    Role.EXECUTION: "Settings of execution\n\nThey change only how a run is executed and shown, and are not part of its identity.",
}


def exit_codes() -> str:
    """Return the page of exit codes."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.RepriseError)]
    failures = [(kind.code, f"`{kind.__name__}`", first_line(kind)) for kind in kinds]
    verdicts = [(code, "", f"verdict *{verdict}*") for verdict, code in EXIT_CODES.items() if code]
    ranges = re.findall(r"^\| (\d[^|]*) \| (.*) \|$", errors.__doc__ or "", flags=re.MULTILINE)
    return "\n".join(
        [
            "# Exit codes",
            "",
            _GENERATED.format("trainer/base/errors.py"),
            _EXIT_CODES,
            "",
            "## Ranges",
            "",
            *table(("codes", "meaning"), ranges),
            "",
            "## Codes",
            "",
            *table(("code", "class", "meaning"), sorted([*failures, *verdicts])),
            "",
        ]
    )


def settings() -> str:
    """Return the page of settings: the settings of every experiment, those of each kind of task, and the other variables."""
    lines = ["# Settings", "", _GENERATED.format("trainer/training/settings.py"), _SETTINGS]
    role = documented_roles(training.TrainingSettings)
    for wanted, heading in _ROLES.items():
        fields = training.TrainingSettings.__pydantic_fields__
        lines += ["", f"## {heading}", "", *settings_table({n: fields[n] for n in fields if role[n] is wanted})]
    for kind in vars(training).values():
        if (
            inspect.isclass(kind)
            and issubclass(kind, training.TrainingSettings)
            and kind is not training.TrainingSettings
        ):
            own = {name: kind.__pydantic_fields__[name] for name in vars(kind)["__annotations__"]}
            lines += ["", f"## {kind.__name__}", "", first_line(kind), "", *settings_table(own)]
    variables = [(f"`{name}`", meaning) for name, meaning in VARIABLES.items()]
    lines += ["", "## Other environment variables", "", _VARIABLES, "", *table(("variable", "meaning"), variables)]
    return "\n".join([*lines, ""])


def settings_table(fields: dict[str, FieldInfo]) -> list[str]:
    """Return the lines of a table with a row for each setting."""
    rows = []
    for name, info in fields.items():
        flags = f"`{option(name)}`" + (f", `{option(f'no_{name}')}`" if is_flag(info) else "")
        default = re.sub(r"^default ", "", describe_default(info))
        rows.append((f"`{name}`", flags, describe_type(info), default, " ".join((info.description or "").split())))
    return table(("name", "option", "type", "default", "meaning"), rows)


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    """Return the lines of a Markdown table."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    first, *others = [f"| {' | '.join(row)} |" for row in cells]
    return [first, f"|{'---|' * len(head)}", *others]


def first_line(kind: type) -> str:
    """Return the first line of a class's docstring."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


PAGES: Final = {"exit-codes.md": exit_codes, "settings.md": settings}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
