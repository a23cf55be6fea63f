"""Compare an experiment's settings with the fields of its dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import SettingError
from trainer.base.suggestions import listed, nearest
from trainer.data.declaration import Dataset, sample_fields
from trainer.data.reader import Weights
from trainer.settings.hints import option

if TYPE_CHECKING:
    from collections.abc import Collection

    from trainer.settings.origins import Resolved

_FIELD_SETTINGS: Final = ("input_field", "target_field")


def check_pairing(resolved: Resolved[Any], dataset: Dataset, *, skip: Collection[str] = ()) -> None:
    """Raise `SettingError` if the experiment uses a field that `dataset` lacks, or `dataset` holds weights.

    Settings in `skip` are not checked.
    """
    known = sample_fields(dataset.reader)
    if isinstance(dataset.reader, Weights):
        hint = f"to start with these weights: --init-from {dataset.name}"
        raise SettingError(f"setting dataset is {dataset.name!r}, which holds weights, not samples", hint=hint)
    for name in _FIELD_SETTINGS:
        if name not in resolved.origins or name in skip:
            continue
        field, is_given = str(resolved.settings.value_of(name)), resolved.origins[name].is_given
        if field not in known:
            near = nearest(field, known, most=1)
            flag, default = option(name), "" if is_given else ", the default of this experiment"
            choose = f"did you mean {flag} {near[0]}?" if near else f"use {flag} {' or '.join(known[:4])}"
            other = "" if is_given or near else "; or another --dataset"
            message = f"setting {name} is {field!r}{default}; the fields of dataset {dataset.name} are {listed(known)}"
            raise SettingError(message, hint=f"{choose}{other}")
