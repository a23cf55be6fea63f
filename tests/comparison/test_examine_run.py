"""Checking whether a run can be reproduced: a finding with a hint for each missing requirement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.environments.engine.memory import MemoryEngine
from tests.records import circumstances, ingredients
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DocumentError, IrreproducibleError, StoreUnreachableError
from trainer.comparison.examine_run import MachineResources, declared_dataset, examine_run, require_reproducible
from trainer.data.declaration import Dataset, declared
from trainer.environments.doctor import Severity
from trainer.environments.engine import ImageFacts
from trainer.runs.open_run import open_run
from trainer.runs.record import DatasetIngredient, Device, Gpu, Image, Knowledge, Outcome, Record, RunStatus
from trainer.runs.run import new_run
from trainer.source.capture import ARCHIVE, SourceBundle, SourceFile, bundle_digest, freeze
from trainer.source.description import Source
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environments.doctor import Diagnosis
    from trainer.stores.contract import Store

MANIFEST, LAYER = digest_of_bytes(b"manifest"), digest_of_bytes(b"layer")
REFERENCE = f"registry.example/cpu@{MANIFEST}"
IMAGE = ImageFacts(id=MANIFEST, tags=(), references=(REFERENCE,), layers=(LAYER,), size=1, created="")
BODY = b"{}"
DATASET = Dataset(
    name="small", version=1, manifest=digest_of_bytes(BODY), content=digest_of_bytes(b"content"), files=1, bytes=2
)


@dataclass(slots=True, kw_only=True)
class Bench:
    """A finished run, and a machine with everything that a rerun needs."""

    record: Record
    folder: Path
    store: MemoryStore
    machine: MachineResources

    def look(self, **other: Any) -> dict[str, Diagnosis]:
        changed = self.record.ingredients.model_copy(update=other)
        record = self.record.model_copy(update={"ingredients": changed})
        return {found.about: found for found in examine_run(record, self.folder, machine=self.machine)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bench for a run that used a small dataset and an image in a registry."""
    checkout = tmp_path / "checkout"
    (checkout / "datasets").mkdir(parents=True)
    (checkout / "datasets" / "small.toml").write_text(declared(DATASET))
    _, folder = new_run(tmp_path / "runs")
    datasets = {"small": DatasetIngredient(version=1, content=DATASET.content)}
    given = ingredients(source=freeze(checkout, folder).digest, datasets=datasets)
    image = Image(known=Knowledge.ASSERTED, reference=REFERENCE, manifest=MANIFEST)
    run = open_run(
        folder, ingredients=given, circumstances=circumstances().model_copy(update={"image": image, "drift": []})
    )
    record = run.close(Outcome(status=RunStatus.COMPLETED, metrics={"test_loss": 1.0}, steps=1))
    store = MemoryStore()
    store.write(object_key(DATASET.manifest), BODY, sha256=DATASET.manifest)
    machine = MachineResources(
        engine=MemoryEngine(images_by_id={MANIFEST: IMAGE}),
        open_store=lambda: store,
        cached=lambda _: False,
        host=record.circumstances.host,
        free=1 << 40,
    )
    return Bench(record=record, folder=folder, store=store, machine=machine)


def test_a_complete_run_passes(bench: Bench) -> None:
    found = bench.look()
    assert {finding.state for finding in found.values()} == {Severity.WELL}
    assert {"outcome", "record", "image", "source", "dataset", "device", "disk"} <= found.keys()
    require_reproducible(list(found.values()))


@pytest.mark.parametrize("field", ["drift", "drift_at_end", "changed"])
def test_drift_from_the_image_is_rejected_by_name_unless_allowed(bench: Bench, field: str) -> None:
    around = bench.record.circumstances.model_copy(update={field: ["extra 1.0", "more"]})
    bench.record = bench.record.model_copy(update={"circumstances": around})
    found = bench.look()["drift"]
    assert found.state is Severity.FAULT
    assert "extra 1.0 (and 1 more" in found.found
    bench.machine = replace(bench.machine, exact=False)
    assert bench.look()["drift"].state is Severity.NOTE


def test_a_run_that_left_its_determinism_level_is_noted(bench: Bench) -> None:
    around = bench.record.circumstances.model_copy(update={"determinism_at_end": ["benchmark is True"]})
    bench.record = bench.record.model_copy(update={"circumstances": around})
    found = bench.look()["level"]
    assert (found.state, found.found) == (Severity.NOTE, "off, machine was requested: benchmark is True")


def test_an_unfinished_run_cannot_be_reproduced(bench: Bench) -> None:
    bench.record = bench.record.model_copy(update={"outcome": Outcome(status=RunStatus.RUNNING)})
    assert bench.look()["outcome"].state is Severity.FAULT
    bench.record = bench.record.model_copy(update={"outcome": Outcome(status=RunStatus.FAILED, reason="odd")})
    assert (bench.look()["outcome"].code, "is failed (odd)" in bench.look()["outcome"].found) == (30, True)
    bench.record = bench.record.model_copy(update={"outcome": Outcome(status=RunStatus.PREEMPTED)})
    assert f"--resume {bench.record.run}" in str(bench.look()["outcome"].remedy)


def test_an_edited_record_is_detected(bench: Bench) -> None:
    found = bench.look(experiment="other")["record"]
    assert found.found.startswith("its identity is")


def test_a_missing_image_is_one_line_with_a_hint(bench: Bench) -> None:
    bench.machine = replace(bench.machine, engine=MemoryEngine())
    found = bench.look()
    assert found["image"].state is Severity.FAULT
    assert "image build" in str(found["image"].remedy)
    assert f"registry {REFERENCE.partition('/')[0]} does not have it" in found["image"].found
    with pytest.raises(IrreproducibleError, match="image: registry"):
        require_reproducible(list(found.values()))


def test_an_image_in_its_registry_passes(bench: Bench) -> None:
    bench.machine = replace(bench.machine, engine=MemoryEngine(registries={REFERENCE: IMAGE}))
    assert (bench.look()["image"].state, bench.look()["image"].remedy) == (Severity.NOTE, f"docker pull {REFERENCE}")


def test_an_altered_source_is_rejected(bench: Bench) -> None:
    found = bench.look(source=digest_of_bytes(b"another"))
    assert found["source"].state is Severity.FAULT
    (bench.folder / ARCHIVE).unlink()
    assert "does not exist" in bench.look()["source"].found


def test_a_missing_dataset_fails_and_a_cached_dataset_passes(bench: Bench) -> None:

    def away() -> Store:
        raise StoreUnreachableError("store x does not respond", hint="start it")

    bench.machine = replace(bench.machine, open_store=away)
    assert (bench.look()["dataset"].state, bench.look()["dataset"].remedy) == (Severity.FAULT, "start it")
    bench.machine = replace(bench.machine, cached=lambda dataset: dataset.content == DATASET.content)
    assert bench.look()["dataset"].state is Severity.NOTE


def test_a_dataset_that_the_store_lacks_has_the_command_that_adds_it(bench: Bench) -> None:
    bench.machine = replace(bench.machine, open_store=MemoryStore)
    found = bench.look()["dataset"]
    assert found.found == f"small@1 is not in the cache, and it is not in {MemoryStore().label}"
    assert found.remedy == "publish it there: reprise data publish small DIR"


def test_a_dataset_that_differs_from_the_sources_declaration_is_rejected(bench: Bench) -> None:
    odd = {"small": DatasetIngredient(version=1, content=digest_of_bytes(b"other"))}
    assert "the record names" in bench.look(datasets=odd)["dataset"].found


@pytest.mark.parametrize("name", ["../../etc/passwd", "absent", "a\nb"])
def test_a_dataset_with_an_invalid_name_is_rejected(bench: Bench, name: str) -> None:
    found = bench.look(datasets={name: DatasetIngredient(version=1, content=DATASET.content)})
    assert found["dataset"].state is Severity.FAULT


def bundle_of(body: bytes) -> SourceBundle:
    file = SourceFile(path="datasets/small.toml", executable=False, sha256=digest_of_bytes(body), data=body)
    return SourceBundle(digest=bundle_digest([file]), source=Source(how="baked"), files=(file,))


def test_a_declaration_is_decoded_as_in_the_project(bench: Bench) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        found = declared_dataset(bench.record, bundle_of(declared(DATASET).encode(encoding)), "small")
        assert found.content == DATASET.content


@pytest.mark.parametrize("body", [b"name =", b"a = " + 9999 * b"[", b"a = " + 9999 * b"1", b"\xff\xfe\xff", b"\xe9"])
def test_an_invalid_declaration_fails_with_its_position(bench: Bench, body: bytes) -> None:
    with pytest.raises(DocumentError, match=r"datasets/small\.toml of the run's source"):
        declared_dataset(bench.record, bundle_of(body), "small")


def test_another_cpu_is_noted(bench: Bench) -> None:
    other = bench.machine.host.model_copy(update={"cpu": "another CPU"})
    bench.machine = replace(bench.machine, host=other)
    assert "not guaranteed" in bench.look()["device"].found


def test_a_run_on_a_gpu_needs_a_gpu(bench: Bench) -> None:
    cuda = Device(accelerator="cuda", world_size=1, precision="32-true")
    assert bench.look(device=cuda)["device"].state is Severity.FAULT
    gpu = Gpu(name="NVIDIA H100", uuid="x", memory=1)
    bench.machine = replace(bench.machine, host=bench.machine.host.model_copy(update={"gpus": [gpu]}))
    assert bench.look(device=cuda)["device"].state is Severity.NOTE


def test_a_full_disk_is_reported_before_anything_runs(bench: Bench) -> None:
    bench.machine = replace(bench.machine, free=1)
    assert bench.look()["disk"].state is Severity.FAULT
