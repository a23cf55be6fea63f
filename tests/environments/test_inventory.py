"""Inventories of installed and loaded software, and their differences."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.environments import inventory
from trainer.environments.inventory import (
    Installed,
    InventoryData,
    distributions,
    drift,
    libraries,
    live,
    locked,
    packages,
    shadowed,
)
from trainer.runs.record import Inventory


def make_inventory(**versions: str) -> InventoryData:
    items = {name: Installed(version=version, record=f"sha256:{0:064}") for name, version in versions.items()}
    return InventoryData(python="3.11.2", distributions=items, system={"libc6": "2.36"}, libraries={}, roots=[])


def test_a_live_inventory_validates_as_part_of_a_record() -> None:
    here = Inventory.model_validate(live())
    assert here.python == sys.version.split()[0]
    assert here.distributions["pydantic"].record is not None
    assert any("libc" in path for path in here.libraries)


def test_the_module_runs_as_a_plain_script_without_packages() -> None:
    command = [sys.executable, "-I", "-S", inventory.__file__]
    done = subprocess.run(command, capture_output=True, check=True, cwd="/")
    document = json.loads(done.stdout)
    assert document.pop("format") == "reprise.inventory/1"
    Inventory.model_validate(document)


def test_the_first_distribution_of_a_name_wins_as_it_does_on_import(tmp_path: Path) -> None:
    for root, version in [("a", "1.0"), ("b", "2.0")]:
        folder = tmp_path / root / f"My_Pack.age-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "RECORD").write_text(version)
    only = distributions([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none")])
    assert {name: item["version"] for name, item in only.items()} == {"my-pack-age": "1.0"}
    assert str(only["my-pack-age"]["record"]).startswith("sha256:")


def test_only_installed_system_packages_count(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: b\nStatus: deinstall ok config-files\nVersion: 2\n"
    )
    assert packages(status) == {"a": "1"}
    assert packages(tmp_path / "none") == {}


def test_libraries_are_read_from_proc_maps(tmp_path: Path) -> None:
    library = tmp_path / "lib with space.so.1"
    library.write_bytes(b"12345")
    maps = tmp_path / "maps"
    line = f"7f00-7f01 r-xp 00000000 08:01 99      {library}"
    maps.write_text(f"{line}\n{line}\n7f00-7f01 rw-p 00000000 00:00 0 [heap]\n7f-80 r-xp 0 0 1 /gone.so\n")
    assert libraries(maps) == {str(library): 5}


def test_equal_inventories_do_not_drift() -> None:
    assert drift(make_inventory(numpy="2.3"), make_inventory(numpy="2.3")) == []


def test_drift_names_each_kind_of_difference() -> None:
    baked, here = (
        make_inventory(numpy="2.3", torch="2.13", gone="1"),
        make_inventory(numpy="2.0", torch="2.13", new="3"),
    )
    here["distributions"]["torch"]["record"] = f"sha256:{1:064}"
    here["python"] = "3.12.1"
    here["system"] = {"libc6": "2.40"}
    assert drift(baked, here) == [
        "Python: 3.12.1 here, 3.11.2 in the image",
        "distribution numpy: 2.0 here, 2.3 in the image",
        "distributions here and not in the image: new 3",
        "distributions in the image and not here: gone 1",
        "distribution torch 2.13: its files are not those of the image",
        "system package libc6: 2.40 here, 2.36 in the image",
    ]


def test_without_an_image_packages_are_compared_with_the_lock() -> None:
    lock = '[[package]]\nname = "torch"\nversion = "2.13.0"\n\n[[package]]\nname = "torch"\nversion = "2.13.0+cpu"\n'
    assert locked(lock) == {"torch": {"2.13.0", "2.13.0+cpu"}}
    assert drift(None, make_inventory(torch="2.13.0+cpu"), lock=lock) == []
    assert drift(None, make_inventory(torch="2.11.0", other="1"), lock=lock) == [
        "distribution torch: 2.11.0 here, 2.13.0 or 2.13.0+cpu in the lock",
        "distributions here and not in the lock: other 1",
    ]
    assert "nothing to compare with" in drift(None, make_inventory())[0]


@pytest.mark.parametrize(("file", "hidden"), [("json.py", "json"), ("numpy/__init__.py", "numpy"), ("mine.py", "")])
def test_modules_that_shadow_installed_ones_are_named(tmp_path: Path, file: str, hidden: str) -> None:
    early, site = tmp_path / "early", tmp_path / "site-packages"
    for path in [early / file, site / "numpy" / "__init__.py"]:
        path.parent.mkdir(parents=True)
        path.write_text("")
    roots = [str(early), str(Path(json.__file__).parents[1]), str(site)]
    named = list(shadowed(roots))
    assert named == ([f"module {hidden} comes from {early}, which hides the installed one"] if hidden else [])


def test_taking_inventory_opens_one_file_for_each_package() -> None:
    """Opened files are counted, because a duration depends on the machine's load."""
    code = (
        "import sys\nfrom importlib.metadata import distributions\nfrom trainer.environments.inventory import live\n"
        "count, opened = len([*distributions()]), []\n"
        "sys.addaudithook(lambda event, _: opened.append(event) if event == 'open' else None)\n"
        "live()\nprint(count, len(opened))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    count, opened = map(int, done.stdout.split())
    assert opened < count + 50
