"""The settings of pip and uv that a build gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.environments.package_indexes import Indexes, read_indexes

if TYPE_CHECKING:
    from pathlib import Path


def indexes_of(folder: Path, *, conf: str = "", **environ: str) -> Indexes:
    """Return the settings of a home folder with this pip.conf."""
    (folder / ".config" / "pip").mkdir(parents=True)
    (folder / ".config" / "pip" / "pip.conf").write_text(conf)
    return read_indexes(environ, home=folder, system=[])


def test_without_settings_nothing_is_passed(tmp_path: Path) -> None:
    assert indexes_of(tmp_path) == Indexes(variables={}, folders=(), left_out=())


def test_pips_configuration_applies_to_uv(tmp_path: Path) -> None:
    found = indexes_of(tmp_path, conf="[global]\nindex-url = https://mirror.example/simple\n")
    assert found.variables == dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), "https://mirror.example/simple")


def test_the_environment_overrides_the_file_and_uv_overrides_pip(tmp_path: Path) -> None:
    conf = "[global]\nindex-url = https://file.example/simple\n"
    found = indexes_of(
        tmp_path, conf=conf, PIP_INDEX_URL="https://pip.example/", UV_DEFAULT_INDEX="https://uv.example/"
    )
    assert set(found.variables.values()) == {"https://uv.example/"}


def test_a_folder_of_wheels_is_mounted_and_not_passed_as_an_index(tmp_path: Path) -> None:
    found = indexes_of(tmp_path, PIP_FIND_LINKS=f"{tmp_path} https://wheels.example/")
    assert found.folders == (tmp_path,)
    assert found.variables == {"UV_FIND_LINKS": "https://wheels.example/"}


def test_an_index_that_is_a_folder_is_omitted_with_a_note(tmp_path: Path) -> None:
    found = indexes_of(tmp_path, conf=f"[global]\nextra-index-url = file://{tmp_path} https://more.example/simple\n")
    assert found.left_out == (f"file://{tmp_path}",)
    assert found.variables["UV_INDEX"] == "https://more.example/simple"


def test_an_index_on_loopback_is_detected(tmp_path: Path) -> None:
    assert indexes_of(tmp_path, PIP_INDEX_URL="http://user:word@127.0.0.1:3141/simple").on_loopback


def test_written_values_round_trip_through_the_shell(tmp_path: Path) -> None:
    found = indexes_of(tmp_path, PIP_INDEX_URL="https://a:b'c d@mirror.example/")
    assert "UV_DEFAULT_INDEX='https://a:b'\"'\"'c d@mirror.example/'\n" in found.as_shell()
