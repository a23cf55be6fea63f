"""Lines and windows as sequences, and the loss per byte or token, compared with known results."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from trainer.base.errors import DatasetError, SettingError
from trainer.training.readers.samples import Alphabet, Samples, padded
from trainer.training.tasks.sequences import (
    NOT_WANTED,
    BitsPerByte,
    Perplexity,
    SequenceModel,
    generate,
    next_byte_loss,
    of_lines,
    require_tokens,
    require_windows,
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


def test_perplexity_is_exact_for_batches_of_different_lengths() -> None:
    whole, parts = Perplexity(), Perplexity()
    scores, expected = torch.randn(12, 5), torch.tensor([1, 2, NOT_WANTED, 3, 4, 0, NOT_WANTED, NOT_WANTED, 1, 1, 2, 0])
    whole.update(scores, expected)
    for at in (slice(0, 3), slice(3, 4), slice(4, 12)):
        parts.update(scores[at], expected[at])
    assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-12)
    assert whole.compute().log().item() == pytest.approx(next_byte_loss(scores[None], expected[None]).item())
    whole.reset()
    whole.update(torch.zeros(12, 5), expected)
    assert whole.compute().item() == pytest.approx(5.0)


def test_padding_of_tokens_is_no_target() -> None:
    net = AlternatingModel()
    net._used, net._context = ("text",), 8
    batch = {
        "text": torch.tensor([[1, 5, 6], [1, 0, 0]]),
        "next": torch.tensor([[5, 6, 1], [1, 0, 0]]),
        "length": torch.tensor([3, 1]),
    }
    given, expected = net.split_batch(batch)
    assert given.tolist() == batch["text"].tolist()
    assert expected.tolist() == [[5, 6, 1], [1, NOT_WANTED, NOT_WANTED]]
    assert int(net.counted(expected)) == 4
    assert net.split_batch({name: batch[name] for name in ("text", "next")})[1].tolist() == batch["next"].tolist()


class TokenReader(Samples):
    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    @property
    def alphabet(self) -> Alphabet:
        return Alphabet(end=1, decode=str, **self.facts)


@pytest.mark.parametrize(
    ("facts", "vocabulary", "message", "hint"),
    [
        ({"size": 256}, 300, "setting vocabulary is 300, but text@1 has bytes", "--vocabulary none"),
        ({"size": 90, "digest": "d"}, None, "setting vocabulary is None, but text@1 has 90 tokens", "--vocabulary 90"),
        ({"size": 90, "digest": "d"}, 89, "setting vocabulary is 89, but text@1 has 90 tokens", "--vocabulary 90"),
        ({"size": 90, "digest": "d", "longest": 9}, 90, "setting context is 8, but the longest sample", "--context 9"),
    ],
)
def test_settings_that_do_not_fit_the_tokens_are_rejected(
    facts: dict[str, Any], vocabulary: int | None, message: str, hint: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        require_tokens(TokenReader(**facts), "text@1", vocabulary=vocabulary, context=8)
    assert hint in str(caught.value.hint)


def test_a_vocabulary_may_be_larger_than_that_of_the_dataset() -> None:
    require_tokens(TokenReader(size=90, digest="d", longest=8), "text@1", vocabulary=128, context=8)


def test_windows_of_bytes_longer_than_the_context_are_rejected() -> None:
    require_windows(8, "text@1", context=8)
    with pytest.raises(SettingError, match=r"setting context is 8, but the windows of text@1 have 64 bytes") as caught:
        require_windows(64, "text@1", context=8)
    assert caught.value.hint == "--context 64; or publish the text with --window 8"


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
    assert bytes(generate(net, 7, context=2)) == b"ab\nab\na"


def test_a_net_that_returns_nan_generates_text() -> None:
    net = AlternatingModel()
    net.forward = lambda text: torch.full((*text.shape, 256), float("nan"))  # type: ignore[method-assign]
    assert len(generate(net, 5, context=2)) == 5
