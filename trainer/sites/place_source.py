"""Places the source of a run into a pod: fetches it from the store, verifies it by its digest, and unpacks it.

The text of this file is the program of the pod's init container. The image has no code of Reprise: a program there has boto3 and the
standard library. Arguments: the folder of the project, and the folder for the archive and the document about it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
from botocore.config import Config


def fetch(store: str, digest: str) -> bytes:
    """Return an object of the store. Raise `ValueError` if it does not have the digest."""
    key = f"objects/sha256/{digest[7:9]}/{digest[9:]}"
    if store.startswith("s3://"):
        address, _, query = store.removeprefix("s3://").partition("?")
        bucket, _, prefix = address.rstrip("/").partition("/")
        access = dict(parse_qsl(query))
        session = boto3.Session(profile_name=access.get("profile"), region_name=access.get("region"))
        client = session.client("s3", endpoint_url=access.get("endpoint"))
        if ".amazonaws.com" not in client.meta.endpoint_url:  # such servers rarely have a host name for each bucket
            by_path = Config(s3={"addressing_style": "path"})
            client = session.client("s3", endpoint_url=access.get("endpoint"), config=by_path)
        body = client.get_object(Bucket=bucket, Key=f"{prefix}/{key}".lstrip("/"))["Body"].read()
    else:
        folder = unquote(urlsplit(store).path) if store.startswith("file://") else store
        body = Path(folder, key).read_bytes()
    if (found := f"sha256:{hashlib.sha256(body).hexdigest()}") != digest:
        raise ValueError(f"{key} has been altered: its digest is {found}")
    return body


def place(store: str, digest: str, *, project: Path, submitted: Path) -> None:
    """Fetch the source, and write its files below `project`, and its archive and document into `submitted`."""
    text = fetch(store, digest)
    packed = fetch(store, json.loads(text)["archive"]["sha256"])
    submitted.mkdir(parents=True, exist_ok=True)
    (submitted / "source.json").write_bytes(text)
    (submitted / "source.tar.gz").write_bytes(packed)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for entry in archive:
            if body := archive.extractfile(entry):  # always: a source has regular files only
                path = project / entry.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body.read())
                path.chmod(entry.mode)


if __name__ == "__main__":
    address = os.environ["REPRISE_STORE"]
    try:
        place(address, os.environ["REPRISE_SOURCE"], project=Path(sys.argv[1]), submitted=Path(sys.argv[2]))
    except Exception as fault:  # noqa: BLE001 - the pod's log shows one line, whatever it is
        sys.exit(f"the run's source cannot be fetched from {address}: {type(fault).__name__}: {fault}")
