"""Settings files: find them by path or by the name of a group, read their values, and write resolved settings as such a file.

TOML has no null value. A key that is written as an option has a string that is parsed as on the command line: `"--patience" = "none"`.
"""

from __future__ import annotations

import json
import re
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import parse_toml
from trainer.base.errors import DocumentError, UsageError
from trainer.base.paths import path_fault
from trainer.base.plain_text import read_text
from trainer.base.suggestions import listed, nearest, short
from trainer.settings.fields import settings_document
from trainer.settings.values import MisfitError, typed_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo

    from trainer.settings.origins import Resolved

LARGEST_SETTINGS: Final = 1 << 20
"""Maximum bytes of a settings file; a larger file was probably named by mistake."""
GROUPS: Final = "settings"
"""The folder of a checkout with groups of settings: `models/large` is `settings/models/large.toml`."""
COPIES: Final = "settings"
"""The folder of a run with copies of its settings files, if another command starts the run."""
_MOST_KEYS: Final = 1_000
"""Maximum keys of a settings file: each unknown key is compared with all known names."""
_WRONG_FILE_HINT: Final = "is it the settings file?"
_GROUP: Final = re.compile(r"[\w-]+(/[\w-]+)*", re.ASCII)
_OPTION: Final = "--"
_NULL_TEXTS: Final = ("none", "null", "NONE", "NULL")


class TypedText(str):
    """A text in a settings file that is parsed as on the command line."""

    __slots__ = ()


def find_settings_files(names: Sequence[str | None], *, root: Path, here: Path) -> tuple[Path, ...]:
    """Return the absolute paths of settings files, named by path relative to `here`, or as groups of the checkout `root`.

    Raise `UsageError` for a name that is missing or given twice, `DocumentError` for an unknown group.
    """
    files: list[Path] = []
    for name in names:
        if not name:
            raise UsageError("--settings needs a file", hint="write --settings FILE.toml")
        file = _find_group(name, root=root, here=here) if _is_group(name, root=root) else (here / name).absolute()
        if file in files:
            raise UsageError(f"--settings {name} is given twice", hint=f"remove the second --settings {name}")
        files.append(file)
    return tuple(files)


def _is_group(name: str, *, root: Path) -> bool:
    """Return whether `name` is that of a group: it has no dot, or the group exists, such as `models/v1.5`."""
    if _GROUP.fullmatch(name):
        return True
    return not (name.endswith(".toml") or path_fault(name)) and (root / GROUPS / f"{name}.toml").is_file()


def _find_group(name: str, *, root: Path, here: Path) -> Path:
    file = root / GROUPS / f"{name}.toml"
    if file.is_file():
        return file.absolute()
    known = sorted(
        path.relative_to(root / GROUPS).as_posix().removesuffix(".toml") for path in (root / GROUPS).rglob("*.toml")
    )
    found = f"the groups are {listed(known)}" if known else f"there is no group in {root / GROUPS}"
    raise DocumentError(
        f"--settings {short(name)}: {GROUPS}/{short(name)}.toml does not exist; {found}",
        hint=_hint_for_group(name, known, here=here),
    )


def _hint_for_group(name: str, known: Sequence[str], *, here: Path) -> str:
    if file := next((each for each in (f"{name}.toml", name) if (here / each).is_file()), None):
        return f"for the file, write --settings {shlex.quote(file if '.' in file else f'./{file}')}"
    names = {each.rpartition("/")[2]: each for each in reversed(known)}  # `large` for `models/large`
    near = nearest(name, known) or [names[each] for each in nearest(name.rpartition("/")[2], names)]
    return f"did you mean {' or '.join(near)}?" if near else "name a group, or a file that ends in .toml"


def copy_names(files: Sequence[Path], *, checkout: Path) -> dict[str, Path]:
    """Return the files by the name of their copy in a run's folder: the path in the checkout, else the file's own name."""
    copies: dict[str, Path] = {}
    for number, file in enumerate(files, start=1):
        inside = file.relative_to(checkout).as_posix() if file.is_relative_to(checkout) else file.name
        names = (f"{COPIES}/{inside}", f"{COPIES}/{number}/{file.name}", f"{COPIES}/{number}.toml")
        copies[next(name for name in names if name not in copies and not path_fault(name))] = file
    return copies


def read_settings_file(file: Path) -> dict[str, Any]:
    """Return the values of a settings file; `-` and `_` in names are equivalent. Raise `DocumentError` if the file is not valid.

    The value of a key with leading dashes, such as `"--patience" = "none"`, is a `TypedText`.
    """
    try:
        text = read_text(file, most=LARGEST_SETTINGS)
    except DocumentError as fault:
        others = [] if file.exists() else [path.stem for path in file.parent.glob("*.toml")]
        if near := nearest(file.stem, others, most=1):
            fault.hint = f"did you mean {file.with_name(near[0])}.toml?"
        raise
    return parse_settings(text, where=f"settings file {file}")


def parse_settings(text: str, *, where: str) -> dict[str, Any]:
    """Return the values in the text of a settings file. Raise `DocumentError`, as `read_settings_file` does."""
    content = parse_toml(text, where=where)
    if len(content) > _MOST_KEYS:
        message = f"{where} has {len(content):,} keys; expected at most {_MOST_KEYS:,}"
        raise DocumentError(message, hint=_WRONG_FILE_HINT)
    values: dict[str, Any] = {}
    spellings: dict[str, str] = {}
    for key, value in content.items():
        name = key.removeprefix(_OPTION).replace("-", "_")
        if name in values:
            how = "with - and with _" if key[:2] != _OPTION != spellings[name][:2] else "with and without --"
            raise DocumentError(f"{where}: {key} is given twice, {how}", hint=f"remove the second {key}")
        values[name] = _as_typed(key, value, where=where) if key.startswith(_OPTION) else value
        spellings[name] = key
    return values


def _as_typed(key: str, value: Any, *, where: str) -> TypedText:
    """Return the value of a key that is written as an option. Raise `DocumentError` for anything but a string."""
    if isinstance(value, str):
        return TypedText(value)
    name = key.removeprefix(_OPTION)
    message = (
        f'{where}: "{key}" is written as an option, so its value is a string as on the command line; found {value!r}'
    )
    raise DocumentError(message, hint=f'write {name} = ..., or "{key}" = "..."')


def assignment(name: str, value: Any, *, null: str = "null") -> str:
    """Return the line of a settings file that sets `name` to a JSON value; `null` is a text that is null for the setting.

    >>> assignment("sizes", [8, 1e-05]), assignment("patience", None, null="none")
    ('sizes = [8, 1e-05]', '"--patience" = "none"')
    """
    if not _has_null(value):
        return f"{name} = {_inline(value)}"
    text = null if value is None else json.dumps(value, ensure_ascii=False)
    return f"{_quoted(_OPTION + name.replace('_', '-'))} = {_quoted(text)}"


def settings_text(resolved: Resolved[Any]) -> str:
    """Return all settings except secrets as a settings file, with the origin of each value in a comment.

    Resolving this text without other sources gives equal settings.
    """
    fields, values = type(resolved.settings).__pydantic_fields__, settings_document(resolved.settings)
    lines = [
        f"{assignment(name, values[name], null=_null_text(fields[name]))}  # {_origin(resolved, name)}"
        if name in values
        else f"# {name}: a secret, which is not printed  # {_origin(resolved, name)}"
        for name in resolved.origins
    ]
    return "\n".join(lines) + "\n"


def _origin(resolved: Resolved[Any], name: str) -> str:
    """Return the origin of a value, with its file, on one line."""
    file = resolved.files.get(name)
    return f"{resolved.origins[name]}{f' {_quoted(file)}' if file else ''}"


def _null_text(info: FieldInfo) -> str:
    """Return a text that is null for a setting: `none`, or another spelling if `none` is one of the setting's own texts."""
    for text in _NULL_TEXTS:
        with suppress(MisfitError):
            if typed_text(info, text) is None:
                return text
    return _NULL_TEXTS[0]


def _has_null(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_has_null, inner))


def _inline(value: Any) -> str:
    """Return a JSON value without nulls as TOML on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_quoted(key)} = {_inline(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """Return a text in TOML's quotes: those of JSON, with DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
