"""The reason why a text is not JSON, in one phrase with its line and column."""

from __future__ import annotations

import json
import re
from typing import Final

_EXPECTED: Final = {
    "Expecting value": "expected a value",
    "Expecting property name": "expected a key in double quotes",
    "Expecting ',' delimiter": "expected a comma or a closing bracket",
    "Expecting ':' delimiter": "expected a colon",
    "Extra data": "expected the end",
    "Illegal trailing comma": "expected no comma before a closing bracket",
    "Unexpected UTF-8 BOM": "expected no byte order mark",
}
"""The expectations of Python's decoder by the beginning of its message."""
_TEXTS: Final = {
    "Unterminated string": "a string is not closed",
    "Invalid control character": r"a string has a control character; expected an escape such as \n",
    "Invalid \\uXXXX escape": r"expected four hexadecimal digits after \u",
    "Invalid \\escape": "a string has an unknown escape",
}
"""Faults inside of a string."""


def json_fault(fault: ValueError, *, is_line: bool = False) -> str:
    r"""Return the reason of an exception that `json.loads` or the decoding of its text raised. `is_line` leaves out the number of the line.

    >>> try:
    ...     json.loads('{"a": 1,\n "b" 2}')
    ... except ValueError as fault:
    ...     print(json_fault(fault))
    line 2, column 6: expected a colon, found '2'
    """
    if isinstance(fault, UnicodeDecodeError):
        line = fault.object.count(b"\n", 0, fault.start) + 1
        return f"{'' if is_line else f'line {line}: '}the byte 0x{fault.object[fault.start]:02x} is not {fault.encoding.upper()}"
    if isinstance(fault, json.JSONDecodeError):
        place = f"column {fault.colno}" if is_line else f"line {fault.lineno}, column {fault.colno}"
        return f"{place}: {_reason(fault)}"
    if digits := re.match(r"Exceeds the limit \((\d+) digits\).*value has (\d+) digits", str(fault)):
        return f"a number has {int(digits[2]):,} digits; expected at most {int(digits[1]):,}"
    return str(fault)


def _reason(fault: json.JSONDecodeError) -> str:
    for start, text in _TEXTS.items():
        if fault.msg.startswith(start):
            return text
    expected = next((text for start, text in _EXPECTED.items() if fault.msg.startswith(start)), "expected JSON")
    found = fault.doc[fault.pos : fault.pos + 1]
    return f"{expected}, found {found!r}" if found.strip(" \t\r\n") else f"{expected}, found the end"
