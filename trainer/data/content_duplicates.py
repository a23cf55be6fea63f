"""Find files with equal content in two splits, since a net that is trained on one of them knows the other."""

from __future__ import annotations

from array import array
from itertools import combinations
from typing import TYPE_CHECKING

from trainer.base.suggestions import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ContentDuplicates:
    """The first 8 bytes of each file's digest, and the splits to compare."""

    def __init__(self, file_numbers: Mapping[str, Sequence[int]]) -> None:
        """Compare splits, given by the numbers of their files."""
        self._file_numbers, self._digests = file_numbers, array("Q")

    def add(self, sha256: str) -> None:
        """Add the next file's digest."""
        if self._file_numbers:
            self._digests.append(int(sha256.removeprefix("sha256:")[:16], 16))

    def notes(self, paths: Sequence[str], *, dataset: str) -> list[str]:
        """Report files of two splits with equal content."""
        notes = []
        for one, other in combinations(self._file_numbers, 2):
            smaller, larger = sorted((self._file_numbers[one], self._file_numbers[other]), key=len)
            known = {self._digests[number]: number for number in smaller}
            same = [(known[self._digests[at]], at) for at in larger if self._digests[at] in known]
            if same := [pair for pair in same if pair[0] != pair[1]]:
                pair = " and ".join(short(paths[number]) for number in same[0])
                files = "1 file is" if len(same) == 1 else f"{len(same):,} files are"
                notes.append(f"{dataset}: {files} in both splits {one} and {other}, by content: {pair}")
        return notes
