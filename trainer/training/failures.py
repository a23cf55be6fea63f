"""Attribution of an exception to the experiment, to a library working on the experiment's objects, or to the package.

Attribution uses the frames of the traceback and of its causes, the innermost first. An exception that the package raises without a frame
of a library or of the experiment below it is a bug of the package, and is raised unchanged.
"""

from __future__ import annotations

import logging
import re
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trainer
from trainer.base.errors import ExperimentFailedError, RepriseError
from trainer.training.determinism.switches import translated

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(trainer.__file__).parent
_DOING: Final = {
    "optimization": "creating the optimizer of {net}",
    "tasks": "running a step of {net}",
    "readers": "reading samples",
    "data": "reading samples",
    "logs": "starting the loggers of {net}",
    "figures": "drawing the figures of the test",
    "resuming": "saving a checkpoint of {net}",
    "atomic_write": "saving a checkpoint of {net}",
    "tracing": "tracing the tensors of {net}",
}
"""What each part of `trainer/training/` does with the experiment's objects; other parts train."""
_TAKES_VALUES: Final = ("tasks", "optimization", "readers", "data")
"""Parts that process values that the experiment's methods return: such a value can cause an exception in these parts."""
_LONGEST: Final = 300
_IN_WORKER: Final = re.compile(r"Caught (\w+) in \w+ worker process \d+\.\nOriginal Traceback")
_WORKER_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_EARLY: Final = "torch._functorch._aot_autograd.graph_compile"
"""Torch's logger for ahead-of-time compilation."""
_TOO_MANY_SHAPES: Final = "FailOnRecompileLimitHit"
"""Torch's exception, by name: importing its class loads the compiler."""
_MIXED: Final = "got mixed torch.Tensor and DTensor"
"""A part of torch's message about an operation with a tensor and a part of a distributed tensor."""
_NO_COMPILER: Final = ("InvalidCxxCompiler", "No working C++ compiler", "Failed to find C compiler")


def attributed(fault: BaseException, *, file: Path, root: Path, net: str) -> RepriseError | None:
    """Return the error for a failure of the experiment in `file` or of a library with its objects; None for a bug of the package."""
    own = own_failure(fault, file=file, root=root)
    if known := _known_failure(fault):
        return type(known)(f"{known.message}: {own.place}", hint=known.hint) if own and own.place else known
    return own or _of_library(fault, net=net)


@contextmanager
def attributing(*, file: Path, root: Path, net: str) -> Iterator[None]:
    """Replace an exception of the block with the attributed error; a bug of the package is raised unchanged."""
    try:
        yield
    except (RepriseError, KeyboardInterrupt):
        raise
    except BaseException as fault:
        failure = attributed(fault, file=file, root=root, net=net)
        if failure is None:
            raise
        raise failure from fault


def own_failure(fault: BaseException, *, file: Path, root: Path | None = None) -> ExperimentFailedError | None:
    """Return the error for a failure of the experiment's own code, with its traceback lines; None if no such code was running."""
    if isinstance(fault, SyntaxError) and fault.filename == str(file):
        hint = (fault.text or "").strip() or None
        return ExperimentFailedError(f"{file.name}:{fault.lineno}: {fault.msg}", hint=hint)
    for each in _chain(fault):
        if frames := [frame for frame in _frames(each) if _is_own(frame.filename, file, root)]:
            return _of_experiment(each, frames, file)
    return None


def first_line(fault: BaseException) -> str:
    r"""Return a colon and the first line of an exception's message; an empty string if there is no message or `str` fails.

    >>> first_line(ValueError("one\ntwo")), first_line(MemoryError())
    (': one ...', '')
    """
    try:
        lines = str(fault).strip().splitlines()
    except Exception:  # noqa: BLE001 - `__str__` of an experiment's own exception may raise anything
        return ""
    if not lines:
        return ""
    return f": {lines[0][:_LONGEST]}{' ...' if len(lines) > 1 or len(lines[0]) > _LONGEST else ''}"


def _of_experiment(fault: BaseException, frames: list[traceback.FrameSummary], file: Path) -> ExperimentFailedError:
    lines = [f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}: {frame.line}" for frame in frames[-3:]]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    kind, message = _type_and_line(fault)
    if isinstance(fault, ModuleNotFoundError):
        lines.append(_how_to_import(str(fault.name), file))
    notes = "".join(f", {note}" for note in getattr(fault, "__notes__", ()))
    failure = ExperimentFailedError(
        f"{place}: the experiment raised {kind}{message}{notes}", hint="\n     ".join(lines)
    )
    failure.place = place
    return failure


def _type_and_line(fault: BaseException) -> tuple[str, str]:
    """Return the type and the first line of an exception; for an exception of a loader worker, the type and last line in torch's text."""
    text = first_line(fault)
    found = _IN_WORKER.search(str(fault)) if text else None
    if found is None:
        return type(fault).__name__, text
    last = str(fault).strip().splitlines()[-1]
    return found[1], f": {last.partition(': ')[2][:_LONGEST]}" if ": " in last else ""


def _known_failure(fault: BaseException) -> RepriseError | None:
    for each in _chain(fault):
        if isinstance(each, RuntimeError) and (exact := translated(each)):
            return exact
        if isinstance(each, RuntimeError) and _MIXED in str(each):
            return ExperimentFailedError(
                "the net uses a distributed parameter outside of the call of the module that owns it",
                hint="call the module, or read the parameter in its `forward`; or omit --strategy",
            )
        if type(each).__name__ == _TOO_MANY_SHAPES:
            return ExperimentFailedError(
                "the compiled net was called with more than 64 shapes of tensors, each of which is compiled",
                hint="use fewer batch shapes, for example by padding, or use --no-compile",
            )
        if _lacks_compiler(each):
            return ExperimentFailedError(
                "torch.compile needs a compiler (C++ on a CPU, C on a GPU), which this environment does not have",
                hint='remove torch.compile, or pass it backend="aot_eager", which compiles nothing; '
                "to add a package such as g++: docs/how-to/environments.md",
            )
    return None


def _lacks_compiler(fault: BaseException) -> bool:
    message = f"{type(fault).__name__}{first_line(fault)}"
    return any(sign in message for sign in _NO_COMPILER)


def hide_missing_compiler() -> None:
    """Suppress torch's long log message about an early compilation without a compiler: the step itself raises the error."""
    logger = logging.getLogger(_EARLY)
    if _not_of_compiler not in logger.filters:
        logger.addFilter(_not_of_compiler)


def _not_of_compiler(record: logging.LogRecord) -> bool:
    fault = record.exc_info[1] if record.exc_info else None
    return fault is None or not any(map(_lacks_compiler, _chain(fault)))


def _of_library(fault: BaseException, *, net: str) -> ExperimentFailedError | None:
    """Return the error for an exception of a library without a frame of the experiment below it; None for a bug of the package."""
    frames = _frames(fault)
    library = next((name for frame in reversed(frames) if (name := _library(frame.filename)) is not None), "")
    part = next((name for frame in reversed(frames) if (name := _part(frame.filename)) is not None), None)
    if library == "" or part is None:
        return None
    if library == PACKAGE.name:  # the innermost frame is the package's: torch's compiled code has no frame
        if not isinstance(fault, RuntimeError | NotImplementedError) and part not in _TAKES_VALUES:
            return None
        library = "torch" if isinstance(fault, RuntimeError) else ""
    kind, message = _type_and_line(fault)
    doing = _DOING.get(part, "training {net}").format(net=net)
    notes = "".join(f" ({note})" for note in getattr(fault, "__notes__", ()))
    who = f"{library} raised {kind}" if library else kind
    hint = "change the settings or the net that this depends on; REPRISE_DEBUG=1 shows the traceback"
    return ExperimentFailedError(f"{who} while {doing}{message}{notes}", hint=hint)


def _chain(fault: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, the latest first."""
    seen: set[int] = set()
    each: BaseException | None = fault
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _frames(fault: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an exception, and after them the frames of the worker process that raised it."""
    frames = list(traceback.extract_tb(fault.__traceback__))
    text = str(fault) if first_line(fault) else ""
    if _IN_WORKER.search(text):
        found = _WORKER_FRAME.findall(text)
        frames += [traceback.FrameSummary(name, int(line), function) for name, line, function in found]
    return frames


def _is_own(filename: str, file: Path, root: Path | None) -> bool:
    """Return whether a file is the experiment, or code of its checkout outside the package."""
    path = Path(filename)
    if path == file:
        return True
    if root is None or not path.is_relative_to(root) or _library(filename) not in {None, PACKAGE.name}:
        return False
    return not path.is_relative_to(PACKAGE) or path.is_relative_to(PACKAGE / "experiments")


def _library(filename: str) -> str | None:
    """Return the name of the library, or of the package, that a file belongs to; None for Python's standard library."""
    path = Path(filename)
    if path.is_relative_to(PACKAGE):
        return PACKAGE.name
    parts = path.parts
    if not path.is_absolute() and len(parts) > 1:  # compiled by Cython: `pyarrow/error.pxi`
        return parts[0]
    for folder in ("site-packages", "dist-packages"):
        if folder in parts and parts.index(folder) + 1 < len(parts):
            return parts[parts.index(folder) + 1].removesuffix(".py")
    return None


def _part(filename: str) -> str | None:
    path = Path(filename)
    inside = path.relative_to(PACKAGE).parts if path.is_relative_to(PACKAGE) else ()
    return inside[1].removesuffix(".py") if inside[:1] == ("training",) and len(inside) > 1 else None


def _how_to_import(name: str, file: Path) -> str:
    if (file.parent / f"{name}.py").exists() or (file.parent / name).is_dir():
        where = "imports begin at the checkout's root"
        return f"{name} is in the experiment's folder; {where}: `from FOLDER import {name}`"
    return "neither the environment nor the run's source has it; to add a package: docs/how-to/environments.md"
