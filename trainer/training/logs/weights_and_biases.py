"""A run's page at Weights & Biases, or the files that one is made of later: its metrics, and what the record says that it is made of.

Knows what the library would add by itself: command line, host, user, git remote, packages, the terminal's text. Refuses all of it: the
record tells it better, and a command line or an output may hold what is nobody else's business. Settings that are secrets are in no record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.base.errors import SettingError

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch.loggers import WandbLogger

    from trainer.runs.record import Record


def page(folder: Path, record: Record | None, *, project: str, offline: bool) -> WandbLogger:
    """Make the logger of an attempt's folder; WANDB_MODE=offline holds where `offline` does not say it. Raises `SettingError`."""
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    alone = wandb.Settings(
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
        settings=alone,
        config=facts(record) if record else None,
        **_named(record) if record else {},
    )
    logger._wandb_init.pop("anonymous", None)  # noqa: SLF001 - the library complains about what Lightning always passes
    if not offline:
        _begun(logger, wandb.Error)
    return logger


def _begun(logger: WandbLogger, refusal: type[Exception]) -> None:
    """Begin the page before a step is made: without a key, or where the server is away, there is to be no run. Raises `SettingError`."""
    try:
        _ = logger.experiment
    except (refusal, ValueError) as fault:
        hint = "set WANDB_API_KEY in the shell or in .env, or give --wandb offline"
        raise SettingError(f"--wandb online: {str(fault).splitlines()[0]}", hint=hint) from fault


def facts(record: Record) -> dict[str, Any]:
    """Give what the page holds: the settings by name, for its tables, and under `reprise` what the run is made of, by digest."""
    around = record.circumstances
    return {
        **record.ingredients.settings,
        "reprise": {
            "run": record.run,
            "attempt": record.attempt,
            "identity": record.identity,
            "ingredients": record.ingredients.model_dump(mode="json", exclude={"settings"}),
            "manifests": around.manifests,
            "image": around.image.model_dump(mode="json", exclude_none=True),
            "commit": around.source.commit,
            "dirty": around.source.dirty,
        },
    }


def _named(record: Record) -> dict[str, Any]:
    """Give the page the run's own id; a resumed attempt has a page of its own, in one group with the others."""
    own = record.run if record.attempt == 1 else f"{record.run}-{record.attempt}"
    return {"id": own, "name": own, "group": record.run, "job_type": record.ingredients.experiment[:64]}
