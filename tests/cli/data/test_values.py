"""`reprise data show` and `diff` with the values of a published table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.data.test_publish_table import ROWS, write

if TYPE_CHECKING:
    from collections.abc import Callable

    Type = Callable[..., tuple[int, str, str]]

pytest.importorskip("pyarrow", reason="needs pyarrow, of the lock's extra `cpu`")
pytest.importorskip("torch", reason="needs torch, of the lock's extra `cpu`")
pytestmark = pytest.mark.torch
SPLITS = ("--split", "train=0:40", "--split", "val=40:50", "--split", "test=50:60")


@pytest.fixture
def shop(typed: Type) -> Type:
    """Publish a table whose column `refund` was filled in after the label was known."""
    rows = [f"U{number},{row},{'none' if row.endswith('no') else 'full'}" for number, row in enumerate(ROWS)]
    file = write(rows, "user_id,age,plan,paid,churned,refund")
    assert typed("publish", "t", file, "--target", "churned", "--yes", *SPLITS)[0] == 0
    return typed


def test_a_page_shows_rows_as_they_are_read_with_values_and_hints(shop: Type) -> None:
    assert shop("show", "t", "--samples", "t.html")[:2] == (0, "t.html\n")
    page = Path("t.html").read_text(encoding="utf-8")
    assert "train, first 12 of 40 samples" in page
    head = page.partition("first 12 of 40")[2].partition("</table>")[0]
    columns = re.findall(r'<th scope="col">([^<]*)</th>', head)
    first = re.findall("<t[hd][^>]*>([^<]*)</t[hd]>", head.partition("<tbody>")[2].partition("</tr>")[0])
    age, plan, paid, churned = ROWS[0].split(",")
    row = {"": "0", "age": age, "plan": plan, "paid": f"{float(paid):g}", "refund": "full", "churned": churned}
    assert dict(zip(columns, first, strict=True)) == row
    assert "refund" in page.partition("Hints")[2]
    assert "default-src &#x27;none&#x27;" in page


def test_show_lists_columns_splits_classes_and_hints(shop: Type) -> None:
    code, out, err = shop("show", "t", "--values")
    assert (code, "reading" in err) == (0, True)
    lines = [line.rstrip() for line in out.splitlines()]
    assert "  age      whole   number    train  0        0 to 8" in lines
    assert "  user_id  text    left out  train  0        40 values" in lines
    assert "                             test   1        25 to 29.5" in lines
    assert "      1  yes      10    3     2   15" in lines
    hint = "  hints     column 'refund' alone determines the label of 100.0% of 60 samples"
    assert hint in lines
    assert all(len(line) <= 80 for line in lines if "sha256" not in line and "/" not in line), out
    assert "  looked at all 60 samples of train, val, test, each read once" in lines


def test_show_reads_a_large_or_absent_dataset_only_if_it_is_asked(shop: Type) -> None:
    out = shop("show", "t")[1]
    assert "  values    not read yet: scripts/reprise data show t --values\n" in out
    assert json.loads(shop("show", "t", "--json")[1])["overview"] is None
    assert shop("fetch", "t")[0] == 0
    assert "  hints     column 'refund'" in shop("show", "t")[1]


def test_show_prints_values_as_json_and_keeps_them(shop: Type) -> None:
    overview = json.loads(shop("show", "t", "--values", "--json")[1])["overview"]
    assert overview["samples"] == {"train": 40, "val": 10, "test": 10}
    column = next(each for each in overview["columns"] if each["name"] == "paid")
    assert (column["splits"]["val"]["missing"], column["splits"]["val"]["low"]) == (1, 20.0)
    code, _, err = shop("show", "t", "--values")
    assert (code, err) == (0, "")
    (kept,) = Path("cache/versions/t").glob("*/*overview-*.json")
    kept.unlink()  # the file is read-only
    kept.write_text("{")
    assert shop("show", "t", "--values")[0] == 0


def test_diff_counts_rows_and_names_new_values_and_ranges(shop: Type) -> None:
    rows = Path("t.csv").read_text().splitlines()
    rows[1], rows[2] = "U0,99,x,0.0,yes,full", "U1,1,new,0.5,no,none"
    Path("t.csv").write_text("\n".join([*rows[:60], "U99,1,x,5,no,none"]) + "\n")
    assert shop("publish", "t", "t.csv", "--yes")[0] == 0
    code, out, _ = shop("diff", "t@1", "t", "--values")
    assert code == 0
    lines = out.splitlines()
    assert "  train  40      40     0      0        2        0         0" in lines
    assert "  test   10      10     1      1        0        0         0" in lines
    assert "  changed   train: age in 1, plan in 1" in lines
    assert "  codes     column 'plan' has 1 new value: 'new'" in lines
    assert "  values    age of train: 0 to 8, now 0 to 99" in lines
    assert "            samples are matched by column 'user_id'" in lines
    values = json.loads(shop("diff", "t@1", "t", "--json")[1])["values"]
    assert values["rows"]["train"]["changed_columns"] == {"age": 1, "plan": 1}
    code, _, err = shop("diff", "t@1", "t", "--key", "plan")
    assert (code, "column 'plan' does not identify the samples" in err) == (44, True)


def test_diff_without_cached_versions_names_the_command(shop: Type) -> None:
    assert shop("publish", "t", "t.csv", "--yes", "--split", "train=0:50", "--split", "val=50:60")[0] == 0
    assert "values not compared: scripts/reprise data diff t@1 t --values\n" in shop("diff", "t@1", "t")[1]
