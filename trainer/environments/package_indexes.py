"""This machine's settings of pip and uv for package indexes, passed to image builds as a secret that is not stored in a layer."""

from __future__ import annotations

import configparser
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PIP: Final = ("index-url", "extra-index-url", "find-links", "trusted-host", "timeout", "no-index")
_PIP_TO_UV: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "no-index": "UV_OFFLINE",
}
_UV: Final = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT", "UV_OFFLINE")
_UV_TO_PIP: Final = {
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_INSECURE_HOST": "PIP_TRUSTED_HOST",
    "UV_HTTP_TIMEOUT": "PIP_DEFAULT_TIMEOUT",
    "UV_OFFLINE": "PIP_NO_INDEX",
}
_LOOPBACK: Final = ("localhost", "127.", "[::1]")
_SYSTEM: Final = (Path("/etc/pip.conf"), Path("/etc/xdg/pip/pip.conf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """Variables for pip and uv in a build, folders of wheels on this machine, and indexes that a build cannot reach."""

    variables: Mapping[str, str]
    folders: tuple[Path, ...]
    left_out: tuple[str, ...]
    """Indexes in folders on this machine, which a build cannot reach."""

    def as_shell(self) -> str:
        """Return the variables as lines of a shell script."""
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(self.variables.items()))

    @property
    def on_loopback(self) -> bool:
        """Whether an index is on this machine's loopback, which a build reaches only through the host's network."""
        return any(
            _host(word).startswith(_LOOPBACK)
            for value in self.variables.values()
            for word in value.replace(",", " ").split()
        )


def read_indexes(environ: Mapping[str, str], *, home: Path, system: Iterable[Path] = _SYSTEM) -> Indexes:
    """Read the settings as pip and uv do: files, then the environment; uv's variables take precedence over pip's."""
    configured = [Path(environ["PIP_CONFIG_FILE"])] if environ.get("PIP_CONFIG_FILE") else []
    pip = _read_files([*system, home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf", *configured])
    pip |= {key: environ[name] for key in _PIP if (name := _variable(key)) in environ}
    uv = {name: environ[name] for name in _UV if environ.get(name)}
    links = (uv.get("UV_FIND_LINKS") or pip.get("find-links", "")).replace(",", " ").split()
    variables = {_PIP_TO_UV[key]: value for key, value in pip.items() if key in _PIP_TO_UV} | uv
    left_out = [word for word in variables.get("UV_INDEX", "").split() if _folder(word)]
    variables["UV_INDEX"] = " ".join(word for word in variables.get("UV_INDEX", "").split() if not _folder(word))
    variables["UV_FIND_LINKS"] = ",".join(link for link in links if not _folder(link))
    variables |= {_UV_TO_PIP[name]: variables[name] for name in _UV_TO_PIP if name in variables}
    return Indexes(
        variables={name: value for name, value in variables.items() if value},
        folders=tuple(folder for link in links if (folder := _folder(link)) and folder.is_dir()),
        left_out=tuple(left_out),
    )


def _read_files(paths: Iterable[Path]) -> dict[str, str]:
    """Return the settings in pip's files; later files win, and section `install` wins over `global`."""
    parser = configparser.RawConfigParser()
    parser.read([path for path in paths if path.is_file()], encoding="utf-8")
    sections = [dict(parser[name]) for name in ("global", "install") if parser.has_section(name)]
    return {key: " ".join(value.split()) for section in sections for key, value in section.items() if key in _PIP}


def _variable(key: str) -> str:
    """Return pip's environment variable for a setting."""
    return {"timeout": "PIP_DEFAULT_TIMEOUT"}.get(key, f"PIP_{key.upper().replace('-', '_')}")


def _folder(address: str) -> Path | None:
    """Return the folder of an index on this machine; `None` for a URL."""
    if address.startswith("file://"):
        return Path(urlsplit(address).path)
    return None if "://" in address else Path(address)


def _host(word: str) -> str:
    return urlsplit(word).netloc.rpartition("@")[2] if "://" in word else ""
