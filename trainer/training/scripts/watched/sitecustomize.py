"""Report the reads, writes and connections of a script that its run does not record. Python imports this module when the script starts.

The variable REPRISE_WATCH names the file for the reports, and the folders in which reads or writes are not reported. Each line of the file
is a kind, a tab, and a path or an address; each process reports a line once. Only calls of Python's own functions are detected.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys
import threading

_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")  # noqa: S104 - compared, not listened on
_MOST = 1_000
"""The maximum number of lines that a process reports."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _AuditHook(threading.local):
    """The audit hook; `busy` is set in a thread while the hook runs, so that its own calls are ignored."""

    busy = False
    seen: set[str] = set()

    def __init__(self, report: str, known: list[str], written: list[str]) -> None:
        """Report to the file `report` the reads outside of the folders `known` and the writes outside of `written`."""
        self.report, self.known, self.written = report, tuple(known), tuple(written)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Handle an event. An exception is ignored: it must not change the behavior of the script."""
        if event not in ("open", "socket.connect") or self.busy:
            return
        self.busy = True
        try:
            match event, arguments:
                case "open", (str() | bytes() as path, _, flags):
                    self._opened(path, flags)
                case "socket.connect", (_, (str() as host, int() as port, *_)) if not host.startswith(_LOCAL):
                    self._tell("network", f"{host}:{port}")
        except Exception:  # noqa: BLE001, S110 - must not change the behavior of the script
            pass
        finally:
            self.busy = False

    def _opened(self, path: str | bytes, flags: object) -> None:
        name = os.path.realpath(os.fsdecode(path))
        writes = isinstance(flags, int) and bool(flags & _WRITES)
        if not name.startswith(self.written if writes else self.known) and (writes or os.path.isfile(name)):
            self._tell("writes" if writes else "reads", name)

    def _tell(self, kind: str, what: str) -> None:
        line = f"{kind}\t{what}"
        if line in self.seen or len(self.seen) >= _MOST:
            return
        self.seen.add(line)
        file = os.open(self.report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, f"{line}\n".encode(errors="backslashreplace"))
        os.close(file)


def _import_next() -> None:
    """Import the environment's own `sitecustomize`, which this module hides."""
    own = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != own]
    found = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if found is not None and found.loader is not None:
        found.loader.exec_module(importlib.util.module_from_spec(found))


_import_next()
if "REPRISE_WATCH" in os.environ:
    sys.addaudithook(_AuditHook(**json.loads(os.environ["REPRISE_WATCH"])))
