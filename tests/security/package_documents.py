"""Documents of model packages that an attacker could change: retests and signatures beside a package, manifests in a registry."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from tests.certified import make_keys
from tests.models.test_package_store import small_package
from tests.models.test_weights_retest import written
from tests.security.kind import Kind, command
from tests.security.mutation import mutated_json
from tests.stores.scripted_registry import Scripted, scripted_registry
from trainer.comparison.certificate import sign
from trainer.models.package import SIGNATURE, SIGNED, open_package, write_package
from trainer.models.package_artifact import manifest_of, pull_artifact
from trainer.models.weights_retest import SIGNED as RETEST
from trainer.stores.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path


def weights_retest(folder: Path) -> Kind:
    """A retest beside a package, with or without a signature, and its evidence."""
    made, (private, public) = written(folder / "runs"), make_keys(folder)
    good, evidence = made.retest.read_bytes(), made.evidence.read_bytes()
    signed, turn = made.retest.with_suffix(".dsse.json"), count()
    words = (("packages", "show", str(made.folder)), ("packages", "show", str(made.folder), "--key", str(public)))

    def read(body: bytes) -> None:
        number = next(turn)
        path = (made.retest, signed, made.evidence)[number % 3]
        before = made.evidence.read_bytes()
        path.write_bytes(body)
        command(*words[number % 2])
        made.evidence.write_bytes(before)
        command("verify", str(path), *(("--key", str(public)) if number % 2 else ()))

    return Kind([good, evidence, sign(good, key=private, kind=RETEST)], read, mutated_json)


def package_signature(folder: Path) -> Kind:
    """The signed document of a package."""
    package, files = small_package()
    path, (private, public) = write_package(package, files, runs=folder / "runs"), make_keys(folder)
    turn = count()

    def read(body: bytes) -> None:
        (path / SIGNATURE).write_bytes(body)
        command("packages", "show", str(path), "--key", str(public))
        command("verify", str(path / SIGNATURE), *(("--key", str(public)) if next(turn) % 2 else ()))

    return Kind([sign(package.to_json(), key=private, kind=SIGNED)], read, mutated_json)


def package_manifest(folder: Path) -> Kind:
    """The manifest of a package in a registry."""
    package, files = small_package()
    manifest, _ = manifest_of(open_package(write_package(package, files, runs=folder / "runs")), license_name=None)

    def read(body: bytes) -> None:
        with scripted_registry() as server:
            server.answers["GET /v2/team/dots/manifests/1"] = Scripted(body=body)
            pull_artifact(Registry(server.address, "team/dots", credentials=lambda _: None), "1", runs=folder / "there")

    return Kind([manifest.to_json()], read, mutated_json)
