"""Predictions for many files in a file of JSON lines. If the command is killed, the same command completes the file.

    predictions.jsonl.<digest>.partial   the lines so far; the digest covers the model, and the names and sizes of the files
    predictions.jsonl                    the complete file, renamed from the partial file

A line is `{"file": ..., "row": ..., "answer": ...}`, or `{"file": ..., "error": ...}` for a file that cannot be read as the dataset. For a
sample whose prediction has NaN or an infinity, which JSON cannot hold, the line has `row` and `error`.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_document
from trainer.base.errors import DatasetError, DocumentError, UsageError
from trainer.models.inputs import BATCH
from trainer.models.prediction import Unread, results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from trainer.models.prediction import Model, Prediction

_SHORT: Final = 12
NOT_FINITE: Final = "the prediction has a number that is not finite, which JSON does not support"


@dataclass(slots=True)
class PredictionsFile:
    """The predictions of one model for a list of files without duplicates."""

    path: Path
    model: str
    """The digest of the package, or the identity of the run."""
    files: Sequence[Path]
    predicted: int = 0
    """Samples with a prediction, including those that an earlier command wrote."""
    continued: int = 0
    """Samples with a prediction that an earlier command wrote."""
    faulty: int = 0
    """Lines with an error: files that cannot be read as the dataset, and samples whose prediction is not finite."""

    def require_new(self) -> None:
        """Raise `UsageError` if the file exists."""
        if self.path.exists():
            raise UsageError(
                f"{self.path} exists", hint=f"choose another name, or remove it: rm {shlex.quote(str(self.path))}"
            )

    def write(self, model: Model, *, report: Callable[[], object]) -> None:
        """Write the lines that the partial file does not have, then rename it to `path`. Call `report` after each line.

        Raise `DocumentError` if the partial file is damaged.
        """
        partial = self._partial()
        with disk_faults(partial), partial.open("a+b") as out:
            first, rows = self._resume(out, partial)
            # begin with a batch of the earlier command
            begin = first - first % BATCH if model.reader.is_one_sample else first
            file = ""
            for each in islice(results(model, self.files[begin:]), first - begin + rows, None):
                out.write(self._line(each) + b"\n")
                if each.file != file:
                    out.flush()
                file = each.file
                report()
            os.fsync(out.fileno())
        with disk_faults(self.path):
            partial.rename(self.path)

    def _partial(self) -> Path:
        sizes = [[str(each), each.stat().st_size] for each in self.files]
        digest = digest_of_document({"model": self.model, "files": sizes}).removeprefix("sha256:")
        return self.path.with_name(f"{self.path.name}.{digest[:_SHORT]}.partial")

    def _line(self, each: Prediction | Unread) -> bytes:
        if isinstance(each, Unread):
            self.faulty += 1
            return json.dumps({"file": each.file, "error": each.fault.message}).encode()
        about = {"file": each.file, "row": each.row}
        try:
            line = json.dumps({**about, "answer": each.answer}, allow_nan=False)
        except ValueError:
            self.faulty += 1
            return json.dumps({**about, "error": NOT_FINITE}).encode()
        self.predicted += 1
        return line.encode()

    def _resume(self, out: BinaryIO, partial: Path) -> tuple[int, int]:
        """Return the index of the next file, and the number of its samples that have lines. Truncate an incomplete last line."""
        out.seek(0)
        numbers = {str(file): number for number, file in enumerate(self.files)}
        first = rows = complete = 0
        for line in out:
            if not line.endswith(b"\n"):
                break
            complete += len(line)
            try:
                found = json.loads(line)
                number = numbers[found["file"]]
            except (ValueError, KeyError, TypeError) as fault:
                hint = f"remove it to start again: rm {shlex.quote(str(partial))}"
                raise DocumentError(f"{partial} is damaged", hint=hint) from fault
            first, rows = (number, rows + 1) if number == first else (number, 1)
            if "error" not in found:
                self.predicted += 1
                continue
            self.faulty += 1
            if "row" not in found:
                first, rows = number + 1, 0
        self.continued = self.predicted
        out.truncate(complete)
        return first, rows


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the files that `paths` name, without duplicates. A folder stands for its files at any depth, sorted, except hidden files.

    Raise `DatasetError` for a path that is neither a file nor a folder with files.
    """
    found: list[Path] = []
    for each in paths:
        below = [each] if each.is_file() else sorted(_visible(each))
        if not below:
            raise DatasetError(
                f"{each} is neither a file nor a folder with files",
                hint=f"list the files: ls {shlex.quote(str(each.parent))}",
            )
        found.extend(below)
    return list(dict.fromkeys(found))


def _visible(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path
