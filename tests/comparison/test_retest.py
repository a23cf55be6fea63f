"""Retests: what is kept of running a run again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DocumentError
from trainer.comparison.retest import Retest, Side, read_retest, retest_key, retest_of_key, summed_up
from trainer.runs.record import Knowledge

RUN, AGAIN = "20260301t120000-abcdef", "20260302t120000-abcdef"


def a_retest(*, verdict: str = "identical", device: str = "AMD EPYC", day: int = 2) -> Retest:
    """A retest of `RUN`."""
    identity = digest_of_bytes(b"identity")
    return Retest(
        original=Side(run=RUN, attempt=1, identity=identity),
        retest=Side(run=AGAIN, attempt=1, identity=identity),
        when=datetime(2026, 3, day, tzinfo=UTC),
        who="somebody",
        host="h",
        device=device,
        how="container",
        image=Knowledge.VERIFIED,
        verdict=verdict,
        evidence=digest_of_bytes(b"evidence"),
    )


def test_a_retest_is_read_as_it_was_written() -> None:
    """The same bytes each time."""
    retest = a_retest()
    assert read_retest(retest.to_json(), run=RUN, where="there") == retest
    assert read_retest(retest.to_json(), run=RUN, where="there").to_json() == retest.to_json()


def test_a_retest_of_this_version_is_read_for_ever() -> None:
    """Its bytes are kept, and come back."""
    text = (Path(__file__).parents[1] / "golden" / "retest-1.json").read_bytes()
    retest = read_retest(text, run=RUN, where="golden")
    assert (retest.verdict, retest.hashed, retest.to_json()) == ("identical", 23560, text)


def test_a_retest_of_another_run_is_refused() -> None:
    """It lies beside the run that it is about."""
    with pytest.raises(DocumentError, match="is a retest of"):
        read_retest(a_retest().to_json(), run=AGAIN, where="there")


def test_its_name_in_a_store_says_both_runs() -> None:
    """And no user's text."""
    key = retest_key(a_retest())
    assert key == f"runs/{RUN}/retests/{AGAIN}.json"
    assert retest_of_key(key) == (RUN, AGAIN)
    assert retest_of_key(f"runs/{RUN}/attempts/1/sealed.json") is None


def test_retests_add_up_by_device_and_verdict() -> None:
    """How often, where, when last: refutations are not hidden by confirmations."""
    lines = summed_up([a_retest(), a_retest(day=5), a_retest(verdict="different", device="Xeon")])
    assert lines == ["identical: 2 on AMD EPYC, last 2026-03-05", "different: 1 on Xeon, last 2026-03-02"]


@pytest.mark.parametrize(("verdict", "confirms"), [("identical", True), ("within noise", True), ("different", False)])
def test_a_retest_confirms_or_not(verdict: str, *, confirms: bool) -> None:
    """What cannot be compared confirms nothing either."""
    assert a_retest(verdict=verdict).confirms is confirms
