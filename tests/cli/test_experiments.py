"""Finding an experiment by name or path, also through links."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.base.errors import ExperimentError
from trainer.cli import experiments
from trainer.cli.experiments import FOLDER, find_experiment


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / FOLDER).mkdir(parents=True)
    for path in (root / FOLDER / "digits.py", root / "mine.py", tmp_path / "outside.py", tmp_path / "folder/theirs.py"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    return root


def create_link(path: Path, target: Path | str) -> None:
    path.symlink_to(target)


@pytest.mark.parametrize(("path", "word"), [("link.py", "link.py"), (f"{FOLDER}/linked.py", "linked")])
def test_the_target_of_a_link_out_of_the_checkout_is_copied(
    checkout: Path, tmp_path: Path, path: str, word: str
) -> None:
    create_link(checkout / path, tmp_path / "outside.py")
    place = find_experiment(word, checkout=checkout, here=checkout)
    assert (place.name, place.outside) == ("experiment/outside.py", tmp_path / "outside.py")


def test_a_file_in_a_linked_folder_is_copied(checkout: Path, tmp_path: Path) -> None:
    create_link(checkout / "linked", tmp_path / "folder")
    place = find_experiment("linked/theirs.py", checkout=checkout, here=checkout)
    assert place.outside == tmp_path / "folder/theirs.py"


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_inside_the_checkout_resolves_to_its_target(checkout: Path, *, absolute: bool) -> None:
    create_link(checkout / FOLDER / "linked.py", checkout / "mine.py" if absolute else "../../mine.py")
    place = find_experiment("linked", checkout=checkout, here=checkout)
    assert (place.name, place.file, place.outside) == ("mine.py", Path("mine.py"), None)


@pytest.mark.host
@pytest.mark.parametrize(
    ("path", "target", "word", "shown"),
    [
        ("link.py", "/host/only.py", "link.py", "/host/only.py"),
        (f"{FOLDER}/linked.py", "/host/only.py", "linked", "/host/only.py"),
        ("linked", "/host/folder", "linked/a/theirs.py", "/host/folder/a/theirs.py"),
        ("loop.py", "loop.py", "loop.py", "loop.py"),
    ],
)
def test_a_broken_link_is_reported_with_its_target(
    checkout: Path, path: str, target: str, word: str, shown: str
) -> None:
    create_link(checkout / path, target)
    with pytest.raises(ExperimentError, match=f"experiment {word} is a link to {shown}, which does not exist") as error:
        find_experiment(word, checkout=checkout, here=checkout)
    assert error.value.hint == f"correct the link: ln -sfn FILE {path}; or remove it"


def test_a_container_reports_that_it_cannot_see_the_target_of_a_link_out_of_the_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "IMAGE_FILE", tmp_path)
    create_link(checkout / "out.py", "../elsewhere/theirs.py")
    create_link(checkout / "in.py", "gone.py")
    with pytest.raises(ExperimentError, match="which is not in this container: only the checkout is mounted") as error:
        find_experiment("out.py", checkout=checkout, here=checkout)
    assert error.value.hint == "scripts/train --exp out.py copies the file; or copy it yourself"
    with pytest.raises(ExperimentError, match=r"in\.py is a link to gone\.py, which does not exist"):
        find_experiment("in.py", checkout=checkout, here=checkout)


def test_a_missing_file_is_an_error_that_lists_the_experiments(checkout: Path) -> None:
    with pytest.raises(ExperimentError, match=r"experiment gone\.py is not a file") as error:
        find_experiment("gone.py", checkout=checkout, here=checkout)
    assert "digits" in str(error.value.hint)


def test_a_missing_file_is_an_error_that_suggests_a_file_beside_it(checkout: Path) -> None:
    (checkout / "theirs").mkdir()
    (checkout / "theirs/idea.py").touch()
    for text in ("theirs/idae.py", "./theirs/Idea.py"):
        with pytest.raises(ExperimentError, match="is not a file") as error:
            find_experiment(text, checkout=checkout, here=checkout)
        assert error.value.hint == "did you mean theirs/idea.py?"
