"""Scanning and writing ten million rows needs about as much memory as one million rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow, of the lock's extra `cpu`")
pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[3]
ROWS = 10_000_000
PEAK = """
import sys
from pathlib import Path
def peak():  # `ru_maxrss` would include the memory of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
"""
READ = f"""{PEAK}
from trainer.data.tables.convert import write_parquet
from trainer.data.tables.table_file import TableOptions, blocks_of, plan_file
path = Path(sys.argv[1])
source, plan = plan_file(path, TableOptions())
rows = write_parquet(source, blocks_of(path, source), path.with_suffix(".parquet"))
print(rows, plan.columns[0].scan.gaps, peak())
"""


def peak(folder: Path, rows: int) -> int:
    """Return the peak memory, in kilobytes, of reading and writing a table with `rows` rows."""
    path = folder / f"{rows}.csv"
    with path.open("w") as file:
        file.write("weight,city,code,name\n")
        for first in range(0, rows, 10_000):
            numbers = range(first, first + 10_000)
            file.writelines(f"{'' if n % 100 == 7 else n * 0.37},c{n % 50},{n * 7 % 1000},u{n}\n" for n in numbers)
    done = subprocess.run([sys.executable, "-c", READ, path], cwd=ROOT, capture_output=True, text=True, check=True)
    path.unlink()
    found, gaps, kilobytes = map(int, done.stdout.split())
    assert (found, gaps) == (rows, rows // 100)
    return kilobytes


def test_ten_million_rows_take_no_more_memory_than_one_million(tmp_path: Path) -> None:
    some, many = peak(tmp_path, ROWS // 10), peak(tmp_path, ROWS)
    assert many < 1.3 * some
    assert many < 500_000


PUBLISH = f"""{PEAK}
from trainer import cli
from trainer.cli import configuration, data
root = Path(sys.argv[1])
for module in (data, configuration):
    module.CHECKOUT = root
code = cli.main(["data", "publish", "t", str(root / "t.csv"), "--target", "code", "--read", "code=category", "--yes"])
print(code, peak())
"""


@pytest.mark.torch
def test_the_command_publishes_a_million_rows_in_bounded_memory(tmp_path: Path) -> None:
    """When measured, it took 408 MB, including torch and the row numbers."""
    pytest.importorskip("torch", reason="needs torch, of the lock's extra `cpu`")
    for name in ("store", "datasets"):
        (tmp_path / name).mkdir()
    with (tmp_path / "t.csv").open("w") as file:
        file.write("weight,city,code,name\n")
        file.writelines(f"{'' if n % 100 == 7 else n * 0.37},c{n % 50},{n * 7 % 10},u{n}\n" for n in range(ROWS // 10))
    variables = {"REPRISE_STORE": str(tmp_path / "store"), "REPRISE_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-c", PUBLISH, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    code, kilobytes = map(int, done.stdout.splitlines()[-1].split())
    assert (code, f"t: {ROWS // 10:,} samples inspected" in done.stderr) == (0, True)
    assert kilobytes < 600_000
