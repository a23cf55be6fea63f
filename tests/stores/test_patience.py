"""Requests to a store that fails are retried, with a line at the beginning and at the end of the outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import (
    DigestMismatchError,
    ObjectMissingError,
    StoppedError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
)
from trainer.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable


def failing(fault: StoreError, times: int) -> Callable[[], str]:
    left = [fault] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "bytes"

    return work


def test_an_outage_is_reported_once_and_ends() -> None:
    said: list[str] = []
    patience = Patience(say=said.append)
    assert patience.call(failing(StoreUnreachableError("no answer", hint="wait"), 2)) == "bytes"
    assert said == ["no answer: retrying for up to 15 minutes", "the store is reachable again after 2 s"]
    assert patience.call(lambda: "more") == "more"
    assert len(said) == 2


@pytest.mark.parametrize("kind", [StoreDeniedError, ObjectMissingError])
def test_permanent_errors_are_raised_at_once(kind: type[StoreError]) -> None:
    with pytest.raises(kind):
        Patience().call(failing(kind("no", hint="no"), 1))


def test_wrong_bytes_are_requested_three_times() -> None:
    with pytest.raises(DigestMismatchError):
        Patience(longest_s=100).call(failing(DigestMismatchError("wrong", hint="no"), 3))


def test_a_requested_stop_ends_the_pause() -> None:
    def check() -> None:
        raise StoppedError("stopped", hint="")

    with pytest.raises(StoppedError):
        Patience(check=check).call(failing(StoreUnreachableError("no answer", hint="wait"), 1))
