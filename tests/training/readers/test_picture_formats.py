"""Detection of the format of a file that has the name of a picture."""

from __future__ import annotations

import pytest

from trainer.training.readers.images import detect_format


@pytest.mark.parametrize(
    ("body", "name", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC", "write it as PNG"),
        (b"\n<!DOCTYPE HTML><html></html>", "an HTML page", "download the picture"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<SVG/>", "SVG", "render it as PNG"),
        (bytes(128) + b"DICM\2\0", "DICOM", "16-bit PNG"),
        (b"%!PS-Adobe-3.0", "PostScript", "write it as PNG"),
        (b"PK\3\4\0\0", "an archive", "unpack it"),
        (bytes(600), "only zeros", "replace or remove"),
        ("1,2,고양이\n".encode() * 100, "text", "replace or remove"),
        (b"\x89PNG\r\n", "", "replace or remove"),
    ],
)
def test_a_format_is_found_by_its_first_bytes(body: bytes, name: str, hint: str) -> None:
    found = detect_format(memoryview(body))
    assert found[0].startswith(name)
    assert bool(found[0]) == bool(name)
    assert hint in found[1]
