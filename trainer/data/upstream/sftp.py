"""Files on an SFTP server. The server's key must be in ~/.ssh/known_hosts; the login uses SSH keys or an SSH agent."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from trainer.data.upstream.remote import RemoteFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.data.upstream.listing import RemoteFile


class SftpFiles(RemoteFiles):
    """The file or the folder at an sftp address."""

    def __init__(self, source: str) -> None:
        """Connect to the server."""
        self._lock = Lock()
        super().__init__(source)

    def download(self, file: RemoteFile, target: Path, advance: Callable[[int], None]) -> None:
        """Write a file to `target`; one file at a time, because all downloads share a connection."""
        with self._lock:
            super().download(file, target, advance)

    def _open(self, address: str) -> tuple[Any, str]:
        words = _KnownServer._get_kwargs_from_urls(address)  # noqa: SLF001 - `url_to_fs` also calls it
        return _KnownServer(**words, timeout=20, skip_instance_cache=True), _KnownServer._strip_protocol(address)  # noqa: SLF001


class _KnownServer(SFTPFileSystem):  # type: ignore[misc] # fsspec has no types
    """A file system that accepts only a server with a known key; fsspec's own class does not read known_hosts and accepts any key."""

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        self.client.load_system_host_keys()
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self.client.connect(self.host, **self.ssh_kwargs)
        self.ftp = self.client.open_sftp()

    def find(self, path: str, **options: Any) -> Any:
        """List the files below `path`; with `detail`, a link has the type and size of its target."""
        found = super().find(path, **options)
        if options.get("detail"):
            for name, info in found.items():
                if info["type"] == "link":
                    info.update(self.info(name))
        return found
