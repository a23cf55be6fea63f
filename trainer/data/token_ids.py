"""The tokens of text files, from the library `tokenizers`: whole numbers of 32 bits, in memory, or mapped from the cache.

Lines are tokenized one by one in this thread, because the library's own threads depend on `TOKENIZERS_PARALLELISM`, and a loader worker
that is forked after they were used can wait forever. Truncation, padding and the template of the tokenizer (`post_processor`) are not
applied, because the declaration states the window, the end token and the padding.
"""

from __future__ import annotations

import json
import sys
from array import array
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.digest import digest_of_bytes, digest_of_document, digest_of_file
from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, short
from trainer.data import file_formats, tokenizer_file
from trainer.data.file_formats import count_lines
from trainer.data.reader import PaddedTokens
from trainer.data.tokenizer_file import TokenizerFile, parse_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.files import Files
    from trainer.data.reader import Tokens

_BLOCK: Final = 1 << 20
LONGEST_LINE: Final = 1 << 20
"""Maximum size of a line in bytes; the library needs about 200 times as much memory while it tokenizes the line."""
MOST_TOKENS: Final = 1 << 30
"""Maximum number of tokens of a dataset, which take 4 GiB of memory."""
_ABSENT: Final = "\0no token"
"""An unknown token that no vocabulary has, so that the library raises for text that it would otherwise omit silently."""
_AGAIN: Final = "save it again with tokenizers: tokenizer.save('tokenizer.json')"


def has_library() -> bool:
    """Return whether the library `tokenizers` is installed."""
    return find_spec("tokenizers") is not None


@dataclass(slots=True, kw_only=True)
class TokenizedFile:
    """The tokens of a file: the tokens of each line, followed by the end token."""

    ids: array[int] = field(default_factory=lambda: array("i"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    """For each line, the number of tokens up to its end, with its end token."""
    unknown: int = 0
    """Number of unknown tokens."""
    special: int = 0
    """Number of special tokens that the text itself spells."""

    def add(self, ids: Sequence[int], *, end: int) -> None:
        """Add the tokens `ids` of a line, and the end token `end`."""
        self.ids.extend(ids)
        self.ids.append(end)
        self.ends.append(len(self.ids))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNumbers:
    """The tokens of a file, as views into the packed tokens of a dataset."""

    ids: memoryview
    """The tokens, as integers of 32 bits."""
    ends: memoryview
    """For each line, the number of tokens up to its end, with its end token; integers of 64 bits."""


class Tokenizer:
    """The tokenizer of a dataset. It can be pickled and forked."""

    def __init__(self, files: Files, tokens: Tokens) -> None:
        """Parse the file and compare it with the declaration. Raise `DatasetError` if it is invalid or differs from the declaration."""
        self._tokens, self._body = tokens, bytes(files.read(tokens.tokenizer))
        self._parsed = parse_tokenizer(self._body, where=tokens.tokenizer)
        self.size = tokens.vocabulary
        """The size of the vocabulary."""
        self._require_vocabulary(self._parsed.vocabulary)
        self.end = self._parsed.id_of(tokens.end, where=tokens.tokenizer, option="--end-token")
        """The number of the end token."""
        if isinstance(tokens, PaddedTokens):
            self._parsed.id_of(tokens.pad, where=tokens.tokenizer, option="--pad-token")

    @property
    def pad(self) -> int:
        """The number of the token that pads lines, or of the end token if the reader does not pad."""
        return self._parsed.ids[self._tokens.pad] if isinstance(self._tokens, PaddedTokens) else self.end

    @property
    def digest(self) -> str:
        """The digest of the tokenizer's file."""
        return digest_of_bytes(self._body)

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of tokens, including the spelling of special tokens."""
        text: str = self._library.decode(list(numbers), skip_special_tokens=False)
        return text

    def tokenize(self, files: Files, paths: Sequence[str]) -> list[TokenizedFile]:
        """Return the tokens of files. Raise `DatasetError` with the file and the line if a line cannot be tokenized."""
        found: list[TokenizedFile] = []
        for path in paths:
            left = MOST_TOKENS - sum(len(each.ids) for each in found)
            found.append(self._of_file(files, path, left))
        return found

    def numbers(self, files: Files, paths: Sequence[str]) -> list[FileNumbers]:
        """Return the tokens of files, computed now, or by an earlier process with the same files, code and library version.

        Raise `DatasetError` with the file and the line if a line cannot be tokenized.
        """
        key = {
            "format": f"tokens/1 {sys.byteorder}",
            "code": _code(),
            "library": version("tokenizers") if has_library() else "",
            "tokens": self._tokens.model_dump(mode="json"),
            "paths": list(paths),
        }
        return _unpacked(files.derived(key, lambda: _packed(self.tokenize(files, paths))), len(paths))

    def describe(self, found: Sequence[TokenizedFile]) -> str:
        """Describe the number of tokens, of unknown tokens, and of special tokens that the text spells."""
        lines, total = sum(len(each.ends) for each in found), sum(len(each.ids) for each in found)
        parts = [f"{counted(total, 'token')} of {self.size:,} kinds in {counted(lines, 'line')}"]
        if unknown := sum(each.unknown for each in found):
            parts.append(f"{counted(unknown, 'unknown token')} {self._parsed.unknown} ({unknown / total:.1%})")
        if special := sum(each.special for each in found):
            parts.append(f"{counted(special, 'special token')} spelled in the text")
        return "; ".join(parts)

    def _of_file(self, files: Files, path: str, most: int) -> TokenizedFile:
        found, unknown = TokenizedFile(), self._parsed.ids.get(self._parsed.unknown or "")
        special = {self._parsed.ids[token] for token in self._parsed.special} - {unknown}
        for number, line in enumerate(_lines(files, path), start=1):
            ids = self._of_line(line.decode(), where=f"{path}, line {number}")
            found.add(ids, end=self.end)
            if unknown is not None:
                found.unknown += ids.count(unknown)
            found.special += sum(each in special for each in ids)
            if len(found.ids) > most:
                message = (
                    f"{path}, line {number}: the dataset has more than {MOST_TOKENS:,} tokens, which are held in memory"
                )
                raise DatasetError(message, hint="publish parts of the text as several datasets")
        return found

    def _of_line(self, line: str, *, where: str) -> list[int]:
        ids = self._encode(line, where=where)
        tokens = self._tokens
        if not isinstance(tokens, PaddedTokens) or tokens.window is None or len(ids) < tokens.window:
            return ids
        if tokens.long_lines == "truncate":
            return ids
        message = f"{where} has {counted(len(ids) + 1, 'token')} with the end token; expected at most {tokens.window:,}, the window"
        raise DatasetError(message, hint="--long-lines truncate keeps the first tokens; or give a larger --window")

    def _encode(self, line: str, *, where: str) -> list[int]:
        try:
            with _panics():
                ids: list[int] = self._library.encode(line, add_special_tokens=False).ids
        except DatasetError:
            raise
        except Exception as fault:
            raise self._cannot_encode(line, fault, where=where) from fault
        return ids

    def _cannot_encode(self, line: str, fault: Exception, *, where: str) -> DatasetError:
        """Return the error for a line, with the first character that the library cannot tokenize."""
        for letter in dict.fromkeys(line):
            try:
                with _panics():
                    self._library.encode(letter, add_special_tokens=False)
            except Exception:  # noqa: BLE001 - the library has no class for this error
                message = f"{where}: {self._tokens.tokenizer} has no token for {letter!r} (U+{ord(letter):04X}), and no unknown token"
                return DatasetError(
                    message, hint="train the tokenizer with an unknown token, or on bytes (pre-tokenizer ByteLevel)"
                )
        return DatasetError(f"{where} cannot be tokenized: {short(str(fault))}", hint=_AGAIN)

    @cached_property
    def _library(self) -> Any:
        """The library's tokenizer. Raise `DatasetError` if the library is missing, cannot read the file, or reads other token numbers."""
        where = self._tokens.tokenizer
        if not has_library():
            message = f"{where} requires the library tokenizers, which is not installed"
            raise DatasetError(message, hint="run the command in the cpu or the cuda environment")
        try:
            with _panics():
                library = import_module("tokenizers").Tokenizer.from_str(_strict(self._parsed))
                library.no_truncation()
                library.no_padding()
                numbers = library.get_vocab(with_added_tokens=True)
        except Exception as fault:
            message = f"{where} cannot be read by the library tokenizers: {short(str(fault))}"
            raise DatasetError(message, hint=_AGAIN) from fault
        if odd := next((token for token, number in self._parsed.ids.items() if numbers.get(token) != number), None):
            message = f"{where}: token {short(odd)!r} has the number {self._parsed.ids[odd]:,}; the library reads {numbers.get(odd)}"
            raise DatasetError(message, hint=_AGAIN)
        return library

    def _require_vocabulary(self, found: int) -> None:
        if found != self.size:
            message = f"{self._tokens.tokenizer} has a vocabulary of {found:,}; expected {self.size:,}"
            raise DatasetError(message, hint=f"publish with --tokenizer {self._tokens.tokenizer} again")

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, without the library's tokenizer."""
        return {name: value for name, value in vars(self).items() if name != "_library"}


def _strict(parsed: TokenizerFile) -> str:
    """Return the document of a tokenizer that raises for text without a token; BPE without an unknown token would omit the text."""
    model = parsed.document["model"]
    if model.get("unk_token") is None and "merges" in model:
        model = {**model, "unk_token": _ABSENT}
    return json.dumps({**parsed.document, "model": model})


@cache
def _code() -> str:
    """Return the digest of the code that computes the tokens, because other code may compute other tokens."""
    modules = [file_formats, tokenizer_file, sys.modules[__name__]]
    return digest_of_document([digest_of_file(Path(str(each.__file__))) for each in modules])


def _packed(found: Sequence[TokenizedFile]) -> bytes:
    """Return the numbers of lines and tokens of each file, then the ends of all lines, then all tokens, in this machine's byte order."""
    counts = array("q", (count for each in found for count in (len(each.ends), len(each.ids))))
    return b"".join(
        (counts.tobytes(), *(each.ends.tobytes() for each in found), *(each.ids.tobytes() for each in found))
    )


def _unpacked(raw: memoryview, files: int) -> list[FileNumbers]:
    begin = 2 * files * array("q").itemsize
    counts = raw[:begin].cast("q").tolist()
    lines, tokens = ([0, *accumulate(counts[column::2])] for column in (0, 1))
    first = begin + lines[-1] * array("q").itemsize
    ends, ids = raw[begin:first].cast("q"), raw[first:].cast("i")
    return [
        FileNumbers(ids=ids[tokens[each] : tokens[each + 1]], ends=ends[lines[each] : lines[each + 1]])
        for each in range(files)
    ]


class _PanicError(Exception):
    """A panic in the library; PyO3 raises it as a `BaseException`, not an `Exception`."""


@contextmanager
def _panics() -> Iterator[None]:
    try:
        yield
    except BaseException as fault:
        if type(fault).__name__ != "PanicException":
            raise
        raise _PanicError(str(fault)) from fault


def _lines(files: Files, path: str) -> Iterator[bytes]:
    """Yield the lines of a UTF-8 text, without LF or CRLF. Raise `DatasetError` as `count_lines` does, and if a line is too long."""
    count_lines(blocks_of(files, path), where=path)
    number, rest = 0, b""
    for block in blocks_of(files, path):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number += 1
            yield _bounded(line, path, number)
        _bounded(rest, path, number + 1)
    if rest:
        yield rest


def blocks_of(files: Files, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file in blocks."""
    size = files.size(path)
    return (bytes(files.read(path, at, min(at + _BLOCK, size))) for at in range(0, size, _BLOCK))


def _bounded(line: bytes, path: str, number: int) -> bytes:
    if len(line) > LONGEST_LINE:
        message = f"{path}, line {number} has more than {LONGEST_LINE:,} bytes; expected a sentence, a paragraph or a document"
        raise DatasetError(message, hint="split it into several lines")
    return line.removesuffix(b"\r")
