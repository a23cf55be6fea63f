"""The page of a run on Weights & Biases: its metrics, and the inputs of the run from its record.

The library's automatic metadata (command line, host, user, git remote, packages, terminal output) is disabled: the record has the relevant
facts, and a command line or an output may contain private data. Records do not contain secret settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.base.errors import SettingError
from trainer.training.logs.guarded_loggers import guard, report_failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lightning.pytorch.loggers import Logger, WandbLogger

    from trainer.runs.record import Record
    from trainer.training.logs.guarded_loggers import Report

    Say = Callable[[str], None]


def pages(folder: Path, record: Record | None, report: Report, *, project: str, offline: bool) -> list[Logger]:
    """Return the guarded logger for the folder of an attempt.

    If a resumed run's page cannot be created, report that and return an empty list.
    """
    try:
        return [guard(page(folder, record, project=project, offline=offline), report)]
    except SettingError as fault:
        if record is None or record.attempt == 1:
            raise
        report_failure(report, "WandbLogger", fault)
        return []


def page(folder: Path, record: Record | None, *, project: str, offline: bool) -> WandbLogger:
    """Return the logger for the folder of an attempt; WANDB_MODE=offline also selects offline mode.

    Raise `SettingError` in online mode without a key, or if the server is unreachable.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        host="",
        program="reprise",
        save_code=False,
        silent=True,
        symlink=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    logger = WandbLogger(
        project=project,
        save_dir=folder,
        offline=offline,
        log_model=False,
        settings=settings,
        config=facts(record) if record else None,
        **_named(record) if record else {},
    )
    logger._wandb_init.pop("anonymous", None)  # noqa: SLF001 - wandb warns about `anonymous`, which Lightning always passes
    if not offline:
        try:  # create the page before the first step
            _ = logger.experiment
        except (wandb.Error, ValueError) as fault:
            hint = "set WANDB_API_KEY in the shell or in .env, or use --wandb offline"
            raise SettingError(f"--wandb online: {str(fault).splitlines()[0]}", hint=hint) from fault
    return logger


def facts(record: Record) -> dict[str, Any]:
    """Return the content of the page: the settings by name, and under `reprise` the digests of the inputs of the run."""
    circumstances = record.circumstances
    return {
        **record.ingredients.settings,
        "reprise": {
            "run": record.run,
            "attempt": record.attempt,
            "identity": record.identity,
            "ingredients": record.ingredients.model_dump(mode="json", exclude={"settings"}),
            "manifests": circumstances.manifests,
            "image": circumstances.image.model_dump(mode="json", exclude_none=True),
            "commit": circumstances.source.commit,
            "dirty": circumstances.source.dirty,
        },
    }


def _named(record: Record) -> dict[str, Any]:
    """Return the ID, name and group of the page; a resumed attempt has its own page in the group of the run."""
    own = record.run if record.attempt == 1 else f"{record.run}-{record.attempt}"
    return {"id": own, "name": own, "group": record.run, "job_type": record.ingredients.experiment[:64]}
