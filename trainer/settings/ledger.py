"""The ledger: for each setting its value, its origin, the functions bound to it and the code that read it.

A function takes its inputs as parameters. `@configured` fills the parameters that the caller omits, by name, from the settings of the
run, and records the binding here. A given setting that nothing is bound to would have no effect: that is an error before the first step.
A bound setting that is never read is listed at the end.

Accesses in loader workers and forked processes are recorded too. A forked process shares an open file with its parent and appends its notes
to it, a line at a time: a killed worker loses nothing, and the file has no name that could remain on disk. A spawned process that receives
the notes also receives the file.
"""

from __future__ import annotations

import fcntl
import functools
import inspect
import json
import os
import pickle
import tempfile
import weakref
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from trainer.base.errors import SettingError
from trainer.base.suggestions import did_you_mean, nearest
from trainer.settings.errors import all_of, unused
from trainer.settings.fields import is_new, is_secret, settings_document
from trainer.settings.hints import option
from trainer.settings.ledger_entry import LedgerEntry
from trainer.settings.parameters import fillable, functions_with, loaded, register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import CodeType

    from trainer.settings.fields import Origin, SettingAccess
    from trainer.settings.origins import Resolved

Book = dict[str, list[str]]
"""The notes about each name, in order and without repeats."""
_BLOCK: Final = 1 << 20


class Notes:
    """The notes of a process and of all its child processes."""

    def __init__(self) -> None:
        """Create empty notes. If the file cannot be created, the notes of other processes are not available."""
        self._owner = os.getpid()
        self._own: dict[str, Book] = {}
        self._file: int | None = None
        with suppress(OSError):
            self._file = _open_unnamed()
            weakref.finalize(self, os.close, self._file)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the notes; include the file only if a process is being spawned with them."""
        file = self._file if get_spawning_popen() else None
        return {**self.__dict__, "_file": None if file is None else DupFd(file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the notes, and the file if there is one."""
        file = state["_file"]
        self.__dict__.update(state, _file=None if file is None else file.detach())

    def add(self, kind: str, name: str, location: str) -> None:
        """Record a location, unless it is recorded already."""
        locations = self._own.setdefault(kind, {}).setdefault(name, [])
        if location in locations:
            return
        locations.append(location)
        if os.getpid() != self._owner and self._file is not None:
            with suppress(OSError):  # a single write, so that lines of several processes do not interleave
                os.write(self._file, f"{json.dumps([kind, name, location])}\n".encode())

    def book(self, kind: str) -> Book:
        """Return all notes of a kind so far, from every process."""
        book = {name: list(locations) for name, locations in self._own.get(kind, {}).items()}
        for other, name, location in _lines(self._file):
            if other == kind and location not in book.setdefault(name, []):
                book[name].append(location)
        return book


def _open_unnamed() -> int:
    with tempfile.TemporaryFile() as file:
        handle = os.dup(file.fileno())
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_APPEND)
    return handle


def _lines(file: int | None) -> list[tuple[str, str, str]]:
    """Return the complete lines of the file; a killed process can leave a partial last line."""
    content, notes = b"", list[tuple[str, str, str]]()
    with suppress(OSError):
        while file is not None and (block := os.pread(file, _BLOCK, len(content))):
            content += block
    for line in content.rpartition(b"\n")[0].splitlines():
        with suppress(ValueError):  # two lines merged, because the first line's writer was killed
            kind, name, location = json.loads(line)
            notes.append((kind, name, location))
    return notes


P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_BOUND, _READ = "bound", "read"


class Ledger:
    """The bindings and accesses of one run's settings. Places in the code are relative to `root`."""

    def __init__(self, resolved: Resolved[Any], *, root: Path | None = None) -> None:
        """Create an empty ledger for these settings, and record all their attribute accesses from now on."""
        self._settings = resolved.settings
        self._origins = resolved.origins
        self._files = resolved.files
        self._neutral = resolved.neutral
        self._root = root
        self._notes = Notes()
        self._settings.observe(self._on_read)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle everything except the settings' class: a spawned process cannot always import the experiment."""
        return {**self.__dict__, "_settings": _Values({name: self._settings.value_of(name) for name in self._origins})}

    def __contains__(self, name: str) -> bool:
        """Return whether a setting of this name exists."""
        return name in self._origins

    def bind(self, name: str, *, to: str, code: CodeType, read: bool) -> Any:
        """Return a setting's value for a function's parameter, and record the binding, and the access if `read`."""
        location = f"{to} ({self._location(code.co_filename, code.co_firstlineno)})"
        self._notes.add(_BOUND, name, location)
        if read:
            self._notes.add(_READ, name, location)
        return self._settings.value_of(name)

    def unbound(self) -> list[str]:
        """Return the given settings that so far no function is bound to and no code has read."""
        used = self._used() | self._neutral
        return [name for name, origin in self._origins.items() if origin.is_given and name not in used]

    def unread(self) -> list[str]:
        """Return the settings that were bound but never read, and the experiment's own settings that nothing used."""
        read = self._notes.book(_READ)
        return [*(name for name in self._notes.book(_BOUND) if name not in read), *self.idle()]

    def idle(self) -> list[str]:
        """Return the experiment's own settings that so far no function is bound to and no code has read."""
        used, kind = self._used(), type(self._settings)
        return [name for name in self._origins if is_new(kind, name) and name not in used]

    def require_bound(self) -> None:
        """Raise `SettingError` if a given setting would have no effect on this run; it lists all such settings with their functions."""
        if faults := [self.unused(name) for name in self.unbound()]:
            raise all_of(faults)

    def unused(self, name: str) -> SettingError:
        """Return the error for a given setting without effect, with the functions that would use it."""
        kinds = type(self._settings).__pydantic_fields__
        choices = [
            f"{option(other)} {taker}"
            for taker in functions_with(name)
            for other, info in kinds.items()
            if taker in getattr(info.annotation, "__args__", ())
        ]
        used = self._used()
        similar = nearest(name, [other for other in self._origins if other in used], most=1)
        suggestion = f"did you mean {option(similar[0])}? " if similar else ""
        advice = f"it is used with {' or '.join(choices)}; otherwise " if choices else suggestion
        return unused(name, self._files.get(name) or str(self._origins[name]), hint=f"{advice}omit it")

    def needed(self, name: str, *, by: str) -> SettingError:
        """Return the error for a parameter that neither the caller nor a setting supplies."""
        return SettingError(
            f"{by} needs {name!r}: its caller omitted it, and no setting has that name",
            hint=did_you_mean(name, self._origins),
        )

    def entries(self) -> dict[str, LedgerEntry]:
        """Return the ledger as the record holds it, without secrets."""
        kinds = type(self._settings).__pydantic_fields__
        values, bound, read = settings_document(self._settings), self._notes.book(_BOUND), self._notes.book(_READ)
        return {
            name: LedgerEntry(
                value="(secret)" if is_secret(kinds[name]) else values[name],
                origin=str(origin),
                file=self._files.get(name),
                bound=bound.get(name, []),
                read=read.get(name, []),
            )
            for name, origin in sorted(self._origins.items())
        }

    def origins(self) -> Mapping[str, Origin]:
        """Return the origin of each value."""
        return self._origins

    def _used(self) -> set[str]:
        return {*self._notes.book(_BOUND), *self._notes.book(_READ)}

    def _on_read(self, access: SettingAccess) -> None:
        self._notes.add(_READ, access.name, f"{access.function} ({self._location(access.file, access.line)})")

    def _location(self, file: str, line: int) -> str:
        path = Path(file)
        if self._root is not None and path.is_relative_to(self._root):
            return f"{path.relative_to(self._root)}:{line}"
        tail = file.rpartition("site-packages/")[2] if "site-packages/" in file else path.name
        return f"{tail}:{line}"


class _Values:
    """Settings in the form that is sent to another process: each is unpickled on access."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._packed = {name: pickle.dumps(value) for name, value in values.items()}

    def value_of(self, name: str) -> Any:
        return pickle.loads(self._packed[name])  # noqa: S301 - pickled by this process's parent


_current: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@contextmanager
def use_ledger(ledger: Ledger) -> Iterator[Ledger]:
    """Make `ledger` the ledger that `@configured` reads, until the block ends."""
    token = _current.set(ledger)
    try:
        yield ledger
    finally:
        _current.reset(token)


def current() -> Ledger | None:
    """Return the run's ledger, to send it to another process."""
    return _current.get()


def adopt(ledger: Ledger | None) -> None:
    """Make `ledger` the current ledger for the lifetime of this process; a spawned process starts without one."""
    _current.set(ledger)


@overload
def configured(target: C) -> C: ...


@overload
def configured(target: Callable[..., R]) -> Callable[..., R]: ...


def configured(target: Any) -> Any:
    """Fill the parameters that a caller omits, by name, from the settings of the run.

    A class keeps its identity: only its constructor is wrapped. Outside of a run, nothing is filled and the function is unchanged. Raise
    `SettingError` if a parameter without a default is neither passed nor a setting.
    """
    if isinstance(target, type):
        constructor = vars(target).get("__init__")
        if constructor is not None:
            target.__init__ = _filled(constructor, called=target.__qualname__)  # type: ignore[misc]
        return target
    return _filled(target, called=target.__qualname__)


def call_configured(target: Callable[..., R], *args: object, **kwargs: object) -> R:
    """Call a configured function whose omitted parameters the ledger fills, which a type checker would report as missing."""
    return target(*args, **kwargs)


def _filled(function: Callable[P, R], *, called: str) -> Callable[P, R]:
    signature = inspect.signature(function)
    parameters = fillable(signature)
    code = inspect.unwrap(function).__code__
    used = loaded(code)
    register(function, called=called)

    @functools.wraps(function)
    def filling(*args: P.args, **kwargs: P.kwargs) -> R:
        ledger = _current.get()
        if ledger is not None:
            for name in parameters.keys() - signature.bind_partial(*args, **kwargs).arguments.keys():
                if name in ledger:
                    kwargs[name] = ledger.bind(name, to=called, code=code, read=name in used)
                elif parameters[name].default is inspect.Parameter.empty:
                    raise ledger.needed(name, by=called)
        return function(*args, **kwargs)

    return filling
