"""Text files as tokens: messy text, text without a token, and tokenizers that the library reads differently."""

from __future__ import annotations

import pickle
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.data import tokenizers
from trainer.base.errors import DatasetError
from trainer.data import token_ids
from trainer.data.files import FolderFiles
from trainer.data.reader import PaddedTokens, Tokens
from trainer.data.token_ids import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

BYTES = tokenizers.trained()


def opened(folder: Path, raw: bytes, document: dict[str, Any] = BYTES, **more: Any) -> tuple[Tokenizer, FolderFiles]:
    (folder / "t.json").write_bytes(tokenizers.body(document))
    (folder / "a.txt").write_bytes(raw)
    numbers = [*document["model"]["vocab"].values(), *(each["id"] for each in document["added_tokens"])]
    values = {"tokenizer": "t.json", "vocabulary": max(numbers) + 1, "end": "</s>", **more}
    files = FolderFiles(folder)
    return Tokenizer(files, PaddedTokens(**{"pad": "<pad>", **values}) if more else Tokens(**values)), files


def lines_of(folder: Path, raw: bytes, document: dict[str, Any] = BYTES, **more: Any) -> list[str]:
    """Return the decoded lines; each ends with the end token."""
    tokenizer, files = opened(folder, raw, document, **more)
    (found,) = tokenizer.tokenize(files, ["a.txt"])
    return [tokenizer.decode(found.ids[first:end]) for first, end in pairwise([0, *found.ends])]


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"", []),
        (b"the cat\nsat", ["the cat", "sat"]),
        (b"the cat\r\nsat\r\n", ["the cat", "sat"]),
        (b"\n\nthe mat\n", ["", "", "the mat"]),
        ("日本語の文\n😀 👨‍👩‍👧 é\n".encode(), ["日本語の文", "😀 👨‍👩‍👧 é"]),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),
        (b"a" * 20_000 + b"\nthe end\n", ["a" * 20_000, "the end"]),
    ],
)
def test_every_line_keeps_its_text_and_gets_the_end_token(tmp_path: Path, raw: bytes, lines: list[str]) -> None:
    assert lines_of(tmp_path, raw) == [f"{line}</s>" for line in lines]


@pytest.mark.parametrize("block", [1, 2, 5])
def test_lines_do_not_depend_on_the_blocks_in_which_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(token_ids, "_BLOCK", block)
    assert lines_of(tmp_path, "é\r\n\n😀a\r\nb".encode()) == ["é</s>", "</s>", "😀a</s>", "b</s>"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xef\xbb\xbfthe\n", "a.txt begins with a byte order mark"),
        (b"the\ncaf\xe9\n", "a.txt is not UTF-8 text: line 2 has the byte 0xe9"),
        (b"the\ncat\rsat\n", "a.txt, line 2: a CR without LF"),
        (b"the\n" + b"a" * (token_ids.LONGEST_LINE + 1), "a.txt, line 2 has more than 1,048,576 bytes"),
    ],
)
def test_text_that_would_give_wrong_samples_is_rejected_with_its_line(tmp_path: Path, raw: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(message)) as caught:
        lines_of(tmp_path, raw)
    assert caught.value.hint


def test_a_long_line_is_rejected_with_its_line_or_kept_for_its_first_tokens(tmp_path: Path) -> None:
    raw, words = b"a\na a a\n", tokenizers.words("a")
    assert lines_of(tmp_path, raw, words, window=4) == ["a </s>", "a a a </s>"]
    with pytest.raises(
        DatasetError, match=r"a\.txt, line 2 has 4 tokens with the end token; expected at most 3"
    ) as caught:
        lines_of(tmp_path, raw, words, window=3)
    assert "--long-lines truncate" in str(caught.value.hint)
    assert lines_of(tmp_path, raw, words, window=3, long_lines="truncate") == ["a </s>", "a a a </s>"]


def test_an_unknown_token_is_counted(tmp_path: Path) -> None:
    tokenizer, files = opened(tmp_path, b"cat dog\ncat </s>\n", tokenizers.words("cat", "?", unknown="?"))
    (found,) = tokenizer.tokenize(files, ["a.txt"])
    assert found.ids.tolist() == [2, 3, 1, 2, 1, 1]
    text = "6 tokens of 4 kinds in 2 lines; 1 unknown token ? (16.7%); 1 special token spelled in the text"
    assert tokenizer.describe([found]) == text


def without(letter: str) -> dict[str, Any]:
    """Return the byte tokenizer without a letter or an unknown token; the library would drop the letter."""
    model = BYTES["model"]
    vocab = {token: number for token, number in model["vocab"].items() if letter not in token}
    return {
        **BYTES,
        "model": {**model, "vocab": vocab, "merges": [x for x in model["merges"] if letter not in "".join(x)]},
    }


@pytest.mark.parametrize("document", [tokenizers.words("a"), without("q")], ids=["words", "bytes"])
def test_text_without_a_token_is_an_error_and_never_left_out(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=r"a\.txt, line 2: t\.json has no token for 'q' \(U\+0071\)"):
        lines_of(tmp_path, b"a\na q\n", document)


def test_truncation_padding_and_template_of_the_file_are_not_applied(tmp_path: Path) -> None:
    kept = {
        "truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        },
    }
    assert lines_of(tmp_path, b"a b\n", {**tokenizers.words("a", "b"), **kept}) == ["a b </s>"]


def test_a_tokenizer_that_the_library_cannot_read_is_an_error(tmp_path: Path) -> None:
    broken = {**BYTES, "model": {**BYTES["model"], "merges": [["never", "seen"]]}}
    with pytest.raises(DatasetError, match=r"t\.json cannot be read by the library tokenizers: .*out of vocabulary"):
        lines_of(tmp_path, b"a\n", broken)


def test_a_number_that_the_library_reads_otherwise_is_an_error(tmp_path: Path) -> None:
    far = [*BYTES["added_tokens"], {**BYTES["added_tokens"][0], "id": 9000, "content": "<x>"}]
    with pytest.raises(DatasetError, match="token '<x>' has the number 9,000; the library reads 280"):
        lines_of(tmp_path, b"a\n", {**BYTES, "added_tokens": far})


def test_a_tokenizer_differs_from_its_declaration(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"t\.json has a vocabulary of 280; expected 9") as caught:
        opened(tmp_path, b"", vocabulary=9, pad="<pad>")
    assert "--tokenizer t.json again" in str(caught.value.hint)
    with pytest.raises(DatasetError, match=r"t\.json has no token '<x>', which --pad-token declares"):
        opened(tmp_path, b"", pad="<x>")


def test_a_tokenizer_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    tokenizer, _ = opened(tmp_path, b"")
    tokenizer.decode([1])
    assert pickle.loads(pickle.dumps(tokenizer)).decode([1, 0]) == "</s><pad>"  # noqa: S301 - pickled by this test
