"""Servers on loopback with the protocols of web servers, Hugging Face's hub, Google Cloud Storage and Azure."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(kw_only=True)
class Answer:
    """A response to GET; the response to HEAD has the same headers."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False
    """Whether the connection is closed after half of the body."""


@contextmanager
def web_server(answer: Callable[[str, dict[str, list[str]]], Answer]) -> Iterator[str]:
    """Serve the response that `answer` returns for a path and its query; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(has_body=True)

        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, *, has_body: bool) -> None:
            parts = urlsplit(self.path)
            given = answer(unquote(parts.path), parse_qs(parts.query))
            self.send_response(given.status)
            for name, value in {"Content-Length": str(len(given.body)), **given.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if has_body and given.is_cut:
                self.wfile.write(given.body[: len(given.body) // 2])
                self.wfile.flush()
                self.close_connection = True
            elif has_body:
                self.wfile.write(given.body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(kw_only=True)
class Hub:
    """A repository on a hub. Files of 1,000 bytes or more are large files with a sha256."""

    files: dict[str, bytes]
    kind: str = "datasets"
    name: str = "lab/flowers"
    license: str = "cc0-1.0"
    lies_about: str = ""
    """A file whose content does not match the listed checksum."""
    fails: str = ""
    """A file that is listed but not found."""
    asked: list[str] = field(default_factory=list)
    """The paths that were requested."""

    @property
    def commit(self) -> str:
        """The commit of the branch `main`."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode(), usedforsecurity=False).hexdigest()

    def answer(self, path: str, _: dict[str, list[str]]) -> Answer:
        """Return the hub's response to a request."""
        self.asked.append(path)
        if self.fails and path.endswith(self.fails):
            time.sleep(0.5)  # so that the other files arrive first
            return Answer(status=404, headers={"X-Error-Code": "EntryNotFound"})
        if path.startswith(f"/api/{self.kind}/{self.name}"):
            revision = path.removeprefix(f"/api/{self.kind}/{self.name}").removeprefix("/revision/")
            if revision not in {"", "main", self.commit}:
                return Answer(status=404, headers={"X-Error-Code": "RevisionNotFound"})
            return _json(self._info())
        prefix = "/" if self.kind == "models" else f"/{self.kind}/"
        at_commit = f"{prefix}{self.name}/resolve/{self.commit}/"
        if path.startswith(at_commit) and (body := self.files.get(path.removeprefix(at_commit))) is not None:
            return Answer(body=body, headers={"ETag": f'"{_git(body)}"', "X-Repo-Commit": self.commit})
        return Answer(status=404, headers={"X-Error-Code": "RepoNotFound"})

    def _info(self) -> dict[str, Any]:
        siblings = [self._sibling(name, body) for name, body in self.files.items()]
        return {
            "id": self.name, "sha": self.commit, "siblings": siblings, "cardData": {"license": self.license}, "tags": [],
            "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
        }  # fmt: skip

    def _sibling(self, name: str, body: bytes) -> dict[str, Any]:
        listed = body + b"!" if name == self.lies_about else body
        entry: dict[str, Any] = {"rfilename": name, "size": len(body), "blobId": _git(listed)}
        if len(body) >= LARGE:
            entry["lfs"] = {"sha256": hashlib.sha256(listed).hexdigest(), "size": len(body), "pointerSize": 130}
        return entry


LARGE: Final = 1000


def _git(body: bytes) -> str:
    return hashlib.sha1(f"blob {len(body)}\0".encode() + body, usedforsecurity=False).hexdigest()


def _json(value: object) -> Answer:
    return Answer(body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})


def google_answer(objects: dict[str, bytes]) -> Callable[[str, dict[str, list[str]]], Answer]:
    """Return the responses of Google Cloud Storage's JSON API for the bucket `lab`."""
    from base64 import b64encode

    def described(name: str) -> dict[str, str]:
        md5 = b64encode(hashlib.md5(objects[name], usedforsecurity=False).digest()).decode()
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": "lab",
            "size": str(len(objects[name])),
            "md5Hash": md5,
        }

    def answer(path: str, query: dict[str, list[str]]) -> Answer:
        listing, one = "/storage/v1/b/lab/o", "/o/"
        if path.rstrip("/") == listing:
            prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
            names = [name for name in sorted(objects) if name.startswith(prefix)]
            folders = sorted(
                {
                    prefix + name[len(prefix) :].split("/")[0] + "/"
                    for name in names
                    if delimiter and "/" in name[len(prefix) :]
                }
            )
            items = [described(name) for name in names if not (delimiter and "/" in name[len(prefix) :])]
            return _json({"kind": "storage#objects", "items": items, "prefixes": folders})
        name = path.partition(one)[2]
        if name not in objects:
            return Answer(status=404, body=b'{"error": {"code": 404, "message": "no such object"}}')
        return Answer(body=objects[name]) if "alt" in query or "/download/" in path else _json(described(name))

    return answer


def azure_answer(blobs: dict[str, bytes]) -> Callable[[str, dict[str, list[str]]], Answer]:
    """Return the responses of Azure Blob Storage for the container `lab` of the account `acct`."""
    from base64 import b64encode

    date = "Mon, 27 Jan 2025 12:00:00 GMT"

    def facts(body: bytes) -> str:
        md5 = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        return (
            f"<Properties><Creation-Time>{date}</Creation-Time><Last-Modified>{date}</Last-Modified><Etag>0x1</Etag>"
            f"<Content-Length>{len(body)}</Content-Length><Content-Type>application/octet-stream</Content-Type>"
            f"<Content-MD5>{md5}</Content-MD5><BlobType>BlockBlob</BlobType></Properties>"
        )

    def answer(path: str, query: dict[str, list[str]]) -> Answer:
        xml = {"Content-Type": "application/xml", "x-ms-version": "2021-12-02"}
        if query.get("comp") == ["list"]:
            prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
            names = [name for name in sorted(blobs) if name.startswith(prefix)]
            below = {name for name in names if delimiter and delimiter in name[len(prefix) :]}
            folders = sorted({prefix + name[len(prefix) :].split("/")[0] + "/" for name in below})
            items = "".join(
                f"<Blob><Name>{name}</Name>{facts(blobs[name])}</Blob>" for name in names if name not in below
            )
            items += "".join(f"<BlobPrefix><Name>{name}</Name></BlobPrefix>" for name in folders)
            text = f'<EnumerationResults ContainerName="lab"><Blobs>{items}</Blobs><NextMarker/></EnumerationResults>'
            return Answer(body=text.encode(), headers=xml)
        body = blobs.get(path.removeprefix("/acct/lab/"))
        if body is None:
            return Answer(status=404, headers={"x-ms-error-code": "BlobNotFound"})
        md5 = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        headers = {"x-ms-blob-type": "BlockBlob", "ETag": '"0x1"', "Last-Modified": date, "x-ms-blob-content-md5": md5}
        return Answer(body=body, headers={**headers, "Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}"})

    return answer
