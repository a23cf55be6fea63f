"""The output of `reprise setup`: the image, the store, and hints if one of them is missing."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import UsageError
from trainer.cli.checkout import own_store_line
from trainer.cli.setup import choose_store, page, require_port_of
from trainer.environments.engine import LocalStore

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {
    "REPRISE_ENVIRONMENT": "cpu",
    "REPRISE_IMAGE": "localhost/reprise/cpu@sha256:12",
    "REPRISE_STORE": "s3://reprise",
    "REPRISE_STORE_IMAGE": "localhost/reprise/store@sha256:34",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333",
    "COMPOSE_PROFILES": "store",
}
BUILD = "scripts/setup --build"


def values_without(*names: str) -> dict[str, str]:
    return {name: value for name, value in VALUES.items() if name not in names}


def test_setup_prints_three_lines_when_nothing_is_missing() -> None:
    assert page(VALUES, built=True) == [
        "environment  cpu",
        "image        localhost/reprise/cpu@sha256:12",
        "store        s3://reprise at http://127.0.0.1:8333",
    ]


def test_a_missing_image_is_reported_with_the_command_that_builds_it() -> None:
    assert page(values_without("REPRISE_IMAGE"), built=True)[1].endswith(f"not built yet: {BUILD}")
    assert page(values_without("REPRISE_STORE_IMAGE"), built=False)[2].endswith(f"its image is not built yet: {BUILD}")
    assert page(VALUES, built=False)[2].endswith(f"its image was built from an earlier lock: {BUILD}")
    elsewhere = {**values_without("REPRISE_STORE_IMAGE"), "COMPOSE_PROFILES": ""}
    assert page(elsewhere, built=False)[2] == "store        s3://reprise at http://127.0.0.1:8333"


def chosen_store(store: str | None, environ: dict[str, str], own: str | None) -> str | None:
    args = Namespace(store=store, endpoint=None, environment=None)
    return choose_store(args, environ, own=own).store


def test_a_store_that_contradicts_dotenv_is_rejected() -> None:
    assert chosen_store(None, {}, "/mnt/a") == "/mnt/a"
    assert chosen_store("file:///mnt/a/", {}, "/mnt/a") == "file:///mnt/a/"
    for typed, environ in (("/mnt/b", {}), (None, {"REPRISE_STORE": "/mnt/b"})):
        with pytest.raises(UsageError, match=r"is /mnt/b, but a line in \.env outside the managed block is .*=/mnt/a"):
            chosen_store(typed, environ, "/mnt/a")


def test_a_relative_folder_in_dotenv_is_rejected_with_its_absolute_path(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("REPRISE_STORE=../share\n")
    with pytest.raises(UsageError) as caught:
        own_store_line(path)
    assert caught.value.hint == f"REPRISE_STORE={tmp_path.parent / 'share'}"
    path.write_text("REPRISE_STORE=/mnt/a\n")
    assert own_store_line(path) == "/mnt/a"


def test_a_port_that_the_store_of_another_checkout_does_not_have_is_rejected() -> None:
    joined = LocalStore(project="reprise-1", port=8333, network="n", volume="v", key="k", secret="s")  # noqa: S106
    for environ in ({}, {"REPRISE_STORE_PORT": ""}, {"REPRISE_STORE_PORT": "8333"}):
        require_port_of(joined, environ)
    with pytest.raises(
        UsageError, match=r"REPRISE_STORE_PORT is 8343, but .* another checkout \(reprise-1\) on port 8333"
    ):
        require_port_of(joined, {"REPRISE_STORE_PORT": "8343"})
