"""Traces: round trips, the first difference, and lines that a kill truncated."""

from __future__ import annotations

import pytest

from trainer.base.errors import DocumentError
from trainer.comparison.trace import (
    Difference,
    Stream,
    Trace,
    TraceEntry,
    comparable_streams,
    first_difference,
    trace_of,
    truncate_trace,
)
from trainer.comparison.trace_lines import Evaluation, Step, TraceHeader, bits_of, layout_of, prints_of

LAYOUT = layout_of([("net.weight", "float32", [2, 3]), ("net.bias", "float32", [2])])
HEADER = TraceHeader(algorithm="xxh3-64", layout=LAYOUT, tensors=["net.weight", "net.bias"], schedule=["0.lr"])
NAN = float("nan")


def make_step(number: int, **changed: object) -> Step:
    """Return a step with default values except for `changed`."""
    values: dict[str, object] = {
        "data": "0" * 16,
        "random": "1" * 16,
        "schedule": [0.1],
        "loss": bits_of(0.5),
        "gradient": bits_of(2.0),
        "weights": "a" * 16,
        "tensors": prints_of([1, 2]),
    }
    return Step.model_validate({"step": number, "epoch": 0, "batch": number, **values, **changed})


def make_trace(*entries: TraceEntry, header: TraceHeader = HEADER) -> Trace:
    return trace_of(b"".join(line.to_line() for line in (header, *entries)), where="trace.jsonl")


def test_a_trace_round_trips() -> None:
    written: list[TraceEntry] = [
        make_step(1, loss=bits_of(NAN, -0.0)),
        Evaluation(evaluation="val", step=1, values={"val_loss": float("inf")}),
    ]
    again = make_trace(*written)
    assert again.header == HEADER
    assert list(again.entries()) == written
    assert again.steps == 1


def test_an_incomplete_last_line_is_ignored() -> None:
    whole = HEADER.to_line() + make_step(1).to_line()
    assert trace_of(whole + make_step(2).to_line()[:-9], where="t").steps == 1


@pytest.mark.parametrize(
    ("line", "named"),
    [(b"{}\n", "line 2: key 'step' is missing"), (b"nonsense\n", "line 2 is not valid JSON"), (b"[1]\n", "line 2")],
)
def test_an_invalid_line_is_named(line: bytes, named: str) -> None:
    damaged = trace_of(HEADER.to_line() + line, where="trace.jsonl")
    with pytest.raises(DocumentError, match=named):
        list(damaged.entries())


def test_another_format_is_rejected() -> None:
    with pytest.raises(DocumentError, match="format"):
        trace_of(HEADER.to_line().replace(b"trace/1", b"trace/9"), where="t")


def test_equal_traces_have_no_difference() -> None:
    assert first_difference(make_trace(make_step(1), make_step(2)), make_trace(make_step(1), make_step(2))) is None
    assert first_difference(make_trace(make_step(1), make_step(2)), make_trace(make_step(1))) is None


@pytest.mark.parametrize(
    ("changed", "stream", "named"),
    [
        ({"data": "f" * 16}, Stream.DATA, None),
        ({"random": "f" * 16, "loss": bits_of(9.0)}, Stream.RANDOM, None),
        ({"schedule": [0.10000000149011612], "weights": "b" * 16}, Stream.SCHEDULE, "0.lr"),
        ({"loss": bits_of(NAN)}, Stream.FORWARD, "loss"),
        ({"gradient": bits_of(-2.0)}, Stream.BACKWARD, "norm"),
        ({"weights": "b" * 16, "tensors": prints_of([1, 3])}, Stream.WEIGHTS, "net.bias"),
    ],
)
def test_the_first_stream_in_causal_order_is_named(
    changed: dict[str, object], stream: Stream, named: str | None
) -> None:
    found = first_difference(
        make_trace(make_step(1), make_step(2), make_step(3)),
        make_trace(make_step(1), make_step(2, **changed), make_step(3, data="e" * 16)),
    )
    assert found is not None
    assert (found.step, found.stream, found.quantity or found.tensor) == (2, stream, named)


def test_a_difference_shows_both_values() -> None:
    found = first_difference(make_trace(make_step(1)), make_trace(make_step(1, loss=bits_of(0.75))))
    assert found == Difference(step=1, stream=Stream.FORWARD, quantity="loss", a="0.5", b="0.75")


def test_a_full_trace_names_the_first_gradient() -> None:
    full = HEADER.model_copy(update={"gradients": ["net.weight", "net.bias"]})
    a, b = (make_trace(make_step(1, gradients=prints_of([5, last])), header=full) for last in (6, 7))
    found = first_difference(a, b)
    assert found is not None
    assert (found.stream, found.tensor) == (Stream.BACKWARD, "net.bias")


def test_a_differing_evaluation_is_found_among_evaluations_of_one_run() -> None:
    early = Evaluation(evaluation="val", step=1, values={"val_loss": 9.0})
    a, b = (Evaluation(evaluation="test", step=2, values={"test_loss": value}) for value in (1.0, 2.0))
    found = first_difference(
        make_trace(make_step(1), early, make_step(2), a), make_trace(make_step(1), make_step(2), b)
    )
    assert found is not None
    assert (found.step, found.stream, found.quantity) == (2, Stream.EVALUATION, "test_loss")


def test_fingerprints_of_different_algorithms_are_not_compared() -> None:
    other = HEADER.model_copy(update={"algorithm": "weighted-sum-64"})
    assert set(Stream) - set(comparable_streams(HEADER, other)) == {Stream.DATA, Stream.WEIGHTS}
    assert first_difference(make_trace(make_step(1)), make_trace(make_step(1, weights="b" * 16), header=other)) is None


def test_a_trace_can_be_truncated_to_a_step() -> None:
    after = Evaluation(evaluation="val", step=2, values={"val_loss": 1.0})
    before = Evaluation(evaluation="val", step=1, values={"val_loss": 1.0})
    kept = truncate_trace(make_trace(make_step(1), before, make_step(2), after, make_step(3)), 2)
    assert list(kept.entries()) == [make_step(1), before, make_step(2)]
