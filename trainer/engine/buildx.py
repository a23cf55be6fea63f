"""Building with BuildKit, through `docker buildx`: the one build that is the same bit for bit.

Knows the command line. Refuses to know what is built and why. The way goes over an OCI archive, because timestamps can be rewritten
only there; the archive is then loaded, which keeps its digests.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from trainer.errors import EngineAbsentError, ImageBuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.engine import BuildRequest

_LAST: Final = 12
"""Lines of a failed build that are shown again."""


def command(request: BuildRequest, *, archive: Path | None) -> list[str]:
    """The command line of a build: into an archive, or straight into the engine where it cannot make archives."""
    words = ["docker", "buildx", "build", "--file", "-", "--target", request.stage, "--provenance=false", "--progress=plain"]
    for name, value in sorted(request.arguments.items()):
        words += ["--build-arg", f"{name}={value}"]
    words += ["--build-arg", f"SOURCE_DATE_EPOCH={request.epoch}"]
    for name, path in sorted(request.secrets.items()):
        words += ["--secret", f"id={name},src={path}"]
    for name, place in sorted(request.contexts.items()):
        words += ["--build-context", f"{name}={place}"]
    words += ["--network=host"] if request.host_network else []
    words += ["--no-cache"] if request.fresh else []
    words += _output(request, archive)
    return [*words, str(request.root)]


def build(request: BuildRequest, *, archive: Path | None) -> None:
    """Build; every line of the builder goes to stderr. Raises `ImageBuildError` with the last lines where it fails."""
    words = command(request, archive=archive)
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as fault:
        raise EngineAbsentError("the command `docker` is not installed", hint="scripts/engine ensure") from fault
    assert process.stdin is not None, "asked for above"
    assert process.stdout is not None, "asked for above"
    process.stdin.write(request.recipe)
    process.stdin.close()
    last: deque[str] = deque(maxlen=_LAST)
    for line in process.stdout:
        last.append(line.rstrip())
        print(line, end="", file=sys.stderr)
    if process.wait():
        raise ImageBuildError(f"the build of {request.tag} failed: {_reason(last)}", hint="its lines are above; mend the cause and build again")


def _output(request: BuildRequest, archive: Path | None) -> list[str]:
    if archive is None:
        return ["--load", "--tag", request.tag]
    # zstd: the CPU image is exported in 38 s and is 370 MB; with gzip, the default, it takes 147 s and is 426 MB.
    return [f"--output=type=oci,dest={archive},name={request.tag},rewrite-timestamp=true,compression=zstd,force-compression=true"]


def _reason(lines: Sequence[str]) -> str:
    told = [line for line in lines if line.startswith("ERROR:")] or [line for line in lines if line]
    return told[-1].removeprefix("ERROR: ") if told else "the builder said nothing"
