"""`reprise data publish --tokenizer`: what is declared, and options and files that do not fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.data import tokenizers
from tests.data.conftest import fill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Typed = Callable[..., tuple[int, str, str]]

FILES = {
    "a.txt": b"a b\n\nb b b\n",
    "t.json": tokenizers.body(tokenizers.words("a", "b")),
    "bare.json": tokenizers.body(tokenizers.words("a", "b") | {"added_tokens": []}),
    "vocab.json": json.dumps({"a": 0}).encode(),
}


def publish(typed: Typed, folder: Path, *words: str) -> tuple[int, str, str]:
    return typed("publish", "small", str(fill(folder / "files", FILES)), *words)


def test_lines_declare_vocabulary_tokens_and_window(typed: Typed, tmp_path: Path) -> None:
    code, _, err = publish(
        typed,
        tmp_path,
        *[
            "--lines",
            "a.txt",
            "--tokenizer",
            "t.json",
            "--window",
            "3",
            "--long-lines",
            "truncate",
            "--split",
            "train=0:3",
        ],
    )
    assert code == 0, err
    assert "8 tokens of 4 kinds in 3 lines" in err
    text = (tmp_path / "datasets/small.toml").read_text()
    assert '[reader.tokens]\ntokenizer = "t.json"\nvocabulary = 4\nend = "</s>"\npad = "<pad>"\nwindow = 3\n' in text
    assert 'long_lines = "truncate"' in text


def test_windows_count_tokens(typed: Typed, tmp_path: Path) -> None:
    words = ["--text", "a.txt", "--tokenizer", "t.json", "--window", "2", "--end-token", "a", "--split", "train=0:3"]
    code, _, err = publish(typed, tmp_path, *words)
    assert code == 0, err
    assert (
        '[reader.tokens]\ntokenizer = "t.json"\nvocabulary = 4\nend = "a"\n'
        in (tmp_path / "datasets/small.toml").read_text()
    )
    code, _, err = publish(typed, tmp_path, *words[:-1], "train=0:4")
    assert "its reader finds 3 samples" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--tokenizer t.json", "--tokenizer has no effect without --text or --lines"),
        ("--lines a.txt --window 3", "--window has no effect without --text or --tokenizer"),
        ("--lines a.txt --end-token a", "--end-token has no effect without --tokenizer"),
        ("--text a.txt --window 3 --tokenizer t.json --pad-token a", "--pad-token has no effect without --lines"),
        (
            "--lines a.txt --tokenizer t.json --long-lines truncate",
            "--long-lines truncate has no effect without --window",
        ),
        ("--text a.txt --tokenizer t.json", "--text needs --window, the tokens of a sample"),
        (
            "--lines a.txt --tokenizer t.json --window 3",
            "a.txt, line 3 has 4 tokens with the end token; expected at most 3",
        ),
        ("--lines a.txt --tokenizer bare.json", "bare.json does not state the token that follows each line"),
        ("--lines a.txt --tokenizer bare.json --end-token b", "bare.json does not state the token that pads lines"),
        ("--lines a.txt --tokenizer t.json --end-token c", "t.json has no token 'c', which --end-token declares"),
        ("--lines a.txt --tokenizer vocab.json", "vocab.json is not a tokenizer.json: it has no model"),
        ("--lines a.txt --tokenizer a.txt", "a.txt is not a tokenizer.json: it is not JSON (line 1, column 1"),
        ("--lines a.txt --tokenizer none.json", "none.json"),
        ("--lines a.txt --tokenizer ../t.json", "--tokenizer ../t.json: expected a path inside"),
    ],
)
def test_options_that_do_not_match_the_tokenizer_are_errors_with_a_hint(
    typed: Typed, tmp_path: Path, words: str, message: str
) -> None:
    code, _, err = publish(typed, tmp_path, *words.split())
    assert code != 0
    assert message in err
    assert "->" in err
    assert not (tmp_path / "datasets/small.toml").exists()
