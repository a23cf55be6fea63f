"""Control a real headless browser with the DevTools protocol over two pipes, without a driver or a package.

Needs Chromium or Chrome on the PATH (Debian: apt-get install chromium).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

BROWSER: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_WORDS: Final = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
_WITH_PIPES: Final = (
    "import os, sys; [os.dup2(int(sys.argv[at]), at + 2) for at in (1, 2)]; os.execv(sys.argv[3], sys.argv[3:])"
)
"""A program that starts the browser with descriptor 3, from which it reads, and descriptor 4, to which it writes."""


class Page:
    """A page in its own tab."""

    def __init__(self, read: FileIO, write: FileIO) -> None:
        """Open an empty page."""
        self._read, self._write = read, write
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        """The events that the browser sent between calls."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        self._write.write(
            json.dumps(request | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        while (message := self._next()).get("id") != request["id"]:
            self.events.append(message)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            self._rest += self._read.read(1 << 16) or b'{"method": "closed", "id": null}\0'
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        assert found.get("method") != "closed", "the browser ended"
        return found

    def open(self, file: Path | str, *, width: int = 1200, dark: bool = False) -> None:
        """Load a file or an address, and wait until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=file if isinstance(file, str) else file.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """Evaluate JavaScript on the page and return its value."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Take a screenshot of the whole page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    @property
    def requests(self) -> list[str]:
        """Return the URLs that the page requested, except `data:` URLs."""
        urls = [event["params"]["request"]["url"] for event in self.events if _is(event, "Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """Return the messages of the log and the console, and the exceptions."""
        logged = [event["params"]["entry"]["text"] for event in self.events if _is(event, "Log.entryAdded")]
        messages = [str(event["params"]) for event in self.events if _is(event, "Runtime.consoleAPICalled")]
        return (
            logged + messages + [str(event["params"]) for event in self.events if _is(event, "Runtime.exceptionThrown")]
        )


@contextmanager
def page() -> Iterator[Page]:
    """Start the browser; stop it and remove its profile at the end."""
    assert BROWSER
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _WITH_PIPES,
                str(theirs_in),
                str(theirs_out),
                BROWSER,
                *_WORDS,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            with os.fdopen(ours_in, "rb", buffering=0) as read, os.fdopen(ours_out, "wb", buffering=0) as write:
                yield Page(read, write)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _is(event: dict[str, Any], method: str) -> bool:
    return event.get("method") == method
