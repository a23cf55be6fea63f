"""An OCI registry: read and write blobs and manifests with the distribution API 1.1. Packages are stored as artifacts, not as images.

Responses of a registry are not trusted: content is limited in size and compared with its digest, credentials are sent only to the registry
and to the token server that it names, and only over TLS, and a redirect is followed only to read a blob. Only loopback registries are used
without TLS.
"""

from __future__ import annotations

import base64
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from trainer.base.digest import digest_of_bytes, is_digest
from trainer.base.document import json_value
from trainer.base.errors import (
    DigestMismatchError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
)
from trainer.base.suggestions import short
from trainer.stores.registry_reference import Credentials, is_loopback, parsed_challenge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from requests import PreparedRequest, Response

_TIMEOUT: Final = (20, 120)
"""Maximum seconds for connecting, and between two parts of a response."""
_BLOCK: Final = 1 << 20
_MOST_MANIFEST: Final = 4 << 20
_MOST_REDIRECTS: Final = 3
_HUB: Final = "docker.io"
_HUB_API: Final = "registry-1.docker.io"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_DISTRUST: Final = "do not use this registry, or fetch the package from another registry"
_REACH: Final = "check the name, and that this machine can reach the registry; run the same command again"
_ELSEWHERE, _DENIED, _MISSING, _SERVER = 300, 401, 404, 500
"""HTTP statuses: the first status that is not a success, login required, not found, and the first server error."""
_STATUS: Final = {401: StoreDeniedError, 403: StoreDeniedError, 404: ObjectMissingError, 429: StoreUnreachableError}


@dataclass(frozen=True, slots=True, kw_only=True)
class _RegistryRequest:
    """A request to a registry."""

    method: str
    url: str
    what: str
    """The requested content, for messages."""
    headers: Mapping[str, str]
    body: bytes | None = None


class Registry:
    """The artifacts below one name in a registry. All methods raise `StoreError` or a subclass if the registry fails or is not trusted."""

    def __init__(self, host: str, repository: str, *, credentials: Callable[[str], Credentials | None]) -> None:
        """Create the client. `credentials` returns the credentials for a registry's host; `None` if there are none."""
        self.host, self.repository, self._find = host, repository, credentials
        self._scheme = "http" if is_loopback(host) else "https"
        self._base = f"{self._scheme}://{_HUB_API if host == _HUB else host}/v2/{repository}/"
        self._session = requests.Session()
        self._session.mount("https://", _SystemCertificates())
        self._authorization: str | None = None

    @property
    def label(self) -> str:
        """The name of the registry and the repository, for messages."""
        return f"{self.host}/{self.repository}"

    def has_blob(self, digest: str, *, size: int) -> bool:
        """Return whether the registry states that it has the blob with the given size."""
        with self._send("HEAD", f"blobs/{digest}", what=f"blob {digest}", allowed=(_MISSING,)) as found:
            return found.status_code != _MISSING and found.headers.get("Content-Length") == str(size)

    def write_blob(self, body: bytes) -> None:
        """Upload a blob, unless the registry has it."""
        if self.has_blob(digest := digest_of_bytes(body), size=len(body)):
            return
        with self._send("POST", "blobs/uploads/", what=f"the upload of {digest}", body=b"") as response:
            target = self._upload_address(response, digest)
        headers = {"Content-Type": "application/octet-stream"}
        with self._send("PUT", target, what=f"the upload of {digest}", body=body, headers=headers):
            pass

    def read_blob(self, digest: str, *, size: int) -> bytes:
        """Return a blob of `size` bytes. Raise `DigestMismatchError` if its size or its digest is wrong."""
        with self._send("GET", f"blobs/{digest}", what=f"blob {digest}") as found:
            body = self._body(found, f"blob {digest}", most=size)
        if len(body) < size:
            message = f"blob {digest} from {self.label} ends after {len(body):,} of {size:,} bytes"
            raise DigestMismatchError(
                message, hint="run the same command again; if the error recurs, push the package again"
            )
        self._require(body, digest, f"blob {digest}")
        return body

    def write_manifest(self, text: bytes, *, tag: str) -> str:
        """Write a manifest as `tag`, read it back by its digest, and return the digest."""
        digest = digest_of_bytes(text)
        with self._send("PUT", f"manifests/{tag}", what=f"tag {tag}", body=text, headers={"Content-Type": MANIFEST}):
            pass
        self.read_manifest(digest)
        return digest

    def read_manifest(self, reference: str) -> bytes:
        """Return the manifest with a digest or a tag.

        Raise `DigestMismatchError` if its digest differs from `reference` or from the digest that the registry states.
        """
        what = f"manifest {reference}"
        with self._send("GET", f"manifests/{reference}", what=what, headers={"Accept": MANIFEST}) as found:
            body, stated = self._body(found, what, most=_MOST_MANIFEST), found.headers.get("Docker-Content-Digest")
        if is_digest(reference):
            self._require(body, reference, what)
        if stated is not None and is_digest(stated):
            self._require(body, stated, what)
        return body

    def _require(self, body: bytes, digest: str, what: str) -> None:
        if (found := digest_of_bytes(body)) != digest:
            raise DigestMismatchError(f"{what} from {self.label} is {found}; expected {digest}", hint=_DISTRUST)

    def _body(self, response: Response, what: str, *, most: int) -> bytes:
        """Return the bytes of a response. Raise `DigestMismatchError` if there are more than `most`, `StoreError` if they are encoded."""
        if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise StoreError(
                f"{what} from {self.label} has Content-Encoding {short(encoding)}; expected no encoding", hint=_DISTRUST
            )
        parts, count = [], 0
        for part in response.iter_content(_BLOCK):
            count += len(part)
            if count > most:
                raise DigestMismatchError(f"{what} from {self.label} has more than {most:,} bytes", hint=_DISTRUST)
            parts.append(part)
        return b"".join(parts)

    def _upload_address(self, response: Response, digest: str) -> str:
        """Return the address to which a blob is sent. Raise `StoreError` if it is missing, or is an address on another server."""
        location = urljoin(response.url, response.headers.get("Location", ""))
        if not response.headers.get("Location") or _origin(location) != _origin(self._base):
            message = f"{self.label} sends an upload to {short(_shown(location))}; expected an address on the registry"
            raise StoreError(message, hint=_DISTRUST)
        return f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"

    @contextmanager
    def _send(
        self,
        method: str,
        path: str,
        *,
        what: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        allowed: tuple[int, ...] = (),
    ) -> Iterator[Response]:
        """Send a request and yield the response; log in if the registry requires it.

        Raise `StoreError` if the status is an error that is not `allowed`.
        """
        sent = {"Accept-Encoding": "identity", "User-Agent": "reprise", **(headers or {})}
        request = _RegistryRequest(method=method, url=urljoin(self._base, path), what=what, headers=sent, body=body)
        with self._translate_errors(what):
            response = self._once(request)
            if response.status_code == _DENIED and (challenge := response.headers.get("WWW-Authenticate")):
                response.close()
                self._authorization = self._login(challenge)
                response = self._once(request)
            with response:
                if response.status_code >= _ELSEWHERE and response.status_code not in allowed:
                    raise self._failure(response, what)
                yield response

    def _once(self, request: _RegistryRequest) -> Response:
        """Send a request, and follow redirects if it reads a blob."""
        url = request.url
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._session.request(
                request.method,
                url,
                data=request.body,
                headers=dict(request.headers),
                auth=self._authorize,
                allow_redirects=False,
                stream=True,
                timeout=_TIMEOUT,
            )
            if not response.is_redirect:
                return response
            response.close()
            url = self._follow_redirect(request, urljoin(url, response.headers["Location"]))
        raise StoreError(f"{self.label} redirects {request.what} more than {_MOST_REDIRECTS} times", hint=_DISTRUST)

    def _follow_redirect(self, request: _RegistryRequest, url: str) -> str:
        """Return the address `url` of a redirect. Raise `StoreError` if it must not be followed."""
        reads_blob = request.method in {"GET", "HEAD"} and "/blobs/" in urlsplit(request.url).path
        parts = urlsplit(url)
        secure = parts.scheme == "https" or (self._scheme == "http" and is_loopback(parts.netloc))
        if reads_blob and secure and parts.scheme in {"http", "https"}:
            return url
        reason = "" if reads_blob else ", but only blobs may be read from another server"
        message = f"{self.label} redirects {request.what} to {short(_shown(url))}{reason}"
        raise StoreError(message, hint=_DISTRUST)

    def _authorize(self, request: PreparedRequest) -> PreparedRequest:
        """Add the credentials to a request to the registry itself; another server never gets them."""
        if self._authorization and _origin(str(request.url)) == _origin(self._base):
            request.headers["Authorization"] = self._authorization
        return request

    def _login(self, challenge: str) -> str | None:
        """Return the `Authorization` header for a challenge; `None` without credentials.

        Raise `StoreDeniedError` if the token server denies access, `StoreError` if it is not used over TLS or fails.
        """
        kind, parameters = parsed_challenge(challenge)
        own = self._find(self.host)
        if kind == "basic":
            return _basic(own)
        realm = parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (self._scheme == parts.scheme == "http" and is_loopback(parts.netloc)):
            message = f"{self.label} asks for a login at {short(_shown(realm)) or 'no address'}; expected https://"
            raise StoreError(message, hint=_DISTRUST)
        wanted = {name: value for name in ("service", "scope") if (value := parameters.get(name))}
        return f"Bearer {self._token(realm, wanted, own)}"

    def _token(self, realm: str, wanted: Mapping[str, str], own: Credentials | None) -> str:
        """Return a token from the registry's token server."""
        headers = {"Accept-Encoding": "identity"}
        if own is not None and own.identity_token:
            form = {
                **wanted,
                "grant_type": "refresh_token",
                "refresh_token": own.identity_token,
                "client_id": "reprise",
            }
            response = self._session.post(
                realm, data=form, headers=headers, auth=_nothing, allow_redirects=False, stream=True, timeout=_TIMEOUT
            )
        else:
            if header := _basic(own):
                headers["Authorization"] = header
            response = self._session.get(
                realm,
                params=wanted,
                headers=headers,
                auth=_nothing,
                allow_redirects=False,
                stream=True,
                timeout=_TIMEOUT,
            )
        with response:
            if response.status_code >= _ELSEWHERE:
                raise self._failure(response, "a login")
            found = json_value(self._body(response, "a login", most=_MOST_MANIFEST), where=f"the token of {self.host}")
        token = found.get("token") or found.get("access_token") if isinstance(found, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise StoreError(f"the token server of {self.host} returned no token", hint=f"docker login {self.host}")
        return token

    def _failure(self, response: Response, what: str) -> StoreError:
        """Return the error for the status of a response."""
        status = response.status_code
        kind = _STATUS.get(status, StoreUnreachableError if status >= _SERVER else StoreError)
        if kind is ObjectMissingError:
            return ObjectMissingError(f"{self.label} has no {what}", hint="check the name and the tag; push it first")
        if kind is StoreDeniedError:
            return StoreDeniedError(f"{self.label} denies access to {what}", hint=f"docker login {self.host}")
        return kind(f"{self.label} returned status {status} for {what}", hint=_REACH)

    @contextmanager
    def _translate_errors(self, what: str) -> Iterator[None]:
        """Translate the exceptions of the client."""
        try:
            yield
        except requests.exceptions.SSLError as fault:
            message = f"the TLS certificate of {self.host} is not trusted: {short(str(fault))}"
            raise StoreError(
                message, hint="behind a company's proxy, set SSL_CERT_FILE to the file of its certificates"
            ) from fault
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as fault:
            raise StoreUnreachableError(
                f"the transfer of {what} from {self.label} was interrupted", hint=_REACH
            ) from fault
        except (requests.exceptions.RequestException, UnicodeError) as fault:
            message = f"{self.label} does not respond to the request for {what}: {type(fault).__name__}"
            raise StoreUnreachableError(message, hint=_REACH) from fault


class _SystemCertificates(HTTPAdapter):
    """Connections that trust the system's certificates, or those in SSL_CERT_FILE, in addition to the client's own."""

    def init_poolmanager(self, *words: Any, **options: Any) -> None:
        """Create connections with the system's TLS context."""
        super().init_poolmanager(*words, ssl_context=ssl.create_default_context(), **options)

    def proxy_manager_for(self, *words: Any, **options: Any) -> Any:
        """Create connections through a proxy with the system's TLS context."""
        return super().proxy_manager_for(*words, ssl_context=ssl.create_default_context(), **options)


def _basic(own: Credentials | None) -> str | None:
    if own is None or not own.username:
        return None
    return f"Basic {base64.b64encode(f'{own.username}:{own.password}'.encode()).decode()}"


def _nothing(request: PreparedRequest) -> PreparedRequest:
    """Return the request unchanged; without an `auth` function, `requests` would add a password from ~/.netrc."""
    return request


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _shown(url: str) -> str:
    """Return an address without its query, which may contain a signature."""
    return urlsplit(url)._replace(query="", fragment="").geturl()
