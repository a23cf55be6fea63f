"""Running a record again: what is typed, and what a hostile record cannot have typed."""

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
    """A record of a run in an image; `image` and `execution` go into its circumstances, other words into its ingredients."""
    happened = {"image": other.pop("image", IMAGE), "execution": other.pop("execution", {}), "origins": origins or {}}
    return record(ingredients(settings=settings or {}, **other), circumstances(**happened))


def test_what_was_given_is_given_again_and_defaults_come_from_the_source() -> None:
    """Values travel in a file, at full precision."""
    values: dict[str, JsonValue] = {"learning_rate": 0.1 + 0.2, "seed": 0, "name": "a'b\n\"$(c)"}
    again = rerun_arguments(
        a_record(settings=values, origins={"learning_rate": "command line", "name": "file", "seed": "default"})
    )
    said = tomllib.loads(again.file().decode())
    assert said == {"learning_rate": 0.1 + 0.2, "name": "a'b\n\"$(c)", "accelerator": "cpu", "publish": False}
    assert again.words("/s.toml") == ["train", "--exp=digits", "--settings=/s.toml"]


def test_a_setting_that_was_set_to_nothing_is_said_by_a_word() -> None:
    """A settings file has no word for nothing; a default that is nothing needs none."""
    values: dict[str, JsonValue] = {"clip_norm": None, "max_steps": None}
    again = rerun_arguments(a_record(settings=values, origins={"clip_norm": "command line", "max_steps": "default"}))
    assert again.words("f")[3:] == ["--clip-norm=null"]


def test_the_device_is_the_one_that_was_found() -> None:
    """`auto` is not asked again: on a machine with a GPU it would answer something else."""
    device = Device(accelerator="cuda", world_size=1, precision="32-true")
    again = rerun_arguments(
        a_record(device=device, execution={"accelerator": "auto"}, origins={"accelerator": "default"})
    )
    assert again.settings["accelerator"] == "gpu"


def test_a_run_that_goes_on_is_given_what_it_was_given() -> None:
    """`auto` stays the default that it was, and it publishes and logs as it did."""
    execution: dict[str, JsonValue] = {"accelerator": "auto", "wandb": "offline", "publish": True}
    again = resume_arguments(a_record(execution=execution, origins={"accelerator": "default", "wandb": "command line"}))
    assert again.settings == {"wandb": "offline"}


def test_nothing_is_published_and_nothing_logged_from_inside() -> None:
    """There is neither network nor credential."""
    again = rerun_arguments(a_record(execution={"wandb": "online", "publish": True}, origins={"wandb": "command line"}))
    assert (again.settings["wandb"], again.settings["publish"]) == ("off", False)


@pytest.mark.parametrize("name", ["a b", "--x", "", "X", "a=b", "settings\n", "é", "_a", "a" * 200])
def test_a_setting_with_an_odd_name_is_refused(name: str) -> None:
    """A name becomes an option: it is held to the form of one."""
    with pytest.raises(DocumentError, match="names a setting named"):
        rerun_arguments(a_record(settings={name: 1}, origins={name: "command line"}))


@pytest.mark.parametrize("experiment", ["../../etc/x.py", "/abs.py", "a/../b.py", ""])
def test_an_experiment_out_of_the_source_is_refused(experiment: str) -> None:
    """It is a path below the source, or a name."""
    with pytest.raises(DocumentError, match="the experiment"):
        rerun_arguments(a_record(experiment=experiment))


def test_an_experiment_that_looks_like_an_option_stays_a_value() -> None:
    """One word holds the option and its value."""
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
def test_an_image_is_named_by_digest_or_not_at_all(reference: str) -> None:
    """A tag, a word of a shell, another manifest's digest: none of them is run."""
    image = Image(known=Knowledge.ASSERTED, reference=reference, manifest=MANIFEST)
    with pytest.raises(DocumentError, match="which is not a repository@digest"):
        image_name(a_record(image=image))


def test_a_record_without_an_image_says_what_to_do() -> None:
    """It ran in none that is known: only `--no-container` is left."""
    image = Image(known=Knowledge.UNKNOWN, reason="nothing was provided")
    with pytest.raises(IrreproducibleError, match="nothing was provided") as caught:
        image_name(a_record(image=image, layers=None))
    assert "--no-container" in str(caught.value.hint)


def test_a_null_within_a_list_is_said_by_a_word_too() -> None:
    """TOML has no null."""
    values: dict[str, JsonValue] = {"limits": [1, None], "table": {"a": [None]}, "sizes": [1]}
    again = rerun_arguments(a_record(settings=values, origins=dict.fromkeys(values, "command line")))
    assert again.words("f")[3:] == ["--limits=[1, null]", '--table={"a": [null]}']
    assert b"sizes" in again.file()


CONFIG, LAYER = (digest_of_bytes(word) for word in (b"config", b"layer"))
REFERENCE = f"registry.example/team/cpu@{MANIFEST}"
FOUND = ImageFacts(id=MANIFEST, tags=(), references=(REFERENCE,), layers=(LAYER,), size=1, created="")
NAME = ImageName(manifest=MANIFEST, config=CONFIG, reference=REFERENCE, layers=[LAYER])


def test_an_image_is_found_by_its_manifest() -> None:
    """Under whatever repository it is kept here."""
    elsewhere = replace(FOUND, references=(f"localhost/x@{MANIFEST}",))
    assert find_image(NAME, engine=MemoryEngine(held={MANIFEST: elsewhere})) == elsewhere


def test_an_image_is_found_by_its_config_where_no_manifests_are_kept() -> None:
    """The classic store names images so."""
    image = replace(FOUND, id=CONFIG, references=())
    assert find_image(NAME, engine=MemoryEngine(held={CONFIG: image})) == image


def test_an_image_with_other_layers_is_not_the_one() -> None:
    """What an engine calls by the digest must hold what the record says."""
    other = replace(FOUND, layers=(digest_of_bytes(b"other"),))
    assert find_image(NAME, engine=MemoryEngine(held={MANIFEST: other})) is None


def test_an_image_that_is_not_here_comes_from_its_registry() -> None:
    """By digest, and only if it is the one."""
    engine = MemoryEngine(registries={REFERENCE: FOUND})
    assert is_in_registry(NAME, engine=engine)
    assert obtain_image(NAME, engine=engine).id == MANIFEST


def test_another_image_from_the_registry_is_refused() -> None:
    """Its layers are not the record's."""
    engine = MemoryEngine(registries={REFERENCE: replace(FOUND, layers=())})
    with pytest.raises(EngineError, match="is not the image of the record"):
        obtain_image(NAME, engine=engine)


def test_an_image_that_was_only_ever_local_says_how_to_make_it_again() -> None:
    """No registry is asked for it."""
    name = NAME.model_copy(update={"reference": f"localhost/reprise/cpu@{MANIFEST}"})
    assert not is_in_registry(name, engine=MemoryEngine())
    with pytest.raises(ImageMissingError) as caught:
        obtain_image(name, engine=MemoryEngine())
    assert "image build" in str(caught.value.hint)
