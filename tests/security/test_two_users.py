"""An attacker, a victim and root share a cache and a runs folder, with real processes, user IDs and modes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.comparison.test_retest import a_retest
from tests.data.conftest import FILES, fill
from tests.data.test_fetch_shared import as_user
from tests.runs.runs import finish_run
from tests.security.outside import state, victims_folder
from trainer.base.errors import RepriseError, UnsafePathError
from trainer.cli.configuration import give_to_container_user
from trainer.comparison.retest import save_retest
from trainer.data.cache.collect import YOUNG_S, collect_cache
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset, verify_dataset
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.environments.dotenv import write_block
from trainer.runs.run import abandon
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.data.declaration import Dataset

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="becomes other users, which root alone can")
ATTACKER: Final = 4321
VICTIM: Final = 1000
ROOT: Final = 0
LATER: Final = time() + 2 * YOUNG_S
VERSION: Final = "versions/small/{content}"
FOLDERS: Final = (
    "versions",
    "versions/small",
    VERSION,
    "objects",
    "objects/{shelf}",
    "leases",
    ".new-objects",
    "objects/.new-{shelf}",
)
FOLDERS_IN_THE_VERSION: Final = (f"{VERSION}/files", f"{VERSION}/.files.{{uid}}-zz", f"{VERSION}/files.u{{uid}}")
A_FILE: Final = (f"{VERSION}/fetch.lock", f"{VERSION}/complete.json", f"{VERSION}/manifest.jsonl", f"{VERSION}/wanted.json",
    f"{VERSION}/suspect.u{{uid}}", "leases/x.json", "objects/{shelf}/{object}", "objects/{shelf}/.{object}.{uid}-a")  # fmt: skip


class Scene:
    """A cache to which all users may write, a store, and the home of the victim."""

    def __init__(self, root: Path, *, sticky: bool) -> None:
        root.chmod(0o755)
        self.root, self.home, self.mode = root, victims_folder(root / "home"), 0o1777 if sticky else 0o777
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, VICTIM, VICTIM)
        (root / "store").mkdir()
        (root / "cache").mkdir()
        (root / "cache").chmod(self.mode)
        source = SourceFolder(root=fill(root / "source", FILES))
        self.dataset: Dataset = publish_dataset(
            Draft(name="small"), source=source, store=open_store(str(root / "store"))
        ).dataset
        self.cache = Cache(root=root / "cache")
        aside = Cache(root=root / "aside")
        fetch_dataset(self.dataset, cache=aside, open_store=lambda: open_store(str(root / "store")))
        pack = next((aside.root / "objects").glob("*/*"))
        self.shelf, self.object = pack.parent.name, pack.name

    def named(self, path: str, uid: int) -> Path:
        content = self.dataset.content.removeprefix("sha256:")
        return self.cache.root / path.format(content=content, shelf=self.shelf, object=self.object, uid=uid)

    def plant(self, path: str, target: str, uid: int) -> None:
        place = self.named(path, uid)
        for above in reversed([each for each in place.parents if each.is_relative_to(self.cache.root)]):
            if not above.exists():
                above.mkdir()
                above.chmod(self.mode)
        place.symlink_to(self.home / target) if target != "pipe" else os.mkfifo(place)

    def use(self) -> list[str]:
        messages: list[str] = []
        for step in (self.fetch, self.folder, self.verify, self.suspect, self.fetch, self.collect):
            try:
                step()
            except RepriseError as fault:
                messages.append(fault.message)
        return messages

    def fetch(self) -> None:
        cached = fetch_dataset(self.dataset, cache=self.cache, open_store=lambda: open_store(str(self.root / "store")))
        assert {path: bytes(cached.read(path)) for path in cached.paths} == FILES
        if cached.lease:
            cached.lease.end()

    def folder(self) -> None:
        cached = fetch_dataset(self.dataset, cache=self.cache, open_store=lambda: open_store(str(self.root / "store")))
        assert {path: (cached.folder() / path).read_bytes() for path in FILES} == FILES
        if cached.lease:
            cached.lease.end()

    def verify(self) -> None:
        verify_dataset(self.dataset, cache=self.cache)

    def suspect(self) -> None:
        self.cache.mark_suspect(self.dataset)

    def collect(self) -> None:
        collect_cache(self.cache, [], now=LATER, dry_run=False)


@pytest.fixture(params=[True, False], ids=["sticky", "open"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Yield a scene whose cache has mode 1777, or mode 777, with which the kernel does not restrict links."""
    with tempfile.TemporaryDirectory() as name:
        yield Scene(Path(name), sticky=request.param)


def planted() -> Iterator[tuple[str, str]]:
    yield from ((path, ".ssh") for path in (*FOLDERS, *FOLDERS_IN_THE_VERSION))
    yield from ((path, target) for path in A_FILE for target in (".ssh/authorized_keys", "nowhere", "pipe"))


@pytest.mark.parametrize("uid", [VICTIM, ROOT], ids=["victim", "root"])
def test_nothing_outside_a_shared_cache_changes(scene: Scene, uid: int) -> None:
    """The attacker plants one link or pipe after another; the next user works despite it, or gets an error that names it."""
    before = state(scene.home)
    for path, target in planted():
        as_user(ATTACKER, lambda path=path, target=target: scene.plant(path, target, uid))()  # type: ignore[misc]
        messages = as_user(uid, scene.use)()
        assert state(scene.home) == before, (path, target)
        assert isinstance(messages, list), messages
        if path in FOLDERS:
            assert any("is a symbolic link" in line for line in messages), (path, messages)
        empty_cache(scene.cache.root)


def empty_cache(cache: Path) -> None:
    for path in sorted(cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_without_an_attacker_two_users_and_root_share_a_cache(scene: Scene) -> None:
    """The checks of owners must not prevent users from sharing a cache."""
    for uid in (ATTACKER, VICTIM, ROOT):
        assert as_user(uid, lambda: run_steps(scene.fetch, scene.folder, scene.verify))() == []
    assert scene.named("objects", 0).stat().st_uid == ATTACKER


def run_steps(*steps: Callable[[], Any]) -> list[str]:
    for step in steps:
        step()
    return []


def test_root_writes_nothing_through_a_run_of_the_containers_user(scene: Scene) -> None:
    runs = scene.root / "runs"
    run = finish_run(runs).folder.parents[1]
    write_block(scene.root / ".env", {"REPRISE_UID": str(ATTACKER), "REPRISE_GID": str(ATTACKER)})
    give_to_container_user(runs, checkout=scene.root)
    before = state(scene.home)

    def plant() -> None:
        (run / "retests").symlink_to(scene.home)
        (run / "attempts/1/checkpoints/keys").symlink_to(scene.home / ".ssh/authorized_keys")
        os.mkfifo(run / "attempts/1/pipe")

    as_user(ATTACKER, plant)()
    with pytest.raises(UnsafePathError, match="retests is a symbolic link"):
        save_retest(run, a_retest(), evidence=b"e")
    give_to_container_user(run, checkout=scene.root)
    assert state(scene.home) == before
    # the attacker can create it if the kernel has no protected_hardlinks
    os.link(scene.home / "thesis.txt", run / "attempts/1/thesis")
    linked = state(scene.home)
    with pytest.raises(UnsafePathError, match="thesis has 2 hard links"):
        give_to_container_user(run, checkout=scene.root)
    assert state(scene.home) == linked
    (run / "attempts/1/record.json").unlink()
    abandon(run)
    assert (run.exists(), state(scene.home)) == (False, before)
