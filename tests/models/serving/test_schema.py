"""The OpenAPI document of a server: a fuzzer sends valid and invalid requests by the document to the real command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("torch")

from tests.models.serving.running import running
from tests.models.serving.test_server import command
from tests.venvs import make_venv
from trainer.models.packaged import PackagedModel, load_package
from trainer.models.serving.limits import Limits

pytestmark = pytest.mark.torch
REQUIREMENTS: Final = Path(__file__).with_name("schemathesis.txt")
"""Schemathesis and its dependencies, with hashes. No environment of the repository has it."""
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
SETTINGS: Final = """
[checks.negative_data_rejection]
expected-statuses = [400, 413, 415, 422]
"""
HOOKS: Final = """
import schemathesis
from hypothesis import strategies

schemathesis.openapi.media_type("image/*", strategies.binary(max_size=300))
schemathesis.openapi.media_type("text/csv", strategies.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
"""


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemathesis")
    make_venv(folder / "venv", "-r", str(REQUIREMENTS))
    (folder / "hooks.py").write_text(HOOKS)
    (folder / "schemathesis.toml").write_text(SETTINGS)
    return folder


@pytest.mark.index
@pytest.mark.long
@pytest.mark.parametrize("kind", ["arrays", "pictures", "table", "tensors"])
def test_generated_requests_get_what_the_document_describes(fuzzer: Path, packages: dict[str, Path], kind: str) -> None:
    with command(packages[kind]) as (process, port, _):
        words = ["--checks", ",".join(CHECKS), "--max-examples", "150", "--seed", "20261130", "--mode", "all"]
        words += ["--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--continue-on-failure"]
        done = subprocess.run(
            [
                str(fuzzer / "venv/bin/schemathesis"),
                "--no-color",
                "run",
                f"http://127.0.0.1:{port}/openapi.json",
                *words,
            ],
            cwd=fuzzer,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(fuzzer), "HOME": str(fuzzer)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.poll() is None
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_endpoint_is_described_with_its_statuses(models: dict[str, PackagedModel]) -> None:
    with running(models["arrays"], Limits()) as server:
        paths = server.get("/openapi.json").json["paths"]
        for path, operations in paths.items():
            for method, operation in operations.items():
                assert operation["summary"]
                response = server.send(method.upper(), path, b"{}" if method == "post" else None)
                described = operation["responses"][str(response.status)]["content"]
                assert response.headers["content-type"].partition(";")[0] in described


def test_the_document_names_the_token_of_a_server_that_has_one(packages: dict[str, Path]) -> None:
    token = "token" * 4  # assembled, so that the file does not look like a secret
    with running(load_package(packages["arrays"]), Limits(), token=token) as server:
        found = server.get("/openapi.json", authorization=f"Bearer {token}").json
    assert found["security"] == [{"token": []}]
    assert found["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
