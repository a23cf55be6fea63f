"""Check that settings read back from their record equal the originals; every rerun depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from trainer.settings.canonical_forms import document_of, fields_of
from trainer.settings.errors import unrepeatable
from trainer.settings.fields import settings_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.base.errors import SettingError
    from trainer.settings.fields import LaunchSettings


def changed_by_record(settings: LaunchSettings) -> Iterator[SettingError]:
    """Yield an error for each setting whose recorded value is read as another value, or rejected, e.g. by a validator or a union."""
    recorded, fields = settings_document(settings), type(settings).__pydantic_fields__
    values = {name: recorded.get(name, settings.value_of(name)) for name in fields if not _is_unknown(settings, name)}
    reread = object.__new__(type(settings))
    try:
        BaseModel.__init__(reread, **values)  # without the settings sources
    except ValidationError as fault:
        for name in dict.fromkeys(str(each["loc"][0]) for each in fault.errors() if each["loc"]):
            if name in recorded:
                yield unrepeatable(name, settings.value_of(name), recorded[name], None)
        return
    for name in values:
        if not _is_equal(settings.value_of(name), reread.value_of(name)):
            yield unrepeatable(name, settings.value_of(name), recorded[name], reread.value_of(name))


def _is_unknown(settings: LaunchSettings, name: str) -> bool:
    """Return whether the value is an unvalidated default, which is known only when the experiment runs."""
    info = type(settings).__pydantic_fields__[name]
    return info.validate_default is False and settings.value_of(name) is info.default


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal to the experiment's code, which distinguishes 1, 1.0 and True, and a text and a path."""
    if one is other:
        return True
    for kind in (bool, int, float, str, set | frozenset, list | tuple, Mapping):
        if isinstance(one, kind) or isinstance(other, kind):
            return isinstance(one, kind) and isinstance(other, kind) and _has_equal_parts(one, other)
    if type(one) is not type(other):
        return False
    fields, others = fields_of(one), fields_of(other)
    return (
        all(_is_equal(fields[name], others[name]) for name in fields)
        if fields
        else bool(one == other) or document_of(one) == document_of(other)
    )


def _has_equal_parts(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    return bool(one == other)
