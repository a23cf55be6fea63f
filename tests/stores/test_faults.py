"""A network that damages the responses of a real S3 server: no wrong bytes are stored or used, and the repeated command succeeds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from botocore.config import Config

from tests.data.conftest import FILES, fill, leftovers, objects
from tests.stores import proxy
from tests.stores.proxy import Plan, spoiling_proxy
from trainer.base import parallel
from trainer.base.errors import DigestMismatchError, RepriseError, StoreUnreachableError
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.stores import open_store, s3
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stores.proxy import Fault
    from trainer.data.declaration import Dataset

pytestmark = pytest.mark.s3

ALWAYS = 1_000
BODY = bytes(range(256)) * 60


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce timeouts to one second and remove delays between attempts."""
    monkeypatch.setattr(s3, "_OWN_SERVER", s3._OWN_SERVER.merge(Config(read_timeout=1)))
    monkeypatch.setattr(parallel, "PAUSES_S", (0.0, 0.0))


@pytest.fixture
def versions(s3_address: str, tmp_path: Path) -> tuple[Dataset, Dataset]:
    """Return a dataset in one pack, and a second version that needs only two distant ranges of that pack."""
    source = fill(tmp_path / "source", FILES | {"b": BODY, "m": BODY[::-1], "y": BODY[7:]})
    publish = partial(
        publish_dataset, Draft(name="small"), source=SourceFolder(root=source), store=open_store(s3_address)
    )
    first = publish().dataset
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name not in {"a.txt", "ö ü.txt"}:
            path.unlink()
    return first, publish().dataset


def keys(dataset: Dataset, address: str) -> tuple[str, ...]:
    """Return the keys of the packs: all objects except manifests."""
    store = open_store(address)
    return tuple(
        key for key in store.keys("objects/") if (store.size(key) or 0) > 20_000 and key != object_key(dataset.manifest)
    )


def fetch(dataset: Dataset, address: str, root: Path) -> dict[str, bytes]:
    cached = fetch_dataset(dataset, cache=Cache(root=root), open_store=partial(open_store, address))
    return {path: bytes(cached.read(path)) for path in cached.paths}


SURVIVED = [
    (proxy.cut_short, 1),
    (proxy.flipped, 1),
    (proxy.busy, 3),
    (proxy.reset, 1),
    (proxy.stalled, 1),
    (proxy.trickling, ALWAYS),
    (proxy.replaced, 1),
    (proxy.whole_body, 1),
    (proxy.endless, 1),
]
TOO_MUCH = [
    (proxy.cut_short, DigestMismatchError),
    (proxy.flipped, DigestMismatchError),
    (proxy.busy, StoreUnreachableError),
    (proxy.reset, (DigestMismatchError, StoreUnreachableError)),
    (proxy.stalled, StoreUnreachableError),
    (proxy.replaced, DigestMismatchError),
    (proxy.endless, RepriseError),
]


@pytest.mark.parametrize("number", [0, 1], ids=["whole pack", "ranges"])
@pytest.mark.parametrize(("error", "times"), SURVIVED, ids=[each[0].__name__ for each in SURVIVED])
def test_a_transient_fault_is_retried(
    versions: tuple[Dataset, Dataset],
    s3_address: str,
    s3_environment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Fault,
    times: int,
    number: int,
) -> None:
    plan = Plan(fault=error, keys=keys(versions[0], s3_address), times=times)
    with spoiling_proxy(s3_environment, plan) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        found = fetch(versions[number], s3_address, tmp_path / "cache")
    assert {"a.txt": found["a.txt"], "ä/ö ü.txt": found["ä/ö ü.txt"]}.items() <= FILES.items()
    assert len(found) == (len(FILES) + 3, 2)[number]
    assert plan.seen > 0
    assert not leftovers(Cache(root=tmp_path / "cache"))


@pytest.mark.parametrize("number", [0, 1], ids=["whole pack", "ranges"])
@pytest.mark.parametrize(("fault", "error"), TOO_MUCH, ids=[each[0].__name__ for each in TOO_MUCH])
def test_a_persistent_fault_is_one_line_and_the_same_command_continues(
    versions: tuple[Dataset, Dataset],
    s3_address: str,
    s3_environment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    error: type[RepriseError],
    number: int,
) -> None:
    cache = Cache(root=tmp_path / "cache")
    with spoiling_proxy(
        s3_environment, Plan(fault=fault, keys=keys(versions[0], s3_address), times=ALWAYS)
    ) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(error) as caught:
            fetch(versions[number], s3_address, cache.root)
    assert "\n" not in str(caught.value)
    assert (objects(cache), leftovers(cache), cache.find(versions[number])) == ([], [], None)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_environment)
    assert fetch(versions[number], s3_address, cache.root)["a.txt"] == FILES["a.txt"]


@pytest.mark.parametrize(
    "error", [proxy.cut_short, proxy.flipped, proxy.endless, proxy.busy], ids=lambda each: each.__name__
)
def test_a_damaged_manifest_is_never_accepted(
    versions: tuple[Dataset, Dataset],
    s3_address: str,
    s3_environment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Fault,
) -> None:
    plan = Plan(fault=error, keys=(object_key(versions[0].manifest),), times=ALWAYS)
    with spoiling_proxy(s3_environment, plan) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(RepriseError):
            fetch(versions[0], s3_address, tmp_path / "cache")
    assert objects(Cache(root=tmp_path / "cache")) == []
