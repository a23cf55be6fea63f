"""Loads the tensors of another run, or of a dataset of weights, into a new net, before the first step.

The names of the file are mapped first; then the file and the net must have tensors of the same names and shapes. `init_allow` admits
differences. No random number is drawn: tensors that are not loaded keep the values from the seed.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open
from torch.nn.parameter import is_lazy

from trainer.base.digest import digest_of_open
from trainer.base.errors import DigestMismatchError, SettingError
from trainer.base.suggestions import counted, did_you_mean, nearest
from trainer.base.tensor_file import read_parts
from trainer.runs.record import LoadedWeights
from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

_NAMED: Final = 3
"""The maximum number of tensors that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """A safetensors file, and its title in messages."""

    path: Path
    title: str
    """For example `run 20260301t120005-abcdef`."""
    sha256: str | None = None
    """The file's digest, if an ingredient names it; None for a dataset's file, which is verified when it is fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """How the tensors of a file fit a net, by the names of the net."""

    loadable: dict[str, str]
    """Names in the net, with the names in the file."""
    missing: list[str] = field(default_factory=list)
    unexpected: dict[str, str] = field(default_factory=dict)
    """Tensors that the net does not have: their new names, with their names in the file."""
    reshaped: dict[str, str] = field(default_factory=dict)
    """Names in the net, with the types and shapes of both tensors."""

    def faults(self) -> dict[str, list[str]]:
        """Return the names of each kind of difference."""
        shapes = [f"{name} ({shapes})" for name, shapes in self.reshaped.items()]
        found = {"missing": self.missing, "unexpected": [*self.unexpected], "reshaped": shapes}
        return {kind: names for kind, names in found.items() if names}


@configured
def load_initial_weights(
    net: nn.Module,
    given: WeightsFile | None,
    say: Callable[[str], None],
    *,
    init_map: Mapping[str, str],
    init_allow: Sequence[str],
) -> LoadedWeights | None:
    """Load the tensors of a file into a net, and report them; return the report, `None` if no file is given.

    Raise `SettingError` if the tensors do not fit, or for settings without effect; `DigestMismatchError` if the file is not the recorded
    one; `DocumentError` if it is not a safetensors file.
    """
    if given is None:
        for name, value in (("init_map", init_map), ("init_allow", init_allow)):
            if value:
                message = f"setting {name} is given, but no weights are loaded"
                raise SettingError(message, hint=f"add --init-from RUN, or omit {name}")
        return None
    with _opened(given) as file:
        fit = _fit(net, file, _renamed(file, init_map, title=given.title))
        _require_allowed(fit, given.title, allowed=init_allow)
        net.load_state_dict({name: file.get_tensor(source) for name, source in fit.loadable.items()}, strict=False)
    report = LoadedWeights(
        loaded=len(fit.loadable), missing=fit.missing, unexpected=[*fit.unexpected], reshaped=[*fit.reshaped]
    )
    for line in _lines(fit, given.title):
        say(line)
    return report


@contextmanager
def _opened(given: WeightsFile) -> Iterator[Any]:
    """Open the file once, check its digest and its header, and yield it opened by safetensors."""
    with given.path.open("rb") as file:
        if given.sha256 is not None and (found := digest_of_open(file)) != given.sha256:
            message = f"{given.path} is not the recorded file: expected {given.sha256[:19]}, found {found[:19]}"
            raise DigestMismatchError(message, hint="it was altered: start the run again")
        read_parts(file, given.path)
        with safe_open(f"/proc/self/fd/{file.fileno()}", framework="pt") as opened:
            yield opened


def _renamed(file: Any, renames: Mapping[str, str], *, title: str) -> dict[str, str]:
    """Return the names of a file's tensors by their new names; the longest matching beginning applies.

    Raise `SettingError` if two tensors get the same name, or if no tensor begins with a name in `renames`.
    """
    names: dict[str, str] = {}
    used: set[str] = set()
    for source in file.keys():  # noqa: SIM118 - not a mapping
        old = max((old for old in renames if _begins(source, old)), key=len, default=None)
        name = source if old is None else _joined(renames[old], source.removeprefix(old.strip(".")))
        used |= set() if old is None else {old}
        if name in names:
            message = f"setting init_map renames two tensors of {title} to {name}: {names[name]} and {source}"
            raise SettingError(message, hint="map each tensor to a different name")
        names[name] = source
    for old in renames:
        if old not in used:
            beginnings = {
                ".".join(name.split(".")[:at]) for name in names.values() for at in range(1, name.count(".") + 2)
            }
            message = f"setting init_map renames {old!r}, but no tensor of {title} begins with it"
            near = nearest(old, beginnings)
            first = sorted({name.split(".")[0] for name in names.values()})[:_NAMED]
            raise SettingError(
                message, hint=did_you_mean(old, beginnings) if near else f"its tensors begin with {', '.join(first)}"
            )
    return names


def _begins(name: str, prefix: str) -> bool:
    """Return whether a name begins with the parts of `prefix`: `body` is the beginning of `body.weight`, but not of `body2.weight`."""
    whole = prefix.strip(".")
    return not whole or name == whole or name.startswith(f"{whole}.")


def _joined(prefix: str, rest: str) -> str:
    return ".".join(filter(None, (prefix.strip("."), rest.strip("."))))


def _fit(net: nn.Module, file: Any, names: Mapping[str, str]) -> _Fit:
    own = {name: value for name, value in net.state_dict().items() if isinstance(value, torch.Tensor)}
    reshaped = {name: text for name in own if name in names and (text := _mismatch(file, names[name], own[name]))}
    return _Fit(
        loadable={name: names[name] for name in own if name in names and name not in reshaped},
        missing=[name for name in own if name not in names],
        unexpected={name: source for name, source in names.items() if name not in own},
        reshaped=reshaped,
    )


def _mismatch(file: Any, source: str, own: Tensor) -> str | None:
    """Return the types and shapes of both tensors if the file's tensor cannot be copied into the net's tensor; otherwise None."""
    found = file.get_tensor(source)
    if is_lazy(own) or (found.shape == own.shape and torch.can_cast(found.dtype, own.dtype)):
        return None
    return f"{_described(found)} in the file, {_described(own)} in the net"


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{[*tensor.shape]}".replace(" ", "")


def _require_allowed(fit: _Fit, title: str, *, allowed: Sequence[str]) -> None:
    found = fit.faults()
    rejected = {kind: names for kind, names in found.items() if kind not in allowed}
    if not rejected and fit.loadable:
        return
    said = "; ".join(f"{kind}: {_some(names)}" for kind, names in (rejected or found).items())
    if not fit.loadable:
        raise SettingError(f"no tensor of {title} fits the net: {said}", hint=f"rename them: {_renaming(fit)}")
    accept = f"--init-allow {','.join(found)}"
    rename = f"rename them: {_renaming(fit)}; or accept it: " if fit.missing and fit.unexpected else "to accept it: "
    raise SettingError(f"the tensors of {title} do not fit the net: {said}", hint=f"{rename}{accept}")


def _renaming(fit: _Fit) -> str:
    """Return the option that renames an unexpected tensor to a missing tensor with the same last parts, or else the option's syntax."""
    for missing in fit.missing:
        for name, source in fit.unexpected.items():
            new, old = missing.split("."), name.split(".")
            while new and old and new[-1] == old[-1]:
                new.pop()
                old.pop()
            if name == source and len(old) <= name.count("."):
                return f"--init-map {'.'.join(old)}={'.'.join(new)}"
    return "--init-map OLD=NEW"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _lines(fit: _Fit, title: str) -> Iterator[str]:
    yield f"initial weights: {counted(len(fit.loadable), 'tensor')} of {title}"
    for kind, names in fit.faults().items():
        yield f"  {kind}: {_some(names)}"
