"""Files of two splits with equal content: a net that has seen one of them in training knows the other in the test."""

from __future__ import annotations

from array import array
from itertools import combinations
from typing import TYPE_CHECKING

from trainer.base.suggestions import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ContentTwins:
    """The contents of files, 8 bytes each, by which equal files in two splits are found."""

    def __init__(self, places: Mapping[str, Sequence[int]]) -> None:
        """Compare these splits, given by the numbers of their files."""
        self._places, self._digests = places, array("Q")

    def add(self, sha256: str) -> None:
        """Take the next file's digest."""
        if self._places:
            self._digests.append(int(sha256.removeprefix("sha256:")[:16], 16))

    def notes(self, paths: Sequence[str], *, dataset: str) -> list[str]:
        """Report files of two splits with equal content."""
        notes = []
        for one, other in combinations(self._places, 2):
            few, many = sorted((self._places[one], self._places[other]), key=len)
            known = {self._digests[number]: number for number in few}
            same = [(known[self._digests[at]], at) for at in many if self._digests[at] in known]
            if same := [pair for pair in same if pair[0] != pair[1]]:
                pair = " and ".join(short(paths[number]) for number in same[0])
                files = "1 file is" if len(same) == 1 else f"{len(same):,} files are"
                notes.append(f"{dataset}: {files} in both splits {one} and {other}, by content: {pair}")
        return notes
