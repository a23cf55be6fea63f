"""Running a record again: what is typed, and what a hostile record cannot have typed."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.records import circumstances, ingredients, record
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DocumentError, IrreproducibleError
from trainer.comparison.rerun import going_on, image_name, rerun
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
    again = rerun(
        a_record(settings=values, origins={"learning_rate": "command line", "name": "file", "seed": "default"})
    )
    said = tomllib.loads(again.file().decode())
    assert said == {"learning_rate": 0.1 + 0.2, "name": "a'b\n\"$(c)", "accelerator": "cpu", "publish": False}
    assert again.words("/s.toml") == ["train", "--exp=digits", "--settings=/s.toml"]


def test_a_setting_that_was_set_to_nothing_is_said_by_a_word() -> None:
    """A settings file has no word for nothing; a default that is nothing needs none."""
    values: dict[str, JsonValue] = {"clip_norm": None, "max_steps": None}
    again = rerun(a_record(settings=values, origins={"clip_norm": "command line", "max_steps": "default"}))
    assert again.words("f")[3:] == ["--clip-norm=null"]


def test_the_device_is_the_one_that_was_found() -> None:
    """`auto` is not asked again: on a machine with a GPU it would answer something else."""
    device = Device(accelerator="cuda", world_size=1, precision="32-true")
    again = rerun(a_record(device=device, execution={"accelerator": "auto"}, origins={"accelerator": "default"}))
    assert again.settings["accelerator"] == "gpu"


def test_a_run_that_goes_on_is_given_what_it_was_given() -> None:
    """`auto` stays the default that it was, and it publishes and logs as it did."""
    execution: dict[str, JsonValue] = {"accelerator": "auto", "wandb": "offline", "publish": True}
    again = going_on(a_record(execution=execution, origins={"accelerator": "default", "wandb": "command line"}))
    assert again.settings == {"wandb": "offline"}


def test_nothing_is_published_and_nothing_logged_from_inside() -> None:
    """There is neither network nor credential."""
    again = rerun(a_record(execution={"wandb": "online", "publish": True}, origins={"wandb": "command line"}))
    assert (again.settings["wandb"], again.settings["publish"]) == ("off", False)


@pytest.mark.parametrize("name", ["a b", "--x", "", "X", "a=b", "settings\n", "é", "_a", "a" * 200])
def test_a_setting_with_an_odd_name_is_refused(name: str) -> None:
    """A name becomes an option: it is held to the form of one."""
    with pytest.raises(DocumentError, match="names a setting named"):
        rerun(a_record(settings={name: 1}, origins={name: "command line"}))


@pytest.mark.parametrize("experiment", ["../../etc/x.py", "/abs.py", "a/../b.py", ""])
def test_an_experiment_out_of_the_source_is_refused(experiment: str) -> None:
    """It is a path below the source, or a name."""
    with pytest.raises(DocumentError, match="the experiment"):
        rerun(a_record(experiment=experiment))


def test_an_experiment_that_looks_like_an_option_stays_a_value() -> None:
    """One word holds the option and its value."""
    assert rerun(a_record(experiment="--trust")).words("f")[1] == "--exp=--trust"


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
    with pytest.raises(DocumentError, match="which is no repository@digest"):
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
    again = rerun(a_record(settings=values, origins=dict.fromkeys(values, "command line")))
    assert again.words("f")[3:] == ["--limits=[1, null]", '--table={"a": [null]}']
    assert b"sizes" in again.file()
