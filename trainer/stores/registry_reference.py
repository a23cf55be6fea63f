"""Names in an OCI registry, the credentials for a registry, and the challenge by which a registry requests them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

from trainer.base.digest import is_digest
from trainer.base.errors import UsageError
from trainer.base.suggestions import short

_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LONGEST: Final = 255
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"|(\w+)=([^\s",]+)')
EXAMPLE: Final = "registry.example/team/digits:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A name in a registry, with a tag, a digest or neither."""

    host: str
    """The host, with its port if any."""
    repository: str
    tag: str | None = None
    digest: str | None = None
    """The digest of a manifest."""

    @classmethod
    def parse(cls, word: str) -> Reference:
        """Parse `HOST/NAME[:TAG]` or `HOST/NAME@sha256:...`. Raise `UsageError` if `word` has neither form.

        >>> Reference.parse("localhost:5000/team/digits:1").tag
        '1'
        """
        name, _, digest = word.partition("@")
        host, _, path = name.partition("/")
        repository, _, tag = path.partition(":")
        if not _HOST.fullmatch(host) or not (set(".:") & set(host) or host == "localhost"):
            raise _invalid(word, f"{short(host)!r} is not the name of a registry")
        if not _REPOSITORY.fullmatch(repository) or len(repository) > _LONGEST:
            raise _invalid(word, f"{short(repository)!r} is not a repository name in lower case")
        if (":" in path and not _TAG.fullmatch(tag)) or ("@" in word and (tag or not is_digest(digest))):
            raise _invalid(word, "expected a tag of letters, digits and . _ - or the digest of a manifest")
        return cls(host=host, repository=repository, tag=tag or None, digest=digest or None)


def is_reference(word: str) -> bool:
    """Return whether a word is a name in a registry: it contains a slash."""
    return "/" in word


def is_loopback(host: str) -> bool:
    """Return whether a host, with or without a port, is this machine's loopback address.

    >>> [is_loopback(host) for host in ("localhost:5000", "127.0.0.1", "[::1]:5000", "registry.example", "127.example")]
    [True, True, True, False, False]
    """
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) and not host.endswith("]") else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user's credentials for a registry: a name and a password, or an identity token."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def parsed_challenge(header: str) -> tuple[str, dict[str, str]]:
    """Return the scheme, in lower case, and the parameters of a `WWW-Authenticate` header.

    >>> parsed_challenge('Bearer realm="https://auth.example/token",service=registry')
    ('bearer', {'realm': 'https://auth.example/token', 'service': 'registry'})
    """
    kind, _, rest = header.strip().partition(" ")
    found = {(match[1] or match[3]).lower(): match[2] or match[4] or "" for match in _CHALLENGE.finditer(rest)}
    return kind.lower(), found


def _invalid(word: str, reason: str) -> UsageError:
    return UsageError(f"{short(word)!r} is not a name in a registry: {reason}", hint=f"such as {EXAMPLE}")
