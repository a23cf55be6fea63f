"""Weights & Biases, the real library without its server: the content of its files."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.runs.runs import start_run
from tests.training.conftest import EXPERIMENT, Checkout
from trainer.base.errors import SettingError
from trainer.runs.run import load_record
from trainer.training.logs.wandb_page import _named, facts, pages

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch.loggers import Logger

    from trainer.runs.record import Record

pytestmark = pytest.mark.torch

PLANTED: Final = {
    "WANDB_API_KEY": "planted0wandb" + "0" * 27,
    "AWS_ACCESS_KEY_ID": "planted1aws",
    "AWS_SECRET_ACCESS_KEY": "planted2aws",
    "AWS_SESSION_TOKEN": "planted3aws",
    "REPRISE_SETTING_TOKEN": "planted4setting",
    "MY_COMPANY_PASSWORD": "planted5other",
}
SECRETIVE: Final = (
    EXPERIMENT.replace("from torch import", "from trainer.settings.fields import SecretStr\nfrom torch import", 1)
    .replace("    breaks: bool = False", '    breaks: bool = False\n    token: SecretStr = SecretStr("")')
    .replace("breaks: bool) -> None:", "breaks: bool, token: SecretStr) -> None:")
    .replace("self.breaks = breaks", "self.breaks = breaks and not token.get_secret_value()")
)


def train(checkout: Checkout, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (checkout.root / "secretive.py").write_text(SECRETIVE)
    planted = checkout.environ | PLANTED | {"HOME": str(checkout.root.parent)} | environ
    return subprocess.run(
        [sys.executable, "-m", "trainer", "train", "--exp", "secretive.py", "--max-epochs", "1", *words],
        cwd=checkout.root,
        env={name: value for name, value in planted.items() if value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def newest_attempt(checkout: Checkout) -> tuple[Path, Record]:
    attempt = max((checkout.root / "runs").glob("*/attempts/1"))
    return attempt, load_record(attempt / "record.json")


def wandb_files(attempt: Path) -> bytes:
    """Return all files that the library wrote, including logs."""
    return b"".join(path.read_bytes() for path in sorted((attempt / "wandb").rglob("*")) if path.is_file())


@pytest.mark.trains
@pytest.mark.parametrize(
    ("requested", "mode"), [("offline", ""), pytest.param("online", "offline", marks=pytest.mark.long)]
)
def test_offline_files_hold_digests_and_no_secret(checkout: Checkout, requested: str, mode: str) -> None:
    done = train(checkout, "--wandb", requested, WANDB_MODE=mode)
    assert done.returncode == 0, done.stderr
    attempt, record = newest_attempt(checkout)
    found = wandb_files(attempt)
    ingredients = record.ingredients
    digests = [
        record.identity,
        ingredients.source,
        ingredients.datasets["dots"].content,
        record.circumstances.manifests["dots"],
    ]
    digests += [digest for digest in (ingredients.lock, record.circumstances.image.config) if digest]
    for text in (record.run, *digests, "learning_rate", "val_accuracy", "telemetry/samples_per_second"):
        assert text.encode() in found, text
    everything = found + b"".join(path.read_bytes() for path in attempt.rglob("*") if path.is_file())
    for secret in PLANTED.values():
        assert secret.encode() not in everything, secret
    for useless in (platform.node(), "requirements.txt", "wandb-metadata.json", "--max-epochs"):
        assert not re.search(rb"(?<!\w)%s(?!\w)" % re.escape(useless.encode()), found), useless


@pytest.mark.trains
def test_online_mode_without_a_key_is_rejected_before_the_first_step(checkout: Checkout) -> None:
    before = set((checkout.root / "runs").iterdir())
    done = train(checkout, "--wandb", "online", WANDB_API_KEY="", WANDB_MODE="")
    assert done.returncode != 0
    assert "reprise: --wandb online: " in done.stderr
    assert "WANDB_API_KEY" in done.stderr
    assert set((checkout.root / "runs").iterdir()) == before


def test_a_resumed_run_without_a_server_is_not_rejected_and_its_gap_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    first = start_run(tmp_path / "runs").record
    reported: dict[str, str] = {}

    def start(record: Record) -> list[Logger]:
        return pages(tmp_path, record, reported.setdefault, project="p", offline=False)

    with pytest.raises(SettingError, match="--wandb online: ") as caught:
        start(first)
    assert reported == {}
    assert start(first.model_copy(update={"attempt": 2})) == []
    ((name, reason),) = reported.items()
    assert (name, caught.value.message in reason) == ("logs of WandbLogger", True)
    assert reason.endswith("; training continues, and these logs have a gap")


def test_a_page_has_settings_by_name_and_other_inputs_by_digest(tmp_path: Path) -> None:
    first = start_run(tmp_path / "runs").record
    again = first.model_copy(update={"attempt": 2})
    result = facts(first)
    assert result["learning_rate"] == 0.001
    assert result["reprise"]["identity"] == first.identity
    assert result["reprise"]["ingredients"]["source"] == first.ingredients.source
    assert "command" not in str(result)
    assert [_named(each)["id"] for each in (first, again)] == [first.run, f"{first.run}-2"]
    assert _named(first)["group"] == _named(again)["group"] == first.run
