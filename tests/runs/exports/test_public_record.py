"""Exported documents contain no absolute path and no secret; all other texts are unchanged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.records import circumstances
from tests.runs.exports.exported import exported, make_record
from trainer.base.digest import canonical
from trainer.base.redaction import REDACTOR
from trainer.runs.exports.crate import crate_metadata
from trainer.runs.exports.cyclonedx import bill_of_materials
from trainer.runs.exports.public_record import PATH_REMOVED, SECRET_REMOVED, public, public_record
from trainer.runs.exports.slsa import provenance
from trainer.runs.record import Inventory

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.runs.exports.exported_run import ExportedRun

FORMATS: Final[list[Callable[[ExportedRun], dict[str, Any]]]] = [provenance, bill_of_materials, crate_metadata]
HOME: Final = "/home/canary"
HOST: Final = "canary-host"
TOKEN: Final = "glpat" + "-canary0123456789abcdef"
PASSWORD: Final = "canary-of-a-named-secret"  # noqa: S105 - test data, not a secret
ENVIRONMENT: Final = "canary-of-the-environment"


@pytest.mark.parametrize("form", FORMATS)
def test_no_canary_of_a_record_reaches_a_document(form: Callable[[ExportedRun], dict[str, Any]]) -> None:
    settings = {
        "folder": f"{HOME}/data",
        "words": ["--out", f"--data={HOME}/data", f"file://{HOME}"],
        "nested": {f"{HOME}/key": TOKEN},
        "api_key": PASSWORD,
        "note": f"see {ENVIRONMENT}",
    }
    around = {
        "command": ["reprise", f"{HOME}/a.py"],
        "host": circumstances().host.model_copy(update={"name": HOST}),
        "inventory": Inventory(python="3", roots=[HOME], libraries={f"{HOME}/lib.so": 1}),
        "drift": [f"{HOME}/numpy: altered"],
        "limits": {"order": f"{HOME}/a.py has no state"},
        "origins": dict.fromkeys(settings, "file"),
        "settings_files": dict.fromkeys(settings, f"{HOME}/all.toml"),
        "execution": {"mlflow": f"http://{HOST}:5000"},
    }
    REDACTOR.add("CANARY", ENVIRONMENT)
    found = make_record(around=around, inputs={"settings": settings}, status="failed", reason=f"{HOME}/a.py: {TOKEN}")
    text = canonical(form(exported(found))).decode()
    assert "canary" not in text
    assert PATH_REMOVED in text
    assert SECRET_REMOVED in text


def test_differences_are_counted_before_their_paths_are_removed() -> None:
    run = exported(make_record(around={"drift": ["/a: altered", "/b: altered"], "drift_at_end": ["/b: altered"]}))
    assert run.last.drift == 2


@pytest.mark.parametrize("form", FORMATS)
def test_a_record_without_such_texts_is_exported_whole(form: Callable[[ExportedRun], dict[str, Any]]) -> None:
    assert public_record(make_record()) == make_record()
    assert "[removed" not in json.dumps(form(exported()))


@pytest.mark.parametrize(
    "text",
    [
        "/data",
        "see /etc/x",
        "--a=/etc/x",
        "'/etc/x'",
        "~/data",
        "~me/data",
        "file:///x",
        r"C:\data",
        r"\\host\x",
        "a:/b",
    ],
)
def test_a_text_with_an_absolute_path_is_removed(text: str) -> None:
    assert public(text) == PATH_REMOVED


@pytest.mark.parametrize(
    "text",
    [
        "a/b",
        "./a",
        "../a",
        "1/2",
        "a / b",
        "s3://bucket/a",
        "https://host:1/a?b=c",
        "{run}/out",
        "w/o",
        "~",
        "/",
        "a:b",
    ],
)
def test_another_text_is_kept(text: str) -> None:
    assert public(text) == text
