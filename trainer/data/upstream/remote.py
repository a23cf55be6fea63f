"""Sources that fsspec reads: a file at an https address, and files or folders on Google Cloud Storage and Azure.

Each client finds its credentials itself, in environment variables and in the files of the cloud's own tools.
"""

from __future__ import annotations

import re
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import aiohttp
import fsspec
from fsspec.callbacks import Callback

from trainer.base.errors import ObjectMissingError, StoreDeniedError, StoreError, StoreUnreachableError, UsageError
from trainer.base.suggestions import short
from trainer.data.upstream.listing import RemoteFile, UpstreamListing, checksum_of
from trainer.data.upstream.network import HINT, causes, network_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
_SECRET_PARAMETERS: Final = re.compile(
    r"(?i)(x-(amz|goog)-(signature|credential|security-token)|sig|signature|.*token|.*key.*|password)"
)
_DENIED: Final = {401, 403, 407}
_ABSENT: Final = {404, 410}
_HINT_ABSENT: Final = "check the address"


class RemoteFiles:
    """The file or the folder at an address."""

    def __init__(self, source: str, *, name: str = "") -> None:
        """Create the client. `name` replaces the file name of an https address. Raise `UsageError` if the address contains a password."""
        parts = urlsplit(source)
        self._scheme = parts.scheme
        if parts.password:
            raise UsageError(
                f"the address of {parts.scheme}://{parts.hostname} contains a password, which would be recorded",
                hint="remove it: ~/.netrc, SSH's agent or the variables of the cloud's client can contain it",
            )
        self._address = urlunsplit(parts._replace(fragment=""))
        self.source = urlunsplit(parts._replace(fragment="", query=_public(parts.query)))
        self._is_web = parts.scheme in {"http", "https"}
        self._name = name or unquote(parts.path.rstrip("/").rpartition("/")[2]) or "download"
        with self._translate_errors(""):
            self._files, self._root = self._open(self._address)

    def list_files(self) -> UpstreamListing:
        """List the files."""
        with self._translate_errors(""):
            self._files.invalidate_cache()
            info = self._files.info(self._root)
            if info["type"] != "directory":
                return UpstreamListing(files=(self._described(self._name, self._root, info),))
            found = self._files.find(self._root, detail=True)
            root = f"{self._root.rstrip('/')}/"
            files = [self._described(path.removeprefix(root), path, info) for path, info in found.items()]
            return UpstreamListing(files=tuple(files))

    def download(self, file: RemoteFile, target: Path, advance: Callable[[int], None]) -> None:
        """Write a file to `target`."""
        with self._translate_errors(file.path):
            self._files.get_file(file.address, str(target), callback=_Advance(advance))

    def _open(self, address: str) -> tuple[Any, str]:
        """Return the file system of an address, and the path in it."""
        opened: tuple[Any, str] = fsspec.url_to_fs(address, **_options(self._scheme))
        return opened

    def _described(self, path: str, address: str, info: Mapping[str, Any]) -> RemoteFile:
        if info["type"] == "directory":
            raise StoreError(f"{self.source}: {short(path)} is a link to a folder", hint="import that folder")
        if self._is_web and info.get("mimetype") == "text/html" and not path.lower().endswith((".html", ".htm")):
            raise StoreError(
                f"{self.source} is an HTML page; expected a file",
                hint="check the address: a login page or a page about the file was returned",
            )
        return RemoteFile(path=path, size=info.get("size"), checksum=_checksum(info), address=address)

    @contextmanager
    def _translate_errors(self, path: str) -> Iterator[None]:
        """Translate the exceptions of fsspec and its clients."""
        where = f"{self.source}{f' ({short(path)})' if path else ''}"
        try:
            yield
        except (StoreError, UsageError):
            raise
        except Exception as fault:  # the exceptions of the clients have no common base class
            raise _translation(where, fault) from fault


class _Advance(Callback):  # type: ignore[misc] # fsspec has no types
    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()
        self._advance, self._done = advance, 0

    def relative_update(self, inc: int = 1) -> None:
        self.absolute_update(self._done + inc)

    def absolute_update(self, value: int) -> None:
        self._advance(value - self._done)
        self._done = value


def _options(scheme: str) -> dict[str, Any]:
    if scheme in {"http", "https"}:
        return {"client_kwargs": {"timeout": _TIMEOUT, "trust_env": True}}
    return {"skip_instance_cache": True}


def _public(query: str) -> str:
    """Return a query, or an empty string if a parameter looks like a signature or a password, because a declaration is public."""
    is_secret = any(_SECRET_PARAMETERS.fullmatch(name) for name, _ in parse_qsl(query, keep_blank_values=True))
    return "" if is_secret else query


def _checksum(info: Mapping[str, Any]) -> str:
    """Return the strongest checksum that a server states, or else a value that changes with the file, such as an ETag; empty if none."""
    for kind, text in (
        ("sha256", _digest_header(str(info.get("Digest", "")))),
        ("md5", info.get("Content-MD5")),
        ("md5", info.get("md5Hash")),
    ):
        if text and (checksum := checksum_of(kind, str(text))):
            return checksum
    settings = info.get("content_settings") or {}
    if md5 := settings.get("content_md5"):
        return f"md5:{bytes(md5).hex()}"
    for kind, key in (("etag", "ETag"), ("etag", "etag"), ("modified", "Last-Modified"), ("modified", "mtime")):
        if text := info.get(key):
            return f"{kind}:{str(text).strip(chr(34))[:150]}"
    return ""


def _digest_header(text: str) -> str:
    found = re.search(r"(?i)\bsha-256=:?([A-Za-z0-9+/]{43}=)", text)
    return found[1] if found else ""


def _translation(where: str, fault: Exception) -> StoreError:
    """Return the error for an exception of a client, by its status or type."""
    chain = list(causes(fault))
    status = next((each for link in chain if (each := _status(link)) is not None), None)
    text = short(next((str(link) for link in reversed(chain) if str(link)), type(fault).__name__))
    if status in _DENIED or any(isinstance(link, PermissionError) for link in chain):
        return StoreDeniedError(f"{where}: access denied: {text}", hint="set the credentials for this server")
    if status in _ABSENT or (status is None and type(chain[-1]) is FileNotFoundError):
        return ObjectMissingError(f"{where} does not exist", hint=_HINT_ABSENT)
    if any(isinstance(link, ssl.SSLCertVerificationError) for link in chain):
        return StoreError(
            f"{where}: the server's certificate is not trusted: {text}",
            hint="behind a company's proxy, set SSL_CERT_FILE to the file of its certificates",
        )
    if any("known_hosts" in str(link) or type(link).__name__ == "BadHostKeyException" for link in chain):
        message = f"{where}: the server's key is not in ~/.ssh/known_hosts, or differs from the key there"
        return StoreDeniedError(message, hint="connect once with ssh, which asks about the key")
    if any("authentication" in str(link).lower() for link in chain):
        return StoreDeniedError(f"{where}: {text}", hint="ssh-add KEY, or set the credentials for this server")
    if any(isinstance(link, aiohttp.ClientPayloadError) for link in chain):  # its cause has the status 400
        text = "the connection ended before the file was complete"
    elif status is not None:
        text = f"the server responded with the status {status}"
    return StoreUnreachableError(f"{where} cannot be read: {network_fault(fault, where) or text}", hint=HINT)


def _status(fault: BaseException) -> int | None:
    """Return the HTTP status of an exception of aiohttp, gcsfs or Azure's client; `None` if it has none."""
    for name in ("status", "code", "status_code"):
        value = getattr(fault, name, None)
        if isinstance(value, int) and 400 <= value < 600:  # noqa: PLR2004 - HTTP error statuses
            return value
    return None
