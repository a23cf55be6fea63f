"""The limits of a server, and the errors for requests that exceed them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import json_value
from trainer.base.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers

MOST_HEADER: Final = 32 << 10
"""The maximum number of bytes of a request's headers."""
_MOST_WHOLE: Final = 2**64
"""The largest integer in the JSON of a request, so that every value of int64 is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a server."""

    max_body: int = 16 << 20
    """The maximum number of bytes of a request's body."""
    max_samples: int = 1024
    """The maximum number of samples of a request."""
    max_batch: int = 64
    """The maximum number of samples in a call of the program."""
    batch_wait: float = 0.002
    """Seconds that a request waits for others to share a call; with 0, each request is its own call."""
    timeout: float = 30.0
    """Seconds for a request: to receive its body, to compute the response, and to send it."""
    concurrency: int = 256
    """The maximum number of POST requests in progress at the same time."""


class RequestError(Exception):
    """A request whose response is an error."""

    def __init__(self, status: int, message: str, *, hint: str, headers: Mapping[str, str] | None = None) -> None:
        """Store the HTTP status, the message, the hint and further headers of the response."""
        super().__init__(message)
        self.status, self.message, self.hint, self.headers = status, message, hint, dict(headers or {})

    @property
    def body(self) -> bytes:
        """The body of the response."""
        return json_bytes({"error": self.message, "hint": self.hint})


@dataclass(slots=True)
class BodySize:
    """The size of a request's body, counted while it arrives."""

    most: int
    is_complete: bool = False
    _bytes: int = 0

    def add(self, part: bytes, *, more: bool) -> None:
        """Count a part. Raise `RequestError` if the body is too large."""
        self._bytes += len(part)
        if self._bytes > self.most:
            raise too_large(f"more than {self.most:,}", self.most)
        self.is_complete = not more


def check_headers(headers: Headers, *, most: int) -> None:
    """Raise `RequestError` if the headers are too large, or if they state a compressed body or a body that is too large."""
    if (size := sum(len(name) + len(value) for name, value in headers.raw)) > MOST_HEADER:
        message = f"the headers have {size:,} bytes; expected at most {MOST_HEADER:,}"
        raise RequestError(431, message, hint="send fewer headers", headers={"connection": "close"})
    for encoding in headers.getlist("content-encoding"):
        if encoding.strip().lower() not in {"", "identity"}:
            message = f"the body has the content encoding {encoding[:40]!r}; expected no encoding"
            raise RequestError(415, message, hint="send the body as it is, without compression")
    length = headers.get("content-length", "")
    if length.isascii() and length.isdecimal() and (len(length) > len(str(most)) or int(length) > most):
        raise too_large(length[:20], most)


def too_large(found: str, most: int) -> RequestError:
    """Return the error for a body with too many bytes."""
    message = f"the body has {found} bytes; expected at most {most:,}"
    return RequestError(413, message, hint="send fewer samples at once, or start the server with a larger --max-body")


def parsed_request(body: bytes, *, most: int) -> dict[str, Any]:
    """Return the JSON object in a body. Raise `RequestError` for other JSON, and for more levels or items than a document may have."""
    try:
        content = json_value(body, where="the request", most=most, whole=_MOST_WHOLE)
    except DocumentError as fault:
        raise RequestError(422, fault.message, hint="send JSON as /openapi.json describes it") from fault
    if not isinstance(content, dict):
        message = f"the request is a JSON {type(content).__name__}; expected an object"
        raise RequestError(422, message, hint='such as {"inputs": {...}}; /openapi.json describes it')
    return content


def json_bytes(content: object) -> bytes:
    """Return a value as JSON. Raise `ValueError` for a number that is not finite."""
    return json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
