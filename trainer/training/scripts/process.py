"""The process of a script: print and log its output, forward signals to it, and report how it ended."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.errors import ExperimentFailedError, StoppedError
from trainer.base.redaction import REDACTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trainer.training.resuming.stop_requests import StopRequest

_WATCHED: Final = Path(__file__).parent / "watched"
_SYSTEM: Final = ("/usr/", "/lib", "/proc/", "/sys/", "/dev/", "/opt/reprise/")
_CONFIGURATION: Final = (
    "ssl/",
    "hosts",
    "resolv.conf",
    "nsswitch.conf",
    "localtime",
    "timezone",
    "mime.types",
    "os-release",
    "ld.so",
)
"""Files in /etc that libraries read: they configure the network and the clock, and do not affect a result."""
_PATIENCE: Final = 8.0
"""Seconds that the script has to end after a signal; Docker waits ten seconds."""
_BREAK: Final = re.compile(rb"(?<=[\r\n])")


def run_script(
    command: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    log: Callable[[str], None],
    stop: StopRequest,
) -> None:
    """Run a command in `folder` until it ends. Raise `ExperimentFailedError` if it fails, and `StoppedError` if a signal stopped it."""
    name = Path(command[1] if len(command) > 1 else command[0]).name
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # the script gets Ctrl-C once, from this process
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no other thread runs yet
    )
    assert process.stdout is not None  # noqa: S101 - stdout is a pipe
    last: list[str] = []
    reader = threading.Thread(target=_copy, args=(process.stdout, log, last), daemon=True)
    reader.start()
    try:
        with stop.delay_stop():
            _wait(process, stop)
    except StoppedError as fault:
        _kill(process)
        raise type(fault)(f"{fault.message}; {name} {_ending(process.returncode)}") from None
    finally:
        _kill(process)
        reader.join(timeout=2)
    if process.returncode:
        raise ExperimentFailedError(f"{name} {_ending(process.returncode)}", hint=_hint(process.returncode, last))


_LIBRARY: Final = ctypes.CDLL(None)
_PR_SET_PDEATHSIG: Final = 1


def _end_with_parent() -> None:
    """Let the kernel kill this process if its parent is killed: no process of a run may outlive it."""
    _LIBRARY.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], stop: StopRequest) -> None:
    """Wait until the script ends. Forward a requested stop, and kill the script if it does not end in time."""
    deadline: float | None = None
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        if stop.requested is None:
            continue
        if deadline is None:
            deadline = monotonic() + _PATIENCE
            _signal(process, stop.requested)
        elif monotonic() > deadline:
            _kill(process)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the script with the processes that it started."""
    _signal(process, signal.SIGKILL)
    process.wait()


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"


def _hint(code: int, last: Sequence[str]) -> str:
    if code == -signal.SIGKILL:
        return "the kernel kills a process if memory runs out: `dmesg` shows whether it did"
    return next((line for line in reversed(last) if line.strip()), "the script printed no message; see log.txt")


def _copy(stream: BinaryIO, log: Callable[[str], None], last: list[str]) -> None:
    """Copy a script's output to the terminal and to the log, without secrets; the log has only the last state of a redrawn line."""
    rest = b""
    while block := os.read(stream.fileno(), 1 << 16):
        *lines, rest = _BREAK.split(rest + block)
        if len(rest) > 1 << 16:
            lines, rest = [*lines, rest], b""
        shown = REDACTOR.redact(b"".join(lines).decode(errors="replace"))
        _print(shown)
        _log([line for line in shown.split("\n") if line], log, last)
    if rest:
        shown = REDACTOR.redact(rest.decode(errors="replace"))
        _print(f"{shown}\n")
        _log([shown], log, last)


def _print(text: str) -> None:
    with suppress(OSError, ValueError):  # a closed terminal must not end the run
        sys.stderr.write(text)
        sys.stderr.flush()


def _log(lines: Sequence[str], log: Callable[[str], None], last: list[str]) -> None:
    final = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    if final:
        log("\n".join(final))
        last[:] = [*last, *final][-20:]


def script_environ(
    environ: Mapping[str, str],
    *,
    imports: Sequence[Path],
    output: Path,
    report: Path,
    folders: Sequence[Path],
    device: str,
) -> dict[str, str]:
    """Return a script's environment variables: this process's, the output folder, and the variables of `watched/sitecustomize.py`.

    `imports` holds the folders from which the script can import, the root of the source first.
    """
    python = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()]
    caches = [str(Path.home() / name) for name in (".cache", ".config")]
    written = [_folder(each) for each in (output, imports[0], *caches)]
    configuration = [f"/etc/{name}" for name in _CONFIGURATION]
    known = [*written, *_SYSTEM, *configuration, *(_folder(each) for each in (*python, *folders, _WATCHED))]
    own = {
        "REPRISE_OUTPUT": str(output),
        "REPRISE_WATCH": json.dumps({"report": str(report), "known": known, "written": [*written, "/dev/", "/proc/"]}),
        "PYTHONPATH": os.pathsep.join(map(str, (_WATCHED, *imports))),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    # Reprise sets PYDANTIC_DISABLE_PLUGINS for itself only
    hidden = {"PYTHONSAFEPATH", "REPRISE_LAUNCH", "PYDANTIC_DISABLE_PLUGINS"}
    return {name: value for name, value in environ.items() if name not in hidden} | own


def _folder(path: object) -> str:
    return f"{os.path.realpath(str(path))}/"
