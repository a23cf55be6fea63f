"""The file of a tokenizer, parsed without the library: its vocabulary, and the tokens that end and pad lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trainer.base.errors import DatasetError
from trainer.data.tokenizer_file import parse_tokenizer

VOCAB = {"<pad>": 0, "</s>": 1, "a": 2, "b": 7}
SPECIAL = [{"id": VOCAB[token], "content": token, "special": True} for token in ("<pad>", "</s>")]
MODEL = {"type": "BPE", "vocab": VOCAB, "merges": []}


def file(**keys: Any) -> bytes:
    return json.dumps({"version": "1.0", "added_tokens": SPECIAL, "model": MODEL, **keys}).encode()


def test_the_vocabulary_reaches_to_the_largest_number() -> None:
    found = parse_tokenizer(file(), where="t.json")
    assert (found.vocabulary, found.special, found.unknown) == (8, ("<pad>", "</s>"), None)
    assert (found.end(where="t.json"), found.pad(where="t.json")) == ("</s>", "<pad>")
    added = [*SPECIAL, {"id": 20, "content": "<user>", "special": True}]
    assert parse_tokenizer(file(added_tokens=added), where="t.json").vocabulary == 21
    scores = {"type": "Unigram", "unk_id": 1, "vocab": [["a", 0.0], ["?", -1.0]]}
    found = parse_tokenizer(file(model=scores, added_tokens=[]), where="t.json")
    assert (found.vocabulary, found.unknown) == (2, "?")


def test_the_padding_of_the_file_names_the_pad_token() -> None:
    assert parse_tokenizer(file(padding={"pad_token": "a"}), where="t.json").pad(where="t.json") == "a"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"t\.json is not a tokenizer\.json: it is not JSON \(line 1, column 1: "),
        (b'{"model":\n  {"vocab"', r"not JSON \(line 2, column 11: "),
        (b"\x80\x04\x95 pickled", "it is not text"),
        (b"[" * 100_000, "it is damaged"),
        (b'{"hello": 0, "world": 1}', "it has no model with a vocabulary"),
        (b'{"model_max_length": 512, "eos_token": "</s>"}', "it has no model with a vocabulary"),
        (file(model={"vocab": 3}), "has a damaged vocabulary"),
        (file(model={"vocab": {"a": "0"}}), "damaged vocabulary: 'a' has the number 0"),
        (file(model={"vocab": {"a": -1}}), "damaged vocabulary: 'a' has the number -1"),
        (file(model={"vocab": {"a": True}}), "damaged vocabulary"),
        (file(model={"vocab": {}}, added_tokens=[]), "has an empty vocabulary"),
        (file(added_tokens=["</s>"]), "has a damaged vocabulary"),
        (
            file(model={"vocab": {"a": 2**31}}),
            "token 'a' has the number 2,147,483,648; expected less than 2,147,483,647",
        ),
        (file(model={**MODEL, "dropout": 0.1}), "draws tokens at random: dropout of its model is 0.1"),
    ],
)
def test_a_damaged_or_another_file_is_rejected(raw: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        parse_tokenizer(raw, where="t.json")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("special", "message", "hint"),
    [
        (
            (),
            "does not state the token that follows each line: no special token has a usual name",
            "add_special_tokens",
        ),
        (
            ("</s>", "<eos>"),
            "several are possible: </s>, <eos>",
            "--end-token TOKEN; its special tokens are </s>, <eos>",
        ),
        (("[X]",), "no special token has a usual name", "--end-token TOKEN; its special tokens are [X]"),
    ],
)
def test_a_missing_end_token_is_named_with_the_choices(special: tuple[str, ...], message: str, hint: str) -> None:
    added = [{"id": number, "content": token, "special": True} for number, token in enumerate(special)]
    with pytest.raises(DatasetError, match=message) as caught:
        parse_tokenizer(file(added_tokens=added), where="t.json").end(where="t.json")
    assert hint in str(caught.value.hint)


def test_a_declared_token_that_is_missing_is_named_with_the_choices() -> None:
    with pytest.raises(DatasetError, match=r"t\.json has no token '<eos>', which --end-token declares") as caught:
        parse_tokenizer(file(), where="t.json").id_of("<eos>", where="t.json", option="--end-token")
    assert "<pad>, </s>" in str(caught.value.hint)
