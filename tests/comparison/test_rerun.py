"""Command lines and images of reruns, including those of hostile records."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.environments.engine.memory import MemoryEngine
from tests.records import circumstances, ingredients, record
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DocumentError, EngineError, ImageMissingError, IrreproducibleError
from trainer.comparison.rerun import (
    ImageName,
    find_image,
    image_name,
    is_in_registry,
    obtain_image,
    rerun_arguments,
    resume_arguments,
)
from trainer.environments.engine import ImageFacts
from trainer.runs.record import Device, Image, Knowledge

if TYPE_CHECKING:
    from pydantic import JsonValue

    from trainer.runs.record import Record

MANIFEST = digest_of_bytes(b"manifest")


IMAGE = Image(known=Knowledge.ASSERTED, reference=f"registry.example/cpu@{MANIFEST}", manifest=MANIFEST)


def a_record(
    *, settings: dict[str, JsonValue] | None = None, origins: dict[str, str] | None = None, **other: Any
) -> Record:
    """Return the record of a run in an image; `other` replaces ingredients, `image` and `execution`."""
    happened = {"image": other.pop("image", IMAGE), "execution": other.pop("execution", {}), "origins": origins or {}}
    return record(ingredients(settings=settings or {}, **other), circumstances(**happened))


def test_given_settings_are_repeated_and_defaults_come_from_the_source() -> None:
    values: dict[str, JsonValue] = {"learning_rate": 0.1 + 0.2, "seed": 0, "name": "a'b\n\"$(c)"}
    again = rerun_arguments(
        a_record(settings=values, origins={"learning_rate": "command line", "name": "file", "seed": "default"})
    )
    document = tomllib.loads(again.file().decode())
    assert document == {"learning_rate": 0.1 + 0.2, "name": "a'b\n\"$(c)", "accelerator": "cpu", "publish": False}
    assert again.words("/s.toml") == ["train", "--exp=digits", "--settings=/s.toml"]


def test_a_setting_set_to_none_is_passed_as_an_option() -> None:
    values: dict[str, JsonValue] = {"clip_norm": None, "max_steps": None}
    again = rerun_arguments(a_record(settings=values, origins={"clip_norm": "command line", "max_steps": "default"}))
    assert again.words("f")[3:] == ["--clip-norm=null"]


def test_the_device_is_the_recorded_one() -> None:
    device = Device(accelerator="cuda", world_size=1, precision="32-true")
    again = rerun_arguments(
        a_record(device=device, execution={"accelerator": "auto"}, origins={"accelerator": "default"})
    )
    assert again.settings["accelerator"] == "gpu"


def test_a_resumed_run_gets_its_original_settings() -> None:
    execution: dict[str, JsonValue] = {"accelerator": "auto", "wandb": "offline", "publish": True}
    again = resume_arguments(a_record(execution=execution, origins={"accelerator": "default", "wandb": "command line"}))
    assert again.settings == {"wandb": "offline"}


def test_a_rerun_neither_publishes_nor_logs_online() -> None:
    execution: dict[str, JsonValue] = {"wandb": "online", "mlflow": "http://h", "publish": True}
    again = rerun_arguments(a_record(execution=execution, origins=dict.fromkeys(execution, "command line")))
    assert [again.settings[name] for name in execution] == ["off", "off", False]


@pytest.mark.parametrize("name", ["a b", "--x", "", "X", "a=b", "settings\n", "é", "_a", "a" * 200])
def test_a_setting_with_an_invalid_name_is_rejected(name: str) -> None:
    with pytest.raises(DocumentError, match="names a setting named"):
        rerun_arguments(a_record(settings={name: 1}, origins={name: "command line"}))


@pytest.mark.parametrize("experiment", ["../../etc/x.py", "/abs.py", "a/../b.py", ""])
def test_an_experiment_outside_the_source_is_rejected(experiment: str) -> None:
    with pytest.raises(DocumentError, match="the experiment"):
        rerun_arguments(a_record(experiment=experiment))


def test_an_experiment_that_looks_like_an_option_stays_a_value() -> None:
    assert rerun_arguments(a_record(experiment="--trust")).words("f")[1] == "--exp=--trust"


@pytest.mark.parametrize(
    "reference",
    [
        "cpu:latest",
        f"x;touch /tmp/owned@{MANIFEST}",
        f"$(id)@{MANIFEST}",
        f"--privileged@{MANIFEST}",
        f"a b@{MANIFEST}",
        f"../x@{MANIFEST}",
        f"registry.example/cpu@{digest_of_bytes(b'other')}",
        f"registry.example/cpu@{MANIFEST}\n",
    ],
)
def test_an_image_is_referenced_by_digest_only(reference: str) -> None:
    image = Image(known=Knowledge.ASSERTED, reference=reference, manifest=MANIFEST)
    with pytest.raises(DocumentError, match="which is not a repository@digest"):
        image_name(a_record(image=image))


def test_a_record_without_an_image_is_rejected_with_a_hint() -> None:
    image = Image(known=Knowledge.UNKNOWN, reason="nothing was provided")
    with pytest.raises(IrreproducibleError, match="nothing was provided") as caught:
        image_name(a_record(image=image, layers=None))
    assert "--no-container" in str(caught.value.hint)


def test_a_null_within_a_list_is_passed_as_an_option() -> None:
    values: dict[str, JsonValue] = {"limits": [1, None], "table": {"a": [None]}, "sizes": [1]}
    again = rerun_arguments(a_record(settings=values, origins=dict.fromkeys(values, "command line")))
    assert again.words("f")[3:] == ["--limits=[1, null]", '--table={"a": [null]}']
    assert b"sizes" in again.file()


CONFIG, LAYER = (digest_of_bytes(word) for word in (b"config", b"layer"))
REFERENCE = f"registry.example/team/cpu@{MANIFEST}"
FOUND = ImageFacts(id=MANIFEST, tags=(), references=(REFERENCE,), layers=(LAYER,), size=1, created="")
NAME = ImageName(manifest=MANIFEST, config=CONFIG, reference=REFERENCE, layers=[LAYER])


def test_an_image_is_found_by_its_manifest() -> None:
    elsewhere = replace(FOUND, references=(f"localhost/x@{MANIFEST}",))
    assert find_image(NAME, engine=MemoryEngine(images_by_id={MANIFEST: elsewhere})) == elsewhere


def test_an_image_is_found_by_its_config_in_a_store_without_manifests() -> None:
    image = replace(FOUND, id=CONFIG, references=())
    assert find_image(NAME, engine=MemoryEngine(images_by_id={CONFIG: image})) == image


def test_an_image_with_other_layers_is_rejected() -> None:
    other = replace(FOUND, layers=(digest_of_bytes(b"other"),))
    assert find_image(NAME, engine=MemoryEngine(images_by_id={MANIFEST: other})) is None


def test_a_missing_image_is_pulled_from_its_registry() -> None:
    engine = MemoryEngine(registries={REFERENCE: FOUND})
    assert is_in_registry(NAME, engine=engine)
    assert obtain_image(NAME, engine=engine).id == MANIFEST


def test_another_image_from_the_registry_is_rejected() -> None:
    engine = MemoryEngine(registries={REFERENCE: replace(FOUND, layers=())})
    with pytest.raises(EngineError, match="is not the recorded image"):
        obtain_image(NAME, engine=engine)


def test_a_missing_local_image_has_a_hint_to_build_it() -> None:
    name = NAME.model_copy(update={"reference": f"localhost/reprise/cpu@{MANIFEST}"})
    assert not is_in_registry(name, engine=MemoryEngine())
    with pytest.raises(ImageMissingError) as caught:
        obtain_image(name, engine=MemoryEngine())
    assert "image build" in str(caught.value.hint)
