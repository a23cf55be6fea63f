"""Translate errors of S3 servers and proxies: every exception of boto3 becomes a `StoreError`."""

from __future__ import annotations

import re
import textwrap
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from trainer.base.errors import (
    DigestMismatchError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreMissingError,
    StoreUnreachableError,
)
from trainer.stores.contract import AGAIN, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from botocore.awsrequest import AWSResponse

TAKEN: Final = {"412", "PreconditionFailed"}
RACING: Final = {"409", "ConditionalRequestConflict"}
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_CLOCK: Final = {"RequestTimeTooSkewed"}
_ACCESS_DENIED: Final = {
    "403",
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_NOT_THE_BYTES: Final = {
    "BadDigest",
    "IncompleteBody",
    "InvalidDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.SSOError,
)
_CREDENTIALS_HINT: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in .env for containers; "
    "or, on the host, AWS_PROFILE or s3://BUCKET?profile=NAME"
)
_TLS_HINT: Final = "if TLS is inspected, set AWS_CA_BUNDLE to the file with that authority's certificate"
_LOCAL_HINT: Final = "start it; if it is the local store: scripts/setup && docker compose up -d --wait store"
_REACH_HINT: Final = "start the server, or correct its endpoint: scripts/setup --store ADDRESS --endpoint URL, or s3://BUCKET?endpoint=URL"
_FAILED_HINT: Final = "check the server's log and its free space, then run the same command again"
_DOCTOR_HINT: Final = "test the server: reprise doctor store ADDRESS"
_PAGE_HINT: Final = "log in to the network if it requires a login, or correct AWS_ENDPOINT_URL_S3 in .env"


@contextmanager
def translate_errors(key: str, *, label: str, bucket: str) -> Iterator[None]:
    """Convert boto3 exceptions about `key` to errors of Reprise; `label` names the store in messages."""
    try:
        yield
    except boto.ClientError as fault:
        raise _response_error(key, fault, label=label, bucket=bucket) from fault
    except _NO_CREDENTIALS as fault:
        raise StoreDeniedError(f"no usable credentials for {label}: {_line(fault)}", hint=_CREDENTIALS_HINT) from fault
    except (boto.IncompleteReadError, boto.ResponseStreamingError) as fault:
        raise DigestMismatchError(f"download of {key} from {label} is incomplete", hint=AGAIN) from fault
    except boto.SSLError as fault:
        raise StoreUnreachableError(f"store {label}: TLS failed", hint=_TLS_HINT) from fault
    except (boto.ConnectionError, boto.HTTPClientError) as fault:
        hint = _LOCAL_HINT if re.search(r" at https?://(127\.|localhost|\[::1\])", label) else _REACH_HINT
        raise StoreUnreachableError(f"store {label} does not respond", hint=hint) from fault
    except ResponseParserError as fault:
        raise _page(label) from fault
    except boto.BotoCoreError as fault:
        raise StoreError(f"store {label}: {_line(fault)}", hint="correct REPRISE_STORE or AWS_* in .env") from fault


def no_bucket(bucket: str, *, label: str) -> StoreMissingError:
    """Return the error for a store whose bucket does not exist."""
    hint = "create it, or correct REPRISE_STORE in .env"
    return StoreMissingError(f"bucket {bucket!r} does not exist: store {label}", hint=hint)


def require_object(headers: Mapping[str, str], *, label: str) -> None:
    """Raise `StoreUnreachableError` if a response is a proxy's web page; every response of an S3 server has a request ID."""
    if headers.get("content-type", "").startswith("text/html") and not _REQUEST_IDS & headers.keys():
        raise _page(label)


_REQUEST_IDS: Final = frozenset({"x-amz-request-id", "x-guploader-uploadid"})


def code_of(fault: boto.ClientError) -> str:
    """Return the server's error code; an empty string if the response has none."""
    return str(fault.response.get("Error", {}).get("Code", ""))


def _response_error(key: str, fault: boto.ClientError, *, label: str, bucket: str) -> StoreError:
    code, meta = code_of(fault), fault.response["ResponseMetadata"]
    status, headers = meta.get("HTTPStatusCode", 0), meta.get("HTTPHeaders", {})
    if code == "NoSuchBucket":
        return no_bucket(bucket, label=label)
    if status == HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED:
        return _page(label)
    if known := _skewed(headers, label) if code in _CLOCK else _known_error(key, code, label):
        return known
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        named = f" ({code})" if code not in {"", str(status)} else ""
        return StoreUnreachableError(f"store {label} returned status {status}{named}", hint=_FAILED_HINT)
    region = fault.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
    hint = f"AWS_DEFAULT_REGION={region}, in .env for containers" if region else _DOCTOR_HINT
    return StoreError(f"store {label}: {_line(fault)}", hint=hint)


def _known_error(key: str, code: str, label: str) -> StoreError | None:
    """Return the error for a known error code of S3; `None` for any other code."""
    if code in {"404", "NoSuchKey"}:
        return ObjectMissingError(
            f"{key} is not in {label}", hint="check the address of the store, or publish to this store"
        )
    if code in _ACCESS_DENIED:
        return StoreDeniedError(f"store {label} rejects these credentials ({code})", hint=_CREDENTIALS_HINT)
    if code in {"416", "InvalidRange"}:
        return whole(key, label)
    if code in RACING:
        return StoreError(f"other clients keep writing {key} to {label}", hint=AGAIN)
    if code in _NOT_THE_BYTES:
        return DigestMismatchError(f"{key} was corrupted during upload to {label} ({code})", hint=AGAIN)
    return None


def _page(label: str) -> StoreUnreachableError:
    message = f"store {label}: the response is a web page, as from a captive portal or a proxy"
    return StoreUnreachableError(message, hint=_PAGE_HINT)


def refuse_redirect(label: str, response: tuple[AWSResponse, object] | None, **_: object) -> None:
    """Raise `StoreUnreachableError` for a redirect without a region, which boto3 would retry."""
    if response is None or (status := response[0].status_code) not in _REDIRECTS:
        return
    headers = {name.lower(): text for name, text in response[0].headers.items()}
    if "x-amz-bucket-region" not in headers:
        raise _redirected(headers, status, label)


def _redirected(headers: Mapping[str, str], status: int, label: str) -> StoreUnreachableError:
    """Return the error for a redirect. It shows the host without the path, because a location may contain a signature."""
    host = urlsplit(headers.get("location", "")).netloc or "another address"
    message = f"store {label} returned status {status}, a redirect to {host}: not followed, because credentials are sent only to the store"
    return StoreUnreachableError(message, hint=f"if {host} is the store, set AWS_ENDPOINT_URL_S3 in .env to it")


def _skewed(headers: Mapping[str, str], label: str) -> StoreDeniedError:
    message, hint = f"store {label} rejects this machine's clock", "set the clock: timedatectl set-ntp true"
    try:
        theirs = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return StoreDeniedError(message, hint=hint)
    minutes = round((datetime.now(UTC) - theirs).total_seconds() / 60)
    side = "ahead of" if minutes > 0 else "behind"
    return StoreDeniedError(f"{message}: it is {abs(minutes)} minutes {side} the store's", hint=hint)


def _line(fault: Exception) -> str:
    return textwrap.shorten(str(fault), 200, placeholder=" ..")
