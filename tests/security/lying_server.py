"""A proxy in front of a real S3 server that returns some false responses: to writes, or a web page."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3

from tests.stores.proxy import send_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Lie = Callable[["Handler", bytes | None], bool]

PAGE = b"<!DOCTYPE html><html><body>Please log in to the guest network.</body></html>"


class Handler(BaseHTTPRequestHandler):
    """Returns the false response of `lie`, or the response of the real server."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    lie: Lie

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def pass_on(self) -> None:
        """Forward the request to the real server, unless `lie` handled it."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        if type(self).lie(self, body):
            return
        answer, data = send_request(urlsplit(self.upstream).netloc, self.command, self.path, dict(self.headers), body)
        kept = {
            name: text for name, text in answer.getheaders() if name.lower() not in {"transfer-encoding", "connection"}
        }
        self.answer(answer.status, data, kept)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - names that the base class requires

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a response."""
        self.send_response_only(status)
        headers = {name.lower(): text for name, text in (headers or {}).items()}
        headers = {"content-length": str(len(body)), "connection": "close"} | headers
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def faulty_server(upstream: str, lie: Lie) -> Iterator[str]:
    """Yield the address of a proxy in front of the server at `upstream`, with the false responses of `lie`."""
    handler = type("Lying", (Handler,), {"upstream": upstream, "lie": staticmethod(lie)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def drops_writes(request: Handler, _: bytes | None) -> bool:
    """Acknowledge each write below `objects/` without storing the object."""
    if request.command != "PUT" or "/objects/" not in request.path:
        return False
    request.answer(200, headers={"ETag": '"0"'})
    return True


def ignores_if_none_match(request: Handler, body: bytes | None) -> bool:
    """Replace the object of a conditional write even if it exists."""
    if request.command != "PUT" or request.headers.get("If-None-Match") is None:
        return False
    bucket, _, key = urlsplit(request.path).path.lstrip("/").partition("/")
    boto3.client("s3", endpoint_url=request.upstream).put_object(Bucket=bucket, Key=key, Body=body or b"")
    request.answer(200, headers={"ETag": '"0"'})
    return True


def loses_the_completion(request: Handler, body: bytes | None) -> bool:
    """Complete a multipart upload, but return the response of other servers to a retry: no such upload."""
    if request.command != "POST" or "uploadId" not in request.path:
        return False
    send_request(urlsplit(request.upstream).netloc, "POST", request.path, dict(request.headers), body)
    request.answer(
        404, b"<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>", {"content-type": "application/xml"}
    )
    return True


def web_page(request: Handler, _: bytes | None, *, status: int = 200) -> bool:
    """Respond to every request with the page of a captive portal."""
    request.answer(status, PAGE, {"content-type": "text/html; charset=utf-8"})
    return True


def redirect(request: Handler, _: bytes | None) -> bool:
    """Redirect every request to a login page."""
    request.answer(302, b"", {"location": "http://portal.example/login?token=not-to-be-printed"})
    return True


def redirects_to(request: Handler, _: bytes | None, *, endpoint: str, status: int, headers: dict[str, str]) -> bool:
    """Redirect every request to the server at `endpoint`."""
    text = b"<Error><Code>PermanentRedirect</Code><Message>moved</Message><Endpoint>%s</Endpoint></Error>"
    place = {"location": f"{endpoint}{request.path}", "content-type": "application/xml"}
    request.answer(status, text % endpoint.encode(), place | headers)
    return True


def swallows_the_completion(request: Handler, _: bytes | None) -> bool:
    """Acknowledge the completion of a multipart upload without completing it."""
    if request.command != "POST" or "uploadId" not in request.path:
        return False
    text = b"<CompleteMultipartUploadResult><Key>k</Key><ETag>&quot;0&quot;</ETag></CompleteMultipartUploadResult>"
    request.answer(200, text, {"content-type": "application/xml"})
    return True


def skew_clock(request: Handler, _: bytes | None) -> bool:
    """Reject the client's clock, as a server whose clock is at the start of the year 2100."""
    text = b"<Error><Code>RequestTimeTooSkewed</Code><Message>skewed</Message></Error>"
    request.answer(403, text, {"content-type": "application/xml", "date": "Fri, 01 Jan 2100 00:00:00 GMT"})
    return True
