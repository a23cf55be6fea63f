"""An SFTP server on loopback that lets the user `lab` read a folder."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko

if TYPE_CHECKING:
    from collections.abc import Iterator


class Login(paramiko.ServerInterface):  # type: ignore[misc] # paramiko has no types
    """A login that accepts the user `lab` with any key."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> Any:
        del key
        return paramiko.AUTH_SUCCESSFUL if username == "lab" else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_channel_request(self, *_: object) -> Any:
        return paramiko.OPEN_SUCCEEDED


class Files(paramiko.SFTPServerInterface):  # type: ignore[misc]
    """The files below `root`."""

    root = Path()

    def list_folder(self, path: str) -> Any:
        entries = []
        for entry in os.scandir(self._path(path)):
            facts = paramiko.SFTPAttributes.from_stat(entry.stat(follow_symlinks=False))
            facts.filename = entry.name
            entries.append(facts)
        return entries

    def stat(self, path: str) -> Any:
        try:
            return paramiko.SFTPAttributes.from_stat(self._path(path).stat())
        except OSError as fault:
            return paramiko.SFTPServer.convert_errno(fault.errno)

    lstat = stat

    def open(self, path: str, flags: int, attr: object) -> Any:
        del attr
        handle = paramiko.SFTPHandle(flags)
        handle.readfile = self._path(path).open("rb")
        return handle

    def _path(self, path: str) -> Path:
        return self.root / path.lstrip("/")


@contextmanager
def sftp_server(folder: Path) -> Iterator[tuple[int, str]]:
    """Serve a folder; yield the port and the server's line for a known_hosts file."""
    key = paramiko.RSAKey.generate(2048)
    served = type("Served", (Files,), {"root": folder})
    listener = socket.create_server(("127.0.0.1", 0))
    transports: list[Any] = []

    def accept() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                connection, _ = listener.accept()
                transport = paramiko.Transport(connection)
                transport.add_server_key(key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, served)
                with suppress(paramiko.SSHException, EOFError):  # a client may reject the server's key
                    transport.start_server(server=Login())
                transports.append(transport)

    threading.Thread(target=accept, daemon=True).start()
    port = listener.getsockname()[1]
    try:
        yield port, f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n"
    finally:
        listener.close()
        for transport in transports:
            transport.close()
