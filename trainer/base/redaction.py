"""Remove the values of secrets from text that leaves a process: terminal, log, record, messages as JSON.

Values are found in every encoding that occurs in messages: plain, as Python and JSON string literals, in a URL, in base64 at any
offset in a longer body, in hexadecimal, in HTML; also the beginning of a value where a text was truncated, as messages are. This is a
second line of defense behind the rules that keep secrets out of printed text: a value that is printed in pieces is not found.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SHORTEST: Final = 8
"""Minimum characters of a value: a shorter value would match many words."""
_NAMES: Final = re.compile(r"(?i)(^|_)(key|pat|pwd|dsn)(_|$)|token|secret|passw|credential|apikey")

_CUT: Final = re.compile(r"\s?(\.\.|\u2026)|\s*(\Z|\n)")
"""The mark at which a truncated value ends: an ellipsis, a line end or the end of the text."""
_FOLDERS: Final = {"PWD", "OLDPWD"}
"""The shell's current folder and the previous folder, which occur in every printed path."""


class Redactor:
    """Replaces the values of secrets with the names of the secrets."""

    def __init__(self) -> None:
        """Create a redactor without values."""
        self._names: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._heads: re.Pattern[str] | None = None

    def add(self, name: str, value: str | None) -> None:
        """Replace `value` by `[redacted: NAME]` from now on; a value of less than 8 characters is not redacted."""
        if value is None or len(value) < SHORTEST:
            return
        for form in _encodings(value):
            self._names.setdefault(form, name)
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        self._heads = re.compile("|".join({re.escape(form[:SHORTEST]) for form in longest_first}))

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """Redact the value of each variable whose name is the name of a secret, e.g. WANDB_API_KEY."""
        for name, value in environ.items():
            if is_secret_name(name):
                self.add(name, value)

    def redact(self, text: str) -> str:
        """Return the text with the values replaced by names.

        >>> redactor = Redactor()
        >>> redactor.add("TOKEN", "s3cr3t-value")
        >>> redactor.redact("GET /?t=s3cr3t-value"), redactor.redact("no secret")
        ('GET /?t=[redacted: TOKEN]', 'no secret')
        """
        if self._pattern is None or self._heads is None:
            return text
        whole = self._pattern.sub(lambda found: f"[redacted: {self._names[found[0]]}]", text)
        parts, at = [], 0
        for found in self._heads.finditer(whole):
            if found.start() >= at and (cut := self._cut_value(whole, found.start())):
                name, end = cut
                parts += [whole[at : found.start()], f"[redacted: {name}]"]
                at = end
        return "".join([*parts, whole[at:]])

    def _cut_value(self, text: str, start: int) -> tuple[str, int] | None:
        """Return the name of the secret whose value begins at `start` and is truncated, and the position where it ends; else `None`."""
        for form, name in self._names.items():
            pairs = zip(form, text[start : start + len(form)], strict=False)
            end = start + next((at for at, (one, other) in enumerate(pairs) if one != other), len(form))
            end = min(end, len(text))
            if end - start >= SHORTEST and _CUT.match(text, end):
                return name, end
        return None


def is_secret_name(name: str) -> bool:
    """Return whether a variable of this name holds a secret.

    >>> is_secret_name("AWS_SECRET_ACCESS_KEY"), is_secret_name("AWS_ACCESS_KEY_ID"), is_secret_name("KEYBOARD")
    (True, False, False)
    """
    return _NAMES.search(name) is not None and not name.lower().endswith("_id") and name not in _FOLDERS


def _encodings(value: str) -> Iterator[str]:
    """Yield the encodings of a value."""
    import base64  # imported here, since every command imports this module, and few have a secret
    import html
    import json
    from urllib.parse import quote, quote_plus

    data = value.encode("utf-8", "surrogateescape")
    forms = {
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(data, safe=""),
        quote(data),
        quote_plus(data),
        html.escape(value),
        data.hex(),
        data.hex().upper(),
    }
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms |= {_inner(encode, data, before) for before in range(3)}
    yield from (form for form in forms if len(form) >= SHORTEST)


def _inner(encode: Callable[[bytes], bytes], data: bytes, before: int) -> str:
    """Return the base64 characters of `data` after `before` bytes that do not depend on the neighboring bytes."""
    text = encode(b"\0" * before + data).decode().rstrip("=")
    first = -(-before * 8 // 6)
    whole = (before + len(data)) * 8 // 6
    return text[first:whole]


REDACTOR: Final = Redactor()
"""The redactor of this process. Secrets are registered when they are read."""
