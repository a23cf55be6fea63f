"""Fetching the data of a training run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.stores.server import free_ports
from trainer.base.errors import StoreUnreachableError
from trainer.cli.process import fetching
from trainer.data import stream
from trainer.data.cache.folder import Cache

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.cache.streamed import StreamSource


def test_a_failing_store_of_a_streamed_dataset_draws_no_random_number_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[StreamSource] = []
    monkeypatch.setattr(stream, "open_dataset", lambda source, **_: given.append(source))
    fetching._fetch_within(10, cast("Any", None), Cache(root=tmp_path), cast("Any", None), as_folder=False)
    variables = {"REPRISE_STORE": "s3://b", "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_ports(1)[0]}"}
    for name, value in {**variables, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    store = given[0].open_store()
    before = random.getstate()
    with pytest.raises(StoreUnreachableError):
        store.size("objects/a")
    assert random.getstate() == before
