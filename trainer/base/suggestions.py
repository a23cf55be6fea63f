"""For messages: known names similar to an unknown name, short lists of names, and counts with their nouns."""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_COMPARED: Final = 10_000
"""Maximum names that a search compares: more take seconds, and do not improve the result."""
_NEAR: Final = 0.6
"""Minimum similarity of two names, from 0 to 1, for a suggestion."""
_CLEAR: Final = 0.8
_ABOUT: Final = 0.1
_SHORTEST_WORD: Final = 3
LONGEST_NAME: Final = 60
"""Maximum characters of a name in a message."""
LONGEST_LIST: Final = 200
"""Maximum characters of a list of names."""


def nearest(name: str, known: Iterable[str], *, most: int = 3, cutoff: float = _NEAR) -> list[str]:
    """Return the known names that are similar to `name`, best first; empty if there are none.

    If a name differs only in case, dashes or spaces, only that name is returned. Otherwise, names that contain `name` as a word
    precede names that are about as similar as the most similar.

    >>> nearest("learning_rat", ["learning_rate", "final_rate", "seed"]), nearest("SEED", ["seed", "sed"])
    (['learning_rate'], ['seed'])
    >>> nearest("rate", ["trace", "learning_rate", "final_rate"])
    ['final_rate', 'learning_rate']
    """
    names = sorted(set(known))[:MOST_COMPARED]
    if same := [other for other in names if _letters(other) == _letters(name)]:
        return same[:most]
    wanted = _folded(name)
    folded = {_folded(other): other for other in names}
    close = difflib.get_close_matches(wanted, folded, n=most, cutoff=cutoff)
    ratios = {other: difflib.SequenceMatcher(None, other, wanted).ratio() for other in close}
    best = max(ratios.values(), default=0.0)
    if best < _CLEAR and (words := _containing(wanted, folded)):
        return [folded[other] for other in words[:most]]
    return [folded[other] for other in close if ratios[other] >= best - _ABOUT]


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


def _letters(name: str) -> str:
    """Return a name in lower case and without separators."""
    return re.sub(r"[-_. ]", "", name.lower())


def _containing(wanted: str, known: Iterable[str]) -> list[str]:
    """Return the names that contain every word of `wanted`, singular or plural."""
    words = {each.removesuffix("s") for each in wanted.split("-")}
    if not wanted or min(map(len, words)) < _SHORTEST_WORD:
        return []
    return [other for other in known if words <= {each.removesuffix("s") for each in other.split("-")}]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown name: similar names, else the known names, shortened if there are many.

    >>> did_you_mean("digitz", ["digits", "faces"])
    'did you mean digits?'
    >>> did_you_mean("qqq", ["digits", "faces"])
    'known: digits, faces'
    """
    names = sorted(set(known))
    if twin := _in_another_form(name, names):
        form = "NFC" if unicodedata.is_normalized("NFC", twin) else "NFD"
        return (
            f"did you mean {twin!a}? It has the same letters in another Unicode form, {form}: write them in that form"
        )
    close = nearest(name, names)
    if close:
        return f"did you mean {' or '.join(map(short, close))}?"
    return f"known: {listed(names)}" if names else "no names are known"


def _in_another_form(name: str, names: Iterable[str]) -> str | None:
    """Return the name that looks the same and differs in its Unicode form."""
    if name.isascii():
        return None
    composed = unicodedata.normalize("NFC", name)
    return next((each for each in names if each != name and unicodedata.normalize("NFC", each) == composed), None)


def short(name: str) -> str:
    """Return a name as a message shows it; the middle of a long name is omitted.

    >>> short("a" * 100)
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
    """
    half = (LONGEST_NAME - 3) // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}...{name[half - LONGEST_NAME + 3 :]}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "step"), counted(0, "file"), counted(1234, "class")
    ('1 step', '0 files', '1,234 classes')
    """
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def type_with_article(value: object) -> str:
    """Return the type of a value for a message.

    >>> type_with_article({}), type_with_article(1), type_with_article(None)
    ('a dict', 'an int', 'None')
    """
    return "None" if value is None else with_article(type(value).__name__)


def with_article(name: str) -> str:
    """Return a noun or the name of a type with its article.

    >>> with_article("argparse.Namespace"), with_article("threading.Lock")
    ('an argparse.Namespace', 'a threading.Lock')
    """
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def all_are(count: int, noun: str) -> str:
    """Return the beginning of a sentence about every one of a number of things.

    >>> all_are(1, "sample"), all_are(1234, "sample")
    ('the only sample is', 'all 1,234 samples are')
    """
    return f"the only {noun} is" if count == 1 else f"all {counted(count, noun)} are"


def listed(names: Iterable[str], *, longest: int = LONGEST_LIST) -> str:
    """Return a list of names for a message: as many as fit on a line, and the number of the others.

    >>> listed(["digits", "faces"])
    'digits, faces'
    >>> listed((f"{number:04}.png" for number in range(1000)), longest=40)
    '0000.png, 0001.png and 998 more'
    """
    known = [short(name) for name in names]
    text = ", ".join(known)
    if len(text) <= longest:
        return text
    count, size = 0, len(f" and {len(known)} more")
    while count < len(known) and size + len(known[count]) + 2 <= longest:
        size += len(known[count]) + 2
        count += 1
    return f"{', '.join(known[: max(count, 1)])} and {len(known) - max(count, 1):,} more"
