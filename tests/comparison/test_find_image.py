"""Finding the image that a record names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.environments.engine.memory import MemoryEngine
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import EngineError, ImageMissingError
from trainer.comparison.find_image import find_image, obtain_image, obtainable
from trainer.comparison.rerun import ImageName
from trainer.environments.engine import ImageFacts

MANIFEST, CONFIG, LAYER = (digest_of_bytes(word) for word in (b"manifest", b"config", b"layer"))
REFERENCE = f"registry.example/team/cpu@{MANIFEST}"
IMAGE = ImageFacts(id=MANIFEST, tags=(), references=(REFERENCE,), layers=(LAYER,), size=1, created="")
NAME = ImageName(manifest=MANIFEST, config=CONFIG, reference=REFERENCE, layers=[LAYER])


def test_an_image_is_found_by_its_manifest() -> None:
    """Under whatever repository it is kept here."""
    elsewhere = replace(IMAGE, references=(f"localhost/x@{MANIFEST}",))
    assert find_image(NAME, engine=MemoryEngine(held={MANIFEST: elsewhere})) == elsewhere


def test_an_image_is_found_by_its_config_where_no_manifests_are_kept() -> None:
    """The classic store names images so."""
    image = replace(IMAGE, id=CONFIG, references=())
    assert find_image(NAME, engine=MemoryEngine(held={CONFIG: image})) == image


def test_an_image_with_other_layers_is_not_the_one() -> None:
    """What an engine calls by the digest must hold what the record says."""
    other = replace(IMAGE, layers=(digest_of_bytes(b"other"),))
    assert find_image(NAME, engine=MemoryEngine(held={MANIFEST: other})) is None


def test_an_image_that_is_not_here_comes_from_its_registry() -> None:
    """By digest, and only if it is the one."""
    engine = MemoryEngine(registries={REFERENCE: IMAGE})
    assert obtainable(NAME, engine=engine)
    assert obtain_image(NAME, engine=engine).id == MANIFEST


def test_another_image_from_the_registry_is_refused() -> None:
    """Its layers are not the record's."""
    engine = MemoryEngine(registries={REFERENCE: replace(IMAGE, layers=())})
    with pytest.raises(EngineError, match="is not the image of the record"):
        obtain_image(NAME, engine=engine)


def test_an_image_that_was_only_ever_local_says_how_to_make_it_again() -> None:
    """No registry is asked for it."""
    name = NAME.model_copy(update={"reference": f"localhost/reprise/cpu@{MANIFEST}"})
    assert not obtainable(name, engine=MemoryEngine())
    with pytest.raises(ImageMissingError) as caught:
        obtain_image(name, engine=MemoryEngine())
    assert "image build" in str(caught.value.hint)
