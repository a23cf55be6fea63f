"""Without torch on the host, a container writes the table's Parquet file; the container can write to one folder only."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.data.test_inspect import IMAGE, PrintingEngine
from trainer.base.errors import DatasetError, MachineError
from trainer.cli.data.prepare_table import main, run_preparation
from trainer.data.declaration import Draft
from trainer.data.tables.table_file import TableOptions, plan_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("pyarrow", reason="needs pyarrow, of the lock's extra `cpu`")
pytest.importorskip("torch", reason="needs torch, of the lock's extra `cpu`")
pytestmark = pytest.mark.torch


class LocalEngine(PrintingEngine):
    """An engine that runs the container's command in this process, with the mounts' targets replaced by their sources."""

    def confine(self, container: Any, *, say: Callable[[str], None]) -> int:
        self.confined.append(container)
        sources = {mount.target: str(mount.source) for mount in container.mounts}
        with redirect_stdout(io.StringIO()) as printed:
            code = main([sources[word] for word in container.words[1:]])
        say(printed.getvalue().strip())
        return code


def prepare(folder: Path, text: str, engine: PrintingEngine) -> dict[str, float]:
    """Plan a table, replace its file's text by `text`, and prepare it; the training split is its first four rows."""
    file, request = folder / "t.csv", folder / "request.json"
    file.write_text("a,b\n1,x\n5,y\n,x\n3,y\n100,x\n")
    source, plan = plan_file(file, TableOptions())
    draft = Draft.model_validate(
        {"name": "t", "reader": plan.reader("t.parquet"), "source_table": source, "splits": {"train": [0, 4]}}
    )
    request.write_text(draft.model_dump_json())
    file.write_text(text)
    (folder / "out").mkdir()
    return run_preparation(engine, IMAGE, file=file, folder=folder / "out", request=request)


def test_the_container_writes_the_file_and_returns_the_mean(tmp_path: Path) -> None:
    engine = LocalEngine()
    assert prepare(tmp_path, "a,b\n1,x\n5,y\n,x\n3,y\n100,x\n", engine) == {"a": 3.0}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["t.parquet"]
    (container,) = engine.confined
    assert [mount.target for mount in container.mounts if mount.writable] == ["/out"]


def test_a_value_that_was_edited_meanwhile_is_rejected_by_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"t\.csv, line 3, column 'a': expected an integer, found 'five'"):
        prepare(tmp_path, "a,b\n1,x\nfive,y\n", LocalEngine())


def test_a_container_that_ends_without_an_answer_is_an_error(tmp_path: Path) -> None:
    engine = PrintingEngine()
    engine.line, engine.code = "Killed", 137
    with pytest.raises(MachineError, match="code 137: Killed"):
        prepare(tmp_path, "a,b\n1,x\n", engine)
