"""The differences between two records: all facts that can affect a result, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comparison.test_verdict import make_record
from tests.records import circumstances, ingredients, record
from trainer.base.digest import digest_of_bytes
from trainer.runs.differences import Candidate, DifferenceKind, candidates
from trainer.runs.record import DatasetIngredient, Determinism, Device, Distribution, Gpu, Imported, Inventory, Record

ONE, TWO = digest_of_bytes(b"1"), digest_of_bytes(b"2")


def altered_record(*, around: dict[str, Any] | None = None, **changed: Any) -> Record:
    """Return the default record with changed ingredients and circumstances."""
    usual = make_record({})
    happened = circumstances().model_copy(update=around or {})
    return usual.model_copy(update={"ingredients": ingredients(**changed), "circumstances": happened})


def find_differences(b: Record, a: Record | None = None) -> list[tuple[DifferenceKind, str, str, str]]:
    return [(each.kind, each.name, each.a, each.b) for each in candidates(a or make_record({}), b)]


def test_equal_records_have_no_differences() -> None:
    around = {"command": ["x"], "host": circumstances().host.model_copy(update={"name": "another"})}
    assert find_differences(altered_record(around=around)) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"experiment": "faces"}, (DifferenceKind.EXPERIMENT, "experiment", "digits", "faces")),
        ({"settings": {"seed": 1, "learning_rate": 0.001}}, (DifferenceKind.SETTING, "seed", "0", "1")),
        ({"settings": {"seed": 0}}, (DifferenceKind.SETTING, "learning_rate", "0.001", "absent")),
        ({"lock": None}, (DifferenceKind.LOCK, "uv.lock", digest_of_bytes(b"lock"), "unknown")),
        ({"layers": [digest_of_bytes(b"layer"), ONE]}, (DifferenceKind.LAYER, "layer 2", "absent", ONE)),
        ({"determinism": Determinism(level="off", threads=2)}, (DifferenceKind.DETERMINISM, "level", "machine", "off")),
        (
            {"device": Device(accelerator="cuda", world_size=1, precision="32-true")},
            (DifferenceKind.DEVICE, "accelerator", "cpu", "cuda"),
        ),
        (
            {"datasets": {"faces": DatasetIngredient(version=2, content=ONE)}},
            (DifferenceKind.DATASET, "faces", "absent", f"{ONE} (version 2)"),
        ),
    ],
)
def test_each_ingredient_is_listed_by_name_with_both_values(
    changed: dict[str, Any], expected: tuple[DifferenceKind, str, str, str]
) -> None:
    assert find_differences(altered_record(**changed)) == [expected]
    assert all(each.ingredient for each in candidates(make_record({}), altered_record(**changed)))


def test_the_locks_packages_of_other_environments_are_ignored() -> None:
    a = altered_record(lock=ONE, requirements=ONE)
    assert find_differences(altered_record(lock=TWO, requirements=ONE), a) == []
    assert find_differences(altered_record(lock=TWO, requirements=TWO), a) == [
        (DifferenceKind.LOCK, "uv.lock", ONE, TWO)
    ]


def test_a_record_without_requirements_is_compared_by_the_whole_lock() -> None:
    assert find_differences(altered_record(lock=TWO), altered_record(lock=ONE, requirements=ONE)) == [
        (DifferenceKind.LOCK, "uv.lock", ONE, TWO)
    ]
    assert find_differences(altered_record(lock=ONE), altered_record(lock=ONE, requirements=ONE)) == []


def test_a_setting_is_listed_with_its_origins() -> None:
    b = altered_record(
        settings={"seed": 0, "learning_rate": 0.0010000000000000002}, around={"origins": {"learning_rate": "file"}}
    )
    assert candidates(make_record({}), b) == [
        Candidate(
            kind=DifferenceKind.SETTING,
            name="learning_rate",
            a="0.001",
            b="0.0010000000000000002",
            ingredient=True,
            from_a="command line",
            from_b="file",
        )
    ]


def test_packages_are_listed_as_added_removed_changed_and_altered() -> None:
    before = {
        "gone": Distribution(version="1"),
        "up": Distribution(version="1"),
        "same": Distribution(version="1", record=ONE),
    }
    after = {
        "new": Distribution(version="1"),
        "up": Distribution(version="2"),
        "same": Distribution(version="1", record=TWO),
    }
    a, b = (
        altered_record(around={"inventory": Inventory(python="3.11.2", distributions=side)}) for side in (before, after)
    )
    assert find_differences(b, a) == [
        (DifferenceKind.PACKAGE, "gone", "1", "absent"),
        (DifferenceKind.PACKAGE, "new", "absent", "1"),
        (DifferenceKind.PACKAGE, "same", f"1, files {ONE[:19]}", f"1, files {TWO[:19]}"),
        (DifferenceKind.PACKAGE, "up", "1", "2"),
    ]
    assert find_differences(b) == []
    assert not any(each.ingredient for each in candidates(a, b))


def test_libraries_are_compared_by_name_in_any_folder() -> None:
    sides = ({"/opt/a/libx.so": 1, "/opt/a/liby.so": 1}, {"/usr/libx.so": 1, "/usr/liby.so": 2})
    a, b = (altered_record(around={"inventory": Inventory(python="3.11.2", libraries=side)}) for side in sides)
    assert find_differences(b, a) == [(DifferenceKind.LIBRARY, "liby.so", "1 bytes", "2 bytes")]


def test_a_run_that_left_its_determinism_level_differs_from_one_that_did_not() -> None:
    switched = altered_record(around={"determinism_at_end": ["benchmark is True"]})
    assert find_differences(switched) == [
        (DifferenceKind.DETERMINISM, "benchmark is True", "absent", "switched by the net")
    ]
    assert not any(each.ingredient for each in candidates(make_record({}), switched))
    assert find_differences(switched, altered_record(around={"determinism_at_end": ["benchmark is True"]})) == []


def test_a_source_with_equal_imported_files_is_a_circumstance() -> None:
    code = {"imported": Imported(digest=ONE, files=["net.py"])}
    a, b = altered_record(around=code), altered_record(around=code, source=TWO)
    assert [(each.title, each.ingredient) for each in candidates(a, b)] == [
        ("code source, in files that neither run imported", False)
    ]
    c = altered_record(around={"imported": Imported(digest=TWO, files=["net.py"])}, source=TWO)
    for other in (c, altered_record(source=TWO)):
        assert [(each.title, each.ingredient) for each in candidates(a, other)] == [("code source", True)]


def test_hardware_drift_and_variables_are_listed() -> None:
    gpu = Gpu(name="NVIDIA H100", uuid="x", memory=1)
    host = circumstances().host.model_copy(update={"cpu": "other", "gpus": [gpu]})
    b = altered_record(around={"host": host, "variables": {"OMP_NUM_THREADS": "4"}, "drift": []})
    assert [(kind, name) for kind, name, *_ in find_differences(b)] == [
        (DifferenceKind.VARIABLE, "OMP_NUM_THREADS"),
        (DifferenceKind.DRIFT, circumstances().drift[0]),
        (DifferenceKind.HARDWARE, "CPU"),
        (DifferenceKind.HARDWARE, "GPU 0"),
    ]


def test_several_datasets_are_compared_by_role() -> None:
    content, other = digest_of_bytes(b"content"), digest_of_bytes(b"other")
    one = record(ingredients(datasets={"a": DatasetIngredient(version=1, content=content)}))
    roles = {
        "a": DatasetIngredient(version=1, content=content, roles=["train", "val"]),
        "b": DatasetIngredient(version=1, content=other, roles=["test"]),
    }
    (found,) = [each for each in candidates(one, record(ingredients(datasets=roles))) if each.ingredient]
    assert (found.title, found.a, found.b) == (
        "dataset of test",
        f"a, {content} (version 1)",
        f"b, {other} (version 1)",
    )


def test_other_initial_weights_are_a_candidate() -> None:
    weights = digest_of_bytes(b"weights")
    (found,) = [each for each in candidates(record(), record(ingredients(initial_weights=weights))) if each.ingredient]
    assert (found.title, found.a, found.b) == ("initial weights", "the net's own", weights)
