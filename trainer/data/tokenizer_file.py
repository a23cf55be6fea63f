"""The file `tokenizer.json` of Hugging Face's library `tokenizers`: its vocabulary and its special tokens.

The file is parsed without the library, so that every host can declare the vocabulary; `trainer.data.token_ids` tokenizes text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.json_faults import json_fault
from trainer.base.suggestions import did_you_mean, listed, short
from trainer.data.reader import MOST_IDS

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST: Final = 1 << 28
"""Maximum size of a tokenizer file in bytes; the files of published models have up to 40 MB."""
_ENDS: Final = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<|eos|>", "[EOS]", "[SEP]")
_PADS: Final = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>")
_SAVE: Final = "save it with tokenizers: tokenizer.save('tokenizer.json'); or with transformers: save_pretrained('DIR')"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFile:
    """A parsed tokenizer."""

    document: dict[str, Any]
    ids: Mapping[str, int]
    """The number of each token, including added tokens."""
    special: tuple[str, ...]
    """The special tokens, in the order of the file."""
    unknown: str | None
    """The token for text that the vocabulary does not cover; `None` if the model has none."""

    @property
    def vocabulary(self) -> int:
        """The largest token number, plus 1."""
        return max(self.ids.values()) + 1

    def id_of(self, token: str, *, where: str, option: str) -> int:
        """Return the number of a token that a declaration names. Raise `DatasetError` if the vocabulary lacks the token."""
        if token in self.ids:
            return self.ids[token]
        hint = f"choose one with {option}: {listed(self.special)}" if self.special else None
        message = f"{where} has no token {short(token)!r}, which {option} declares"
        raise DatasetError(message, hint=hint or did_you_mean(token, self.ids))

    def end(self, *, where: str) -> str:
        """Return the special token with a common name of an end token. Raise `DatasetError` unless there is exactly one."""
        return self._named(_ENDS, where=where, option="--end-token", meaning="the token that follows each line")

    def pad(self, *, where: str) -> str:
        """Return the padding token that the file declares, or else the special token with a common name of a padding token.

        Raise `DatasetError` if the file declares no padding token, unless exactly one token has such a name.
        """
        padding = self.document.get("padding")
        own = padding.get("pad_token") if isinstance(padding, dict) else None
        if isinstance(own, str) and own in self.ids:
            return own
        return self._named(_PADS, where=where, option="--pad-token", meaning="the token that pads lines")

    def _named(self, names: tuple[str, ...], *, where: str, option: str, meaning: str) -> str:
        found = [name for name in names if name in self.special]
        if len(found) == 1:
            return found[0]
        count = f"several are possible: {listed(found)}" if found else "no special token has a usual name"
        choice = found or self.special
        hint = f"{option} TOKEN; its special tokens are {listed(choice)}" if choice else None
        if hint is None:
            hint = f"add one before training: tokenizer.add_special_tokens(['{names[0]}']), or give {option} TOKEN"
        raise DatasetError(f"{where} does not state {meaning}: {count}", hint=hint)


def parse_tokenizer(body: bytes | memoryview, *, where: str) -> TokenizerFile:
    """Parse a `tokenizer.json`. Raise `DatasetError` if the file is damaged or of another kind, or if its tokens are random (dropout)."""
    if len(body) > LARGEST:
        raise DatasetError(f"{where} has {len(body):,} bytes; expected at most {LARGEST:,}", hint=_SAVE)
    try:
        document = json.loads(bytes(body).decode())
    except UnicodeDecodeError as fault:
        raise DatasetError(f"{where} is not a tokenizer.json: it is not text", hint=_SAVE) from fault
    except json.JSONDecodeError as fault:
        message = f"{where} is not a tokenizer.json: it is not JSON ({json_fault(fault)})"
        raise DatasetError(message, hint=_SAVE) from fault
    except (ValueError, RecursionError) as fault:
        raise DatasetError(f"{where} is not a tokenizer.json: it is damaged", hint=_SAVE) from fault
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict) or "vocab" not in model:
        message = f"{where} is not a tokenizer.json: it has no model with a vocabulary"
        raise DatasetError(message, hint=_SAVE)
    if model.get("dropout"):
        message = f"{where} draws tokens at random: dropout of its model is {short(str(model['dropout']))}"
        raise DatasetError(message, hint=f"set dropout to null in {where}")
    added = document.get("added_tokens") or []
    return TokenizerFile(
        document=document,
        ids=_ids(model["vocab"], added, where=where),
        special=tuple(each["content"] for each in added if each.get("special")),
        unknown=_unknown(model),
    )


def _ids(vocab: Any, added: Any, *, where: str) -> dict[str, int]:
    """Return the numbers of all tokens. Raise `DatasetError` if the vocabulary is damaged, empty or too large."""
    try:
        pairs = list(vocab.items()) if isinstance(vocab, dict) else [(each[0], at) for at, each in enumerate(vocab)]
        pairs += [(each["content"], each["id"]) for each in added]
    except (TypeError, KeyError, IndexError, AttributeError) as fault:
        raise DatasetError(f"{where} has a damaged vocabulary", hint=_SAVE) from fault
    for token, number in pairs:
        if not isinstance(token, str) or type(number) is not int or number < 0:
            message = f"{where} has a damaged vocabulary: {short(str(token))!r} has the number {short(str(number))}"
            raise DatasetError(message, hint=_SAVE)
        if number >= MOST_IDS:
            message = f"{where}: token {short(token)!r} has the number {number:,}; expected less than {MOST_IDS:,}"
            raise DatasetError(message, hint="number the tokens from 0, without large gaps")
    if not pairs:
        raise DatasetError(f"{where} has an empty vocabulary", hint="train the tokenizer, and save it again")
    return dict(pairs)


def _unknown(model: Mapping[str, Any]) -> str | None:
    """Return the unknown token of a model; `None` if it has none."""
    vocab, number = model["vocab"], model.get("unk_id")
    if isinstance(vocab, list) and isinstance(number, int) and 0 <= number < len(vocab):
        return str(vocab[number][0])
    token = model.get("unk_token")
    return token if isinstance(token, str) else None
