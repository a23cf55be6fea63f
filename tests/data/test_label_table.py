"""Label tables are parsed strictly; errors name the line."""

from __future__ import annotations

import pytest

from trainer.base.errors import RepriseError
from trainer.data.pictures import check_listed, parse_labels


def make_table(*lines: str) -> bytes:
    return "\n".join(["file,class", *lines, ""]).encode()


def parse(raw: bytes) -> dict[str, str]:
    return {file: label.name for file, label in parse_labels(raw, where="l.csv").items()}


@pytest.mark.parametrize(
    "raw",
    [
        make_table("1.png,a", "2.png,b"),
        b"\xef\xbb\xbf" + make_table("1.png,a", "2.png,b"),
        b"\xff\xfe" + make_table("1.png,a", "2.png,b").decode().encode("utf-16-le"),
        make_table("1.png,a", "2.png,b").replace(b"\n", b"\r\n"),
        make_table("1.png,a", "2.png,b").replace(b"\n", b"\r"),
        make_table("", "1.png,a", "", "2.png,b").rstrip(),
        make_table("   ", "1.png,a", "\t", "2.png,b", " "),
        b"class,more,file\na,x,1.png\nb,,2.png\n",
        make_table('"1.png","a"', "2.png,b"),
    ],
)
def test_tables_that_editors_and_spreadsheets_write_are_read(raw: bytes) -> None:
    assert parse(raw) == {"1.png": "a", "2.png": "b"}


def test_names_with_commas_quotes_and_line_separators_are_read_whole() -> None:
    assert parse(make_table('"a,1.png","x ""y"""', "b.png,u\u2028v")) == {"a,1.png": 'x "y"', "b.png": "u\u2028v"}


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        (
            make_table("1.png,caf\xe9").decode().encode("latin-1"),
            "line 2: expected UTF-8 text, found the byte 0xe9",
            "UTF-8",
        ),
        (make_table("1.png,a", "2.png"), "line 3: expected 2 values, found 1 value", "fill in the line"),
        (make_table("1.png,a,b"), "line 2: expected 2 values, found 3 values", "quotation"),
        (make_table("1.png,a", "2.png,"), "line 3: the class is empty", "remove"),
        (make_table("1.png, "), "line 2: the class is empty", "remove"),
        (make_table(",a"), "line 2: the file is empty", "remove"),
        (make_table("1.png,a "), "line 2: the class 'a ' begins or ends with whitespace", "write a"),
        (make_table("1.png,a", "1.png,a"), "line 3: '1.png' is already listed in line 2", "remove"),
        (
            make_table("1.png,a", "", "1.png,b"),
            "line 4: '1.png' is already listed in line 2, as 'a' and as 'b'",
            "remove",
        ),
        (make_table('1.png,"a'), "line 2: not valid CSV", "close every quotation mark"),
        (make_table("1.png,a", '2.png,"b', "3.png,c"), "lines 3 to 4: not valid CSV", "close every quotation mark"),
        (
            make_table("1.png,a", "", '2.png,"b\nc"', "3.png"),
            "line 6: expected 2 values, found 1 value",
            "fill in the line",
        ),
        (b"files,clas\n1.png,a\n", "found 'files', 'clas'", "rename the column 'files' to 'file'"),
        (b"file;class\n1.png;a\n", "line 1: expected the columns file and class", "commas, not with semicolons"),
        (b"file\tclass\n1.png\ta\n", "line 1: expected the columns", "commas, not with tabs"),
        (b"filename,label\n1.png,a\n", "found 'filename', 'label'", "rename the column 'filename' to 'file'"),
        (b"file, class\n1.png,a\n", "found 'file', ' class'", "rename the column ' class' to 'class'"),
        (b"1.png,a\n2.png,b\n", "found '1.png', 'a'", "make its first line: file,class"),
        (b"file,class,class\n", "the column 'class' is named twice", "rename"),
        (b"", "found nothing", "file,class"),
        (make_table("1.png,a\0"), "line 2: expected text, found a NUL", "remove it"),
    ],
)
def test_an_invalid_line_is_an_error_with_its_number(raw: bytes, message: str, hint: str) -> None:
    with pytest.raises(RepriseError) as caught:
        parse_labels(raw, where="l.csv")
    assert caught.value.message.startswith("l.csv, line")
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("a/2.png,x", "line 2: 'a/2.png' is not in the folder", "did you mean a/1.png?"),
        ("a\\1.png,x", "line 2: 'a\\\\1.png' is not in the folder", "write a/1.png"),
        ("./a/1.png,x", "line 2: './a/1.png' is not in the folder", "write a/1.png"),
        ("/home/me/d/a/1.png,x", "is not in the folder", "write a/1.png"),
        (" a/1.png,x", "line 2: ' a/1.png' is not in the folder", "write a/1.png"),
        ("'a/1.png',x", "is not in the folder", "write a/1.png"),
        ("a/1.PNG,x", "line 2: 'a/1.PNG' is not in the folder", "write a/1.png"),
        (
            "b/cafe\u0301.png,x",
            "is not in the folder",
            r"did you mean 'b/caf\xe9.png'? It has the same letters in another",
        ),
        ("a/1.heic,x", "line 2: 'a/1.heic' is not read as a picture", "convert"),
    ],
)
def test_a_line_without_a_picture_is_an_error(line: str, message: str, hint: str) -> None:
    labels = parse_labels(make_table(line), where="l.csv")
    with pytest.raises(RepriseError) as caught:
        check_listed(labels, ["a/1.heic", "a/1.png", "b/caf\u00e9.png"], where="l.csv")
    assert message in caught.value.message
    assert hint in str(caught.value.hint)
