"""The environment variables that begin with `REPRISE_`: a test compares the tables with the names in the code.

A variable in neither table is an error, because nothing would read it.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DotenvError, SettingError
from trainer.base.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX: Final = "REPRISE_"
ENVIRONMENT_PREFIX: Final = "REPRISE_SETTING_"
VARIABLES: Final = {
    "REPRISE_RUNS": "folder of runs (default: `runs/` in the checkout), an absolute path for `docker compose run train`, which mounts it",
    "REPRISE_STORE": "address of the store: `s3://BUCKET/PREFIX` or a folder (default: that of `.env`)",
    "REPRISE_STORE_ENDPOINT": "URL of the S3 server of the store, in containers",
    "REPRISE_STORE_PORT": "port of the local store on 127.0.0.1 (default: that of `.env`, else 8333)",
    "REPRISE_CACHE": "folder of the cache of commands on the host (default: `~/.cache/reprise`); containers use a volume of compose",
    "REPRISE_CACHE_LIMIT": "maximum size of the cache, such as `20GB` (default: no limit)",
    "REPRISE_IMAGE": "image of the containers (default: that of `.env`)",
    "REPRISE_HOST": "name of this machine in records (default: the system's name)",
    "REPRISE_NODES": "number of machines of a run",
    "REPRISE_NODE": "number of this machine in a run on several machines, from 0",
    "REPRISE_MAIN_ADDRESS": "`HOST:PORT` of node 0 of a run on several machines",
    "REPRISE_SHM": "size of `/dev/shm` in containers (default: `2gb`)",
    "REPRISE_PACKAGE": "folder of the model package that the service `serve` of compose serves",
    "REPRISE_SERVE_PORT": "port of the service `serve` (default: 8080)",
    "REPRISE_YES": "answers yes if a script asks before it installs or fetches something",
    "REPRISE_DEBUG": "prints the traceback of an error",
    "REPRISE_PYTHON": "Python that the scripts run (default: the first supported Python of the PATH)",
    "REPRISE_BASE": "base image of a build, by digest",
    "REPRISE_WHEELS": "folder of wheels for `compose.build.yaml`",
    "REPRISE_INDEX_FILE": "file with lines such as `UV_DEFAULT_INDEX=https://...` for `compose.build.yaml`",
    "REPRISE_CA_FILE": "CA bundle for `compose.build.yaml`",
    "REPRISE_ENGINE_STATE": "folder of the engine that `scripts/machine/engine` starts (default: `/run/reprise-engine`)",
}
"""The variables that a user can set, with their meaning."""
OWN: Final = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("ENVIRONMENT", "IMAGE_CONFIG", "IMAGE_LAYERS", "BUILD_ID", "PULL", "UID", "GID", "GIT_FOLDER"),
        *("DEV_IMAGE", "DEV_IMAGE_CONFIG", "DEV_IMAGE_LAYERS"),
        *("STORE_FOLDER", "STORE_IMAGE", "STORE_JOINED", "STORE_KEY", "STORE_NETWORK", "STORE_ON_HOST", "STORE_SECRET"),
        *("STORE_SHARED", "STORE_TOKEN", "STORE_VOLUME"),
        *("CONFINED", "LAUNCH", "NOTEBOOK", "OUTPUT", "PREPARED_RUN", "PURPOSE", "RANK", "RETEST", "SOURCE", "TYPED"),
        *("WATCH", "WATCHED_RUN"),
        *("FUZZ_REQUESTS", "TEST_NO_SKIPS"),
    )
)
"""The variables that `.env`, the commands, the scripts and the tests of Reprise set."""
SHELL_ONLY: Final = frozenset({"REPRISE_RUNS", "REPRISE_CACHE", "REPRISE_YES", "REPRISE_PYTHON", "REPRISE_TYPED"})
"""Variables that are read from the environment only, not from `.env`."""
PASSED_ON: Final = frozenset({"REPRISE_RETEST", "REPRISE_CONFINED", "REPRISE_WATCHED_RUN", "REPRISE_PREPARED_RUN"})
"""Variables that show that another command of Reprise started this process, perhaps one of a later version with further variables."""
_LIKE_SETTING: Final = re.compile(r"REPRISE[_-]?SETTING(S?[_-]|)", re.IGNORECASE)
"""The prefix of settings and its misspellings."""
_SERVICE: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)")
"""Variables that Kubernetes sets for each service of the namespace, such as a service `reprise-model`."""
_CLOSE: Final = 0.7
"""Minimum similarity of a variable with a known variable, from 0 to 1, for a suggestion."""


def setting_of(variable: str) -> str | None:
    """Return the setting that a variable names; `None` if it does not look like a variable of a setting.

    Raise `SettingError` for a misspelled prefix.

    >>> setting_of("REPRISE_SETTING_SEED"), setting_of("REPRISE_STORE")
    ('seed', None)
    """
    if not (match := _LIKE_SETTING.match(variable)):
        return None
    name = variable[match.end() :].lower()
    if match[0] == ENVIRONMENT_PREFIX and name:
        return name
    message = f"unknown environment variable {variable}: a setting is given by {ENVIRONMENT_PREFIX} and its name"
    raise SettingError(message, hint=f"write {ENVIRONMENT_PREFIX}{name.upper() or 'NAME'}, or unset {variable}")


def require_known_variables(environ: Mapping[str, str]) -> None:
    """Raise `SettingError` for a variable that begins with `REPRISE_` and that nothing reads.

    Without effect in a process that another command started: that command has checked its own variables.
    """
    if PASSED_ON & environ.keys():
        return
    is_pod = "KUBERNETES_SERVICE_HOST" in environ
    for variable in _unknown(name for name in environ if not (is_pod and _SERVICE.fullmatch(name))):
        first, _, rest = variable.removeprefix(PREFIX).partition("_")
        setting = rest if rest and nearest(first, ["SETTING"]) else variable.removeprefix(PREFIX)
        near = _nearest(variable) or f"{ENVIRONMENT_PREFIX}{setting}, which gives the setting {setting.lower()}"
        message = f"unknown environment variable {variable}: nothing reads it"
        raise SettingError(message, hint=f"did you mean {near}? Otherwise, unset {variable}")


def require_known_lines(values: Mapping[str, str]) -> None:
    """Raise `DotenvError` for a line of `.env` that begins with `REPRISE_` and that nothing reads; `values` are the user's lines."""
    for variable in sorted(values):
        if _LIKE_SETTING.match(variable):
            message = f".env has a line {variable}: settings are not read from .env"
            raise DotenvError(message, hint="remove the line; write the setting into a file for --settings FILE")
        if variable in SHELL_ONLY:
            message = f".env has a line {variable}, which is read from the environment only"
            raise DotenvError(message, hint=f"remove the line; export {variable}={shlex.quote(values[variable])}")
    for variable in _unknown(values):
        near = _nearest(variable)
        hint = f"did you mean {near}?" if near else "remove the line; settings are given by --settings FILE"
        raise DotenvError(f".env has a line {variable}, which nothing reads", hint=hint)


def _unknown(names: Iterable[str]) -> list[str]:
    found = (name for name in names if name.startswith(PREFIX) and setting_of(name) is None)
    return sorted(name for name in found if name not in VARIABLES and name not in OWN)


def _nearest(variable: str) -> str | None:
    names = {name.removeprefix(PREFIX): name for name in VARIABLES}
    return next((names[near] for near in nearest(variable.removeprefix(PREFIX), names, most=1, cutoff=_CLOSE)), None)
