"""The signature of a package: an envelope with the package's document, which has the digest of each other file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import CertificateError, RepriseError
from trainer.base.plain_text import reading
from trainer.base.safe_folder import Root
from trainer.comparison.certificate import UNSIGNED, read_signed, sign
from trainer.models.package import MOST_DOCUMENT, SIGNATURE, SIGNED, Package

if TYPE_CHECKING:
    from pathlib import Path


def sign_package(path: Path, package: Package, *, key: Path) -> Path:
    """Write the signed document of a package into its folder, and return its path.

    Raise `CertificateError` if the key cannot be read, and `MachineError` if the folder cannot be written.
    """
    signed = sign(package.to_json(), key=key, kind=SIGNED)
    with disk_faults(path), Root.at(path) as folder:
        folder.write_whole(SIGNATURE, signed)
        folder.give(SIGNATURE)
    return path / SIGNATURE


def package_signature(path: Path, package: Package, *, key: Path | None) -> str:
    """Return the state of a package's signature as text. It is verified only with a public key in the file `key`."""
    where = path / SIGNATURE
    try:
        with reading(where), Root.at(path) as folder:
            if not folder.has_file(SIGNATURE):
                return UNSIGNED
            text = folder.read(SIGNATURE, most=MOST_DOCUMENT)
        return check_signature(text, package, str(where), key=key)
    except RepriseError as fault:
        return f"NOT VALID: {fault.message}"


def check_signature(text: bytes, package: Package, where: str, *, key: Path | None) -> str:
    """Return the state of the signature in an envelope. Raise `CertificateError` if it is not valid, or is for another package."""
    payload, state = read_signed(text, key=key, where=where, kind=SIGNED)
    if payload != package.to_json():
        found = Package.read(payload, where)
        message = f"{where} is the signature of package {found.name}, {found.digest}; this is {package.digest}"
        raise CertificateError(message, hint="do not trust this signature: ask the author of the package for a new one")
    return state
