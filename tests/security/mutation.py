"""Random mutations of bytes and documents, reproducible from the seed."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from random import Random

ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**53, 2**53 + 1, -(2**63), 2**64, 10**400, 1e308, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), "NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "9" * 5000, "-1"),
    *(
        "",
        " ",
        "a\x00b",
        "\x1b]0;PWNED\x07",
        "\u202e",
        "\ud800",
        "\udfff\ud800",
        "\n",
        "x" * 100_000,
        "a/../b",
        "/etc/passwd",
    ),
    *("../../x", "sha256:" + "0" * 64, "sha256:" + "z" * 64, "20260301t120005-abcdef", "0001-01-01T00:00:00"),
    *("9999-12-31T23:59:59Z", "2026-03-01T12:00:00+14:00", "%s", "{0}", "[", "(", "\\", "*", "a.b.c"),
    *([], {}, [[]], {"": {}}, [None] * 50, [0] * 1000, [[0] * 10] * 10),
)
"""Values that are hard to parse."""
ODD_TEXT: Final = (
    *(
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\n",
        b'"',
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"NaN",
        b"-",
    ),
    *(
        b"Infinity",
        b"1e999",
        b"9" * 5000,
        b"[" * 2000,
        b"{" * 2000,
        b'{"a":' * 2000,
        b"]" * 100,
        b"}",
        b",",
        b":",
        b"=",
    ),
    *(
        b"a." * 200,
        b"[[a]]\n",
        b"[a]\n",
        b"inf",
        b"nan",
        b"0x" + b"f" * 5000,
        b"1979-05-27",
        b"'''",
        b'"""',
        b"#",
        b"\x1b[2J",
    ),
)


def mutated_bytes(draw: Random, body: bytes) -> bytes:
    """Return the bytes after one or more random changes: replaced, removed, copied or inserted bytes."""
    found = bytearray(body)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at, other = draw.randrange(len(found) + 1), draw.randrange(len(found) + 1)
        match draw.randrange(7):
            case 0:
                found[at : at + 1] = draw.randbytes(1)
            case 1 if at < len(found):
                found[at] ^= 1 << draw.randrange(8)
            case 2:
                del found[at : at + draw.choice((1, 4, 100, len(found)))]
            case 3:
                found[at:at] = found[other : other + draw.choice((1, 8, 64, 1000))]
            case 4:
                found[at:at] = draw.choice(ODD_TEXT)
            case 5:
                number = draw.choice((0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1))
                width = draw.choice((2, 4, 8))
                found[at : at + width] = (number % 256**width).to_bytes(width, draw.choice(("little", "big")))
            case 6:
                found[at : at + 4] = draw.randbytes(4)
    return bytes(found)


def mutated_json(draw: Random, body: bytes) -> bytes:
    """Return a JSON document with values replaced, removed or added, and sometimes with changed bytes."""
    content = json.loads(body)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        content = _changed(draw, content)
    text = json.dumps(content, ensure_ascii=draw.random() < 0.9, allow_nan=True)
    if draw.random() < 0.1:
        text = text.replace("{", '{"a": 1, "a": 2, ' if draw.random() < 0.5 else '{"format": "x", ', 1)
    found = text.encode(errors="surrogatepass") + b"\n"
    return mutated_bytes(draw, found) if draw.random() < 0.1 else found


def _changed(draw: Random, content: Any) -> Any:
    """Return the document with a change at a random depth."""
    if isinstance(content, dict | list) and content and draw.random() < 0.85:
        key = draw.choice([*content] if isinstance(content, dict) else range(len(content)))
        content[key] = _changed(draw, content[key])
        return content
    match draw.randrange(6):
        case 0 if isinstance(content, dict) and content:
            del content[draw.choice([*content])]
        case 1 if isinstance(content, dict):
            content[str(draw.choice(ODD))[:1000]] = deepcopy(draw.choice(ODD))
        case 2 if isinstance(content, list) and content:
            return [deepcopy(each) for _ in range(draw.choice((0, 2, 100))) for each in content]
        case 3:
            for _ in range(draw.choice((1, 20, 70, 150))):
                content = {"a": content} if draw.random() < 0.5 else [content]
        case 4 if isinstance(content, str):
            return content + str(draw.choice(ODD))[:1000]
        case _:
            return deepcopy(draw.choice(ODD))
    return content
