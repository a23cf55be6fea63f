"""Repositories on a hub with Hugging Face's API. The client is `huggingface_hub`, which reads HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.

A branch or tag is resolved to its commit, and the files are downloaded at the commit.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import huggingface_hub as hub
from huggingface_hub import constants, errors
from huggingface_hub.utils.tqdm import disable_progress_bars

from trainer.base.errors import ObjectMissingError, StoreDeniedError, StoreError, StoreUnreachableError, UsageError
from trainer.base.suggestions import short
from trainer.data.upstream.listing import RemoteFile, UpstreamListing
from trainer.data.upstream.network import HINT, network_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORM: Final = re.compile(
    r"hf://(?P<kind>datasets|models)/(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^/@]+))?(?P<path>(?:/[^/]+)*)/?"
)
_COMMIT: Final = re.compile("[0-9a-f]{40}")
_OWN: Final = {".gitattributes"}
"""Files of a repository that are not data."""


class HubFiles:
    """The files of a repository, or those below a path in it."""

    def __init__(self, source: str) -> None:
        """Parse the address. Raise `UsageError` if it is invalid."""
        match = _FORM.fullmatch(source)
        if match is None or match["name"].count("/") != 1:
            raise UsageError(
                f"{short(source)!r}: expected hf://datasets/OWNER/NAME or hf://models/OWNER/NAME, optionally with @REVISION and a path",
                hint="for example hf://datasets/OWNER/NAME@main/data",
            )
        self.source = source.rstrip("/")
        self._kind, self._name = match["kind"].removesuffix("s"), match["name"]
        self._asked, self._path = match["revision"], match["path"].strip("/")
        self._commit = ""
        self._api = hub.HfApi()
        disable_progress_bars()

    def list_files(self) -> UpstreamListing:
        """List the files at the commit to which the revision currently resolves."""
        with self._translate_errors():
            ask = self._api.dataset_info if self._kind == "dataset" else self._api.model_info
            info = ask(self._name, revision=self._asked, files_metadata=True, timeout=20)
        self._commit = info.sha or ""
        if not _COMMIT.fullmatch(self._commit):
            raise StoreError(
                f"{self.source}: the hub returned the commit {short(self._commit)!r}; expected 40 hexadecimal digits",
                hint="check HF_ENDPOINT",
            )
        card = info.card_data
        license_ = card.get("license") if card is not None else None
        files = tuple(_described(each) for each in info.siblings or () if self._is_wanted(each.rfilename))
        if not files:
            raise ObjectMissingError(f"{self.source} has no files", hint="check the path after the name")
        base = f"{self._path}/"
        whole = {file.path for file in files}
        files = tuple(
            RemoteFile(
                path=Path(file.path).name if whole == {self._path} else file.path.removeprefix(base),
                size=file.size,
                checksum=file.checksum,
                address=file.address,
            )
            for file in files
        )
        return UpstreamListing(
            files=files, revision=self._commit, license=license_ if isinstance(license_, str) else ""
        )

    def download(self, file: RemoteFile, target: Path, advance: Callable[[int], None]) -> None:
        """Write a file to `target`."""
        with TemporaryDirectory(dir=target.parent, prefix=".reprise-hub-") as folder, self._translate_errors():
            path = hub.hf_hub_download(
                self._name, file.address, repo_type=self._kind, revision=self._commit, local_dir=folder, etag_timeout=20
            )
            Path(path).replace(target)
        advance(target.stat().st_size)

    def _is_wanted(self, path: str) -> bool:
        if path in _OWN:
            return False
        return not self._path or path == self._path or path.startswith(f"{self._path}/")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except errors.GatedRepoError as fault:
            raise StoreDeniedError(
                f"{self.source}: its owner must grant access to it",
                hint="request access on its page, then set HF_TOKEN",
            ) from fault
        except errors.RevisionNotFoundError as fault:
            raise ObjectMissingError(
                f"{self.source}: unknown revision {self._asked!r}", hint="check the name after @"
            ) from fault
        except errors.LocalEntryNotFoundError as fault:  # a subclass of EntryNotFoundError: the server did not respond
            raise self._unreachable(fault) from fault
        except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as fault:
            raise ObjectMissingError(
                f"{self.source} does not exist, or is private",
                hint="check the name, or set HF_TOKEN for a private repository",
            ) from fault
        except errors.OfflineModeIsEnabled as fault:
            raise StoreUnreachableError(f"{self.source}: HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE") from fault
        except errors.HFValidationError as fault:
            raise UsageError(
                f"{self.source}: {short(str(fault))}", hint="for example hf://datasets/OWNER/NAME"
            ) from fault
        except errors.HfHubHTTPError as fault:
            raise self._unreachable(fault) from fault

    def _unreachable(self, fault: Exception) -> StoreUnreachableError:
        reason = network_fault(fault, constants.ENDPOINT) or short(str(fault.__cause__ or fault))
        return StoreUnreachableError(f"{self.source} cannot be read: {reason}", hint=HINT)


def _described(sibling: hub.hf_api.RepoSibling) -> RemoteFile:
    """Return a file with its checksum: sha256 for large files, the git blob ID for the others."""
    lfs = sibling.lfs
    checksum = f"sha256:{lfs.sha256}" if lfs else f"git:{sibling.blob_id}" if sibling.blob_id else ""
    return RemoteFile(path=sibling.rfilename, size=sibling.size, checksum=checksum, address=sibling.rfilename)
