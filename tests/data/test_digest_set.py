"""Digests, numbered as they come."""

from __future__ import annotations

from trainer.base.digest import digest_of_bytes
from trainer.data.digest_set import Digests

MANY = 3000
"""More than the table has room for at first."""


def test_each_is_numbered_once_in_the_order_of_its_coming() -> None:
    """A digest keeps its number, however many come after it; what is new gets the next one."""
    some, digests = Digests(), [digest_of_bytes(b"%d" % number) for number in range(MANY)]
    assert [some.add(digest) for digest in digests] == list(range(MANY))
    assert [some.add(digest) for digest in reversed(digests)] == list(reversed(range(MANY)))
    assert len(some) == MANY
