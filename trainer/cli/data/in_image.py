"""Commands that read samples in a container of the environment's image, with the store and the cache that the user named."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import MachineError
from trainer.base.safe_folder import Root
from trainer.cli.checkout import wake_store
from trainer.cli.containers import container_launcher
from trainer.cli.output import print_notice
from trainer.environments.engine.compose import volume
from trainer.launch.contract import CommandRequest
from trainer.runs.image_file import IMAGE_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.cli.data import DataContext

CACHE: Final = "/reprise-cache"
"""The folder of `--cache` in a container."""


def output_in_image(words: Sequence[str], context: DataContext, *, need: str, hint: str) -> tuple[int, bytes]:
    """Run a command of `reprise` in a container of the environment's image; return its exit code and its stdout.

    Raise `MachineError` inside a container, or if the checkout has no image yet. The message begins with `need`, and `hint` is a
    command for the host.
    """
    if IMAGE_FILE.exists():
        raise MachineError(f"{need}, which this image does not have", hint=hint)
    if not (context.root / ".env").is_file():
        message = f"{need}, or the environment's image; this checkout has no image yet"
        raise MachineError(message, hint=f"scripts/setup, then {hint}")
    if context.store:
        # compose passes it to the container, and mounts a store that is a folder
        os.environ["REPRISE_STORE"] = context.store
    wake_store()
    options, request = request_in_image(words, context)
    launcher = container_launcher("-T", *options)
    print_notice(shlex.join(launcher.command(request)))
    return launcher.start(request, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).output()


def request_in_image(words: Sequence[str], context: DataContext) -> tuple[Sequence[str], CommandRequest]:
    """Return the options of `docker compose run` and the request for a command; they mount and use a cache that the user named."""
    if not context.names_cache:
        return (), CommandRequest(words=list(words), needs_store=False)
    folder = context.cache.root.absolute()
    with disk_faults(folder):
        Root.at(folder, make=True).close()  # Docker would create a missing folder as root's
    return volume(folder, CACHE), CommandRequest(words=[*words, "--cache", CACHE], needs_store=False)
