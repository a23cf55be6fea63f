"""Packages of small nets, and a server for each package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.models.serving.running import running
from tests.models.serving.small_packages import make_package
from trainer.models.packaged import load_package
from trainer.models.serving.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.models.serving.running import Running
    from trainer.models.packaged import PackagedModel


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of packages by kind."""
    runs = tmp_path_factory.mktemp("packages")
    return {kind: make_package(runs, kind) for kind in ("arrays", "pictures", "table", "tensors")}


@pytest.fixture(scope="session")
def models(packages: dict[str, Path]) -> dict[str, PackagedModel]:
    """The loaded packages by kind."""
    return {kind: load_package(path) for kind, path in packages.items()}


@pytest.fixture(scope="session")
def arrays(models: dict[str, PackagedModel]) -> Iterator[Running]:
    """A server of arrays."""
    with running(models["arrays"], Limits(max_body=1 << 20, max_samples=200)) as server:
        yield server


@pytest.fixture(scope="session")
def pictures(models: dict[str, PackagedModel]) -> Iterator[Running]:
    """A server of pictures."""
    with running(models["pictures"], Limits()) as server:
        yield server


@pytest.fixture(scope="session")
def table(models: dict[str, PackagedModel]) -> Iterator[Running]:
    """A server of rows of a table."""
    with running(models["table"], Limits()) as server:
        yield server


@pytest.fixture(scope="session")
def tensors(models: dict[str, PackagedModel]) -> Iterator[Running]:
    """A server of tensors of any length."""
    with running(models["tensors"], Limits(timeout=5)) as server:
        yield server
