"""Lines and windows as sequences, and the loss per byte, on texts with known results."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.base.errors import DatasetError
from trainer.training.readers.samples import padded
from trainer.training.tasks.sequences import (
    NOT_WANTED,
    BitsPerByte,
    SequenceModel,
    generate_text,
    next_byte_loss,
    of_lines,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")]


def test_a_line_is_learned_from_start_to_end() -> None:
    text, lengths = padded([b"ab", b"", b"c"])
    given, expected = of_lines(text.long(), lengths)
    assert given.tolist() == [[10, 97, 98], [10, 0, 0], [10, 99, 0]]
    assert expected.tolist() == [[97, 98, 10], [10, NOT_WANTED, NOT_WANTED], [99, 10, NOT_WANTED]]


def test_bits_per_byte_counts_target_bytes_only_for_any_batch_size() -> None:
    whole, parts = BitsPerByte(), BitsPerByte()
    scores, expected = torch.randn(9, 256), torch.tensor([1, 2, 3, 4, NOT_WANTED, 5, NOT_WANTED, 6, 7])
    whole.update(scores, expected)
    for at in (slice(0, 1), slice(1, 7), slice(7, 9)):
        parts.update(scores[at], expected[at])
    assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-12)
    assert whole.compute().item() == pytest.approx(next_byte_loss(scores[None], expected[None]).item() / math.log(2))
    whole.reset()
    whole.update(torch.zeros(9, 256), expected)
    assert whole.compute().item() == pytest.approx(8.0)


class AlternatingModel(SequenceModel):
    def forward(self, text: torch.Tensor) -> torch.Tensor:
        follows = torch.zeros(256, dtype=torch.int64)
        follows[torch.tensor([10, 97, 98])] = torch.tensor([97, 98, 10])
        return torch.nn.functional.one_hot(follows[text], 256) * 1e3


@pytest.mark.parametrize("field", ["text", "next"])
def test_numbers_with_a_fraction_are_rejected_instead_of_cut_off(field: str) -> None:
    net, text = AlternatingModel(), torch.tensor([[97, 98]])
    net._used, net._context = ("text",), 2
    batch = {"text": text.int(), "next": text.byte()}
    assert [each.dtype for each in net.split_batch(batch)] == [torch.int64, torch.int64]
    with pytest.raises(DatasetError, match=rf"field '{field}' is float32 \[1, 2\]; expected bytes, as integers"):
        net.split_batch(batch | {field: text + 0.5})


def test_a_net_generates_what_it_learned() -> None:
    net = AlternatingModel()
    assert generate_text(net, 7, context=2) == b"ab\nab\na"


def test_a_net_that_returns_nan_generates_text() -> None:
    net = AlternatingModel()
    net.forward = lambda text: torch.full((*text.shape, 256), float("nan"))  # type: ignore[method-assign]
    assert len(generate_text(net, 5, context=2)) == 5
