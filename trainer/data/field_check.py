"""Check by their declarations that a dataset has the fields that an experiment uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import SettingError
from trainer.base.suggestions import listed, nearest
from trainer.data.reader import Arrays, Table
from trainer.settings.hints import option

if TYPE_CHECKING:
    from collections.abc import Collection

    from trainer.data.declaration import Dataset
    from trainer.data.reader import Reader
    from trainer.settings.origins import Resolved

_FIELD_SETTINGS: Final = ("input_field", "target_field")
_FIELDS: Final = {
    "images": ("image", "label"),
    "lines": ("text", "length"),
    "text": ("text", "next"),
    "files": ("bytes", "length"),
}


def sample_fields(reader: Reader) -> tuple[str, ...]:
    """Return the names of the fields of a sample."""
    return tuple(reader.fields) if isinstance(reader, Arrays | Table) else _FIELDS[reader.kind]


def check_pairing(resolved: Resolved[Any], dataset: Dataset, *, untold: Collection[str] = ()) -> None:
    """Raise `SettingError` if the experiment uses a field that `dataset` lacks; settings in `untold` are not checked."""
    known = sample_fields(dataset.reader)
    for name in _FIELD_SETTINGS:
        if name not in resolved.origins or name in untold:
            continue
        field = str(resolved.settings.value_of(name))
        if field not in known:
            raise _unknown_field(name, field, known, dataset=dataset, given=resolved.origins[name].is_given)


def _unknown_field(name: str, field: str, known: tuple[str, ...], *, dataset: Dataset, given: bool) -> SettingError:
    near = nearest(field, known, most=1)
    flag = option(name)
    by = "" if given else ", the default of this experiment"
    choose = f"did you mean {flag} {near[0]}?" if near else f"give {flag} {' or '.join(known[:4])}"
    other = "" if given or near else ", or another --dataset"
    return SettingError(
        f"setting {name} is {field!r}{by}; the fields of dataset {dataset.name} are {listed(known)}",
        hint=f"{choose}{other}",
    )
