"""Files of tokenizers that are trained on a few lines."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

library: Any = pytest.importorskip("tokenizers", reason="needs the library tokenizers, of the lock's extra `cpu`")

TEXT: Final = "".join(f"the cat number {number % 7} sat on the mat, and the dog on the log\n" for number in range(40))
SPECIAL: Final = ("<pad>", "</s>")


def trained(text: str = TEXT, *, size: int = 280, special: tuple[str, ...] = SPECIAL) -> dict[str, Any]:
    """Return the document of a trained byte-level BPE tokenizer; its pad token has number 0."""
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def words(*tokens: str, unknown: str | None = None) -> dict[str, Any]:
    """Return the document of a tokenizer whose tokens are `<pad>`, `</s>` and then the given words between spaces."""
    ids = {token: number for number, token in enumerate([*SPECIAL, *tokens])}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": ids[token], "content": token, **flags, "special": True} for token in SPECIAL]
    model = {"type": "WordLevel", "vocab": ids, "unk_token": unknown or "none"}
    return {"version": "1.0", "added_tokens": added, "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}


def body(document: dict[str, Any]) -> bytes:
    """Return the bytes of the file of a tokenizer."""
    return json.dumps(document).encode()
