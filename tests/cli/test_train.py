"""The launcher: what is refused before torch or any experiment is imported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.cli.experiments import experiment_names, find_experiment
from trainer.cli.train import check_environment, check_lock, device_for, from_checkout, main, understood
from trainer.determinism import Level
from trainer.digest import digest_of_bytes
from trainer.errors import (
    DatasetError,
    DeviceError,
    EnvironmentNameError,
    ExperimentError,
    LockError,
    RepriseError,
    SettingError,
    UsageError,
)
from trainer.host.image_claim import Baked, Claim
from trainer.origins import take_apart
from trainer.record import Image, Knowledge
from trainer.settings import LaunchSettings

ROOT = Path(__file__).parents[2]


def claimed(lock: bytes) -> Claim:
    """Be in an image that was built from `lock`."""
    some = digest_of_bytes(b"")
    baked = Baked(format="reprise.image/1", environment="cpu", build_id=some, lock=digest_of_bytes(lock))
    return Claim(image=Image(known=Knowledge.UNKNOWN, environment="cpu"), layers=None, baked=baked)


def test_an_unknown_experiment_is_told_the_nearest() -> None:
    """Before anything is imported or written."""
    with pytest.raises(ExperimentError, match="unknown experiment 'digitz'") as caught:
        find_experiment("digitz", checkout=ROOT, here=ROOT)
    assert caught.value.hint == "did you mean digits?"


def test_the_launcher_imports_no_torch() -> None:
    """An unknown experiment fails in a process that never loaded it."""
    code = "import sys, trainer.cli.train; print(sorted({'torch', 'lightning', 'numpy', 'boto3'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_is_an_experiment(tmp_path: Path) -> None:
    """Inside of the checkout by its path there; from outside it is brought into the source."""
    mine = tmp_path / "mine.py"
    mine.touch()
    place = find_experiment("mine.py", checkout=ROOT, here=tmp_path)
    assert (place.name, place.outside) == ("experiment/mine.py", mine)
    assert find_experiment("trainer/experiments/digits.py", checkout=ROOT, here=ROOT).name == "digits"


def test_words_are_read_from_the_checkouts_root_in_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that was typed in another folder is told as it is there; the other words stay as they were, in their order."""
    monkeypatch.chdir(ROOT / "trainer" / "experiments")
    words = ["--seed", "2", "--exp", "digits.py", "--settings=../../pyproject.toml"]
    asked = replace(understood([*words, "--help"], take_apart([*words, "--help"])), argv=words)
    assert from_checkout(asked) == ["--seed", "2", "--exp", "digits", "--settings=pyproject.toml"]
    with pytest.raises(UsageError, match="outside of the checkout"):
        from_checkout(replace(asked, file=tmp_path / "mine.toml"))


@pytest.mark.parametrize("text", ["none.py", "docs/", "README.md/x"])
def test_what_is_no_file_is_no_experiment(text: str) -> None:
    """A path that leads nowhere is said to."""
    with pytest.raises(ExperimentError, match="is no"):
        find_experiment(text, checkout=ROOT, here=ROOT)


def test_train_without_an_experiment_lists_them() -> None:
    """The hint is the list."""
    with pytest.raises(UsageError, match="--exp NAME") as caught:
        main([])
    assert all(name in str(caught.value.hint) for name in experiment_names(ROOT))


@pytest.mark.parametrize(
    ("argv", "kind", "said"),
    [
        (["--learning-rat", "1"], SettingError, "unknown setting --learning-rat"),
        (["--learning-rate", "abc"], SettingError, "expected a number, found 'abc'"),
        (["--dataset", "digitz"], DatasetError, "dataset 'digitz' is not declared"),
        (["--dataset", "diabetes"], SettingError, "the fields of dataset diabetes are features, target"),
    ],
)
def test_what_its_text_shows_to_be_wrong_is_refused_at_once(
    argv: list[str], kind: type[RepriseError], said: str
) -> None:
    """Without importing torch or the experiment, and before any folder is made."""
    with pytest.raises(kind, match=said):
        main(["--exp", "digits", *argv])


def test_another_lock_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """What would run is not what the checkout's lock says."""
    (tmp_path / "uv.lock").write_bytes(b"mine")
    check_lock(claimed(b"mine"), tmp_path)
    with pytest.raises(LockError, match="this image was built from") as caught:
        check_lock(claimed(b"theirs"), tmp_path)
    assert caught.value.hint == "build it anew: scripts/reprise image build cpu"


def test_another_environment_is_refused() -> None:
    """The one that was asked for is not silently another."""
    check_environment(claimed(b""), LaunchSettings(environment="cpu"))
    with pytest.raises(EnvironmentNameError, match="'cuda'; this process runs in cpu"):
        check_environment(claimed(b""), LaunchSettings(environment="cuda"))


@pytest.mark.parametrize(
    ("asked", "gpus", "torch", "device"),
    [
        ("auto", [], "2.13.0+cpu", "cpu"),
        ("auto", ["nvidia0"], "2.13.0+cu130", "gpu"),
        ("cpu", ["nvidia0"], "2.13.0+cpu", "cpu"),
    ],
)
def test_the_device_follows_from_what_is_there(asked: str, gpus: list[str], torch: str, device: str) -> None:
    """`auto` is the GPU where there is one."""
    assert device_for(asked, gpus=gpus, torch=torch) == device


@pytest.mark.parametrize(
    ("asked", "gpus", "said"),
    [("auto", ["nvidia0"], "built for CPUs"), ("gpu", ["nvidia0"], "built for CPUs"), ("gpu", [], "no GPU")],
)
def test_a_gpu_is_never_passed_over_in_silence(asked: str, gpus: list[str], said: str) -> None:
    """The remedy is named."""
    with pytest.raises(DeviceError, match=said) as caught:
        device_for(asked, gpus=gpus, torch="2.13.0+cpu")
    assert "--accelerator cpu" in str(caught.value.hint)


def test_portable_is_of_cpus_only() -> None:
    """A GPU is left alone at `auto`, and refused where it is asked for."""
    assert device_for("auto", gpus=["nvidia0"], torch="2.13.0+cu130", level=Level.PORTABLE) == "cpu"
    with pytest.raises(SettingError, match="on CPUs only"):
        device_for("gpu", gpus=["nvidia0"], torch="2.13.0+cu130", level=Level.PORTABLE)


def test_a_setting_without_a_type_is_refused_with_the_line_to_write(tmp_path: Path) -> None:
    """At once, with file and line."""
    mine = tmp_path / "idea.py"
    mine.write_text(
        "from trainer.training.classification import ClassificationSettings\n"
        "class Settings(ClassificationSettings):\n    dropout = 0.1\n"
    )
    with pytest.raises(ExperimentError, match=r"^idea\.py:3: setting dropout has no type") as caught:
        main(["--exp", str(mine)])
    assert caught.value.hint == "give `dropout` a type, e.g. `dropout: float = 0.1`"
