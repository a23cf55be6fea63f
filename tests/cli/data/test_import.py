"""`reprise data import` and `update`, with the real clients against servers on loopback."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import re
import socket
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import paramiko
import pytest

from tests.data.upstream.servers import (
    Answer,
    Hub,
    azure_answer,
    google_answer,
    web_server,
)
from tests.data.upstream.sftp import sftp_server
from tests.stores.server import BUCKET, PASSWORD, USER, serving
from trainer.cli.data import imports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Typed = Callable[..., tuple[int, str, str]]

MD5 = hashlib.md5(b"one", usedforsecurity=False).hexdigest()
FILES = {"README.md": b"# Flowers", "data/a.bin": b"small", "data/b.bin": bytes(range(256)) * 40}


@pytest.fixture(autouse=True)
def _in_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHECKOUT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pages() -> dict[str, Answer]:
    """The responses of a web server, by path."""
    return {}


@pytest.fixture
def web(pages: dict[str, Answer]) -> Iterator[str]:
    with web_server(lambda path, _: pages.get(path, Answer(status=404))) as address:
        yield address


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a hub with one repository, and make huggingface_hub use it."""
    from huggingface_hub import constants

    served = Hub(files=dict(FILES))
    with web_server(served.answer) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        yield served


def declared(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(f"datasets/{name}.toml").read_text())


def published(typed: Typed, name: str) -> dict[str, bytes]:
    """Return the files of a version as another user fetches them."""
    code, out, err = typed("fetch", name, "--folder")
    assert code == 0, err
    folder = Path(out.strip())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_at_an_address_becomes_a_version_with_its_origin(
    typed: Typed, web: str, pages: dict[str, Answer]
) -> None:
    pages["/d/raw data.bin"] = Answer(body=b"x" * 5000, headers={"ETag": '"abc"'})
    code, out, err = typed("import", "raw", f"{web}/d/raw%20data.bin", "--license", "MIT")
    assert (code, out) == (0, "raw@1: published; 1 file, 5.0 kB, all uploaded\n"), err
    document = declared("raw")
    assert document["source"] == document["upstream"]["source"] == f"{web}/d/raw%20data.bin"
    assert document["upstream"]["files"] == {"raw data.bin": "5000 bytes etag:abc"}
    assert published(typed, "raw") == {"raw data.bin": b"x" * 5000}
    assert not list(Path(".reprise/imports").iterdir())


def test_a_zipped_table_becomes_a_table(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    packed = io.BytesIO()
    rows = "".join(f"{i};{i % 7},5;{'yes' if i % 2 else 'no'}\n" for i in range(200))
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("churn.csv", f"id;amount;left\n{rows}")
    pages["/churn.zip"] = Answer(body=packed.getvalue(), headers={"ETag": '"1"'})
    code, _, err = typed("import", "churn", f"{web}/churn.zip", "--target", "left", "--yes")
    assert code == 0, err
    document = declared("churn")
    assert document["reader"]["kind"] == "table"
    assert document["upstream"]["is_unpacked"]
    assert document["source_table"]["file"] == "churn.csv"


@pytest.mark.parametrize("suffix", ["zip", "tgz"])
def test_an_archive_that_leaves_its_folder_is_not_published(
    typed: Typed, web: str, pages: dict[str, Answer], suffix: str
) -> None:
    from tests.data.upstream.test_archive import make_tar, make_zip

    path = Path(f"evil.{suffix}").resolve()
    if suffix == "zip":
        make_zip(path, {"fine.txt": b"x", "../../../evil.txt": b"x"})
    else:
        make_tar(path, ("../../../evil.txt", b"x", b"0", ""))
    pages[f"/{path.name}"] = Answer(body=path.read_bytes())
    code, _, err = typed("import", "evil", f"{web}/{path.name}")
    assert code == 44
    assert "a part is '..'" in err
    assert not Path("datasets/evil.toml").exists()
    assert not list(Path.cwd().parent.rglob("evil.txt"))


def test_a_changed_file_is_noticed_and_imported_as_the_next_version(
    typed: Typed, web: str, pages: dict[str, Answer]
) -> None:
    pages["/a.bin"] = Answer(body=b"old", headers={"ETag": '"1"'})
    assert typed("import", "a", f"{web}/a.bin")[0] == 0
    assert typed("update", "a")[1] == f"a@1: {web}/a.bin is unchanged since the import\n"
    pages["/a.bin"] = Answer(body=b"newer", headers={"ETag": '"2"'})
    code, out, err = typed("update", "a")
    assert (code, out) == (0, "reprise data update a --apply imports the source again as a new version\n")
    assert "changed  a.bin: 3 bytes etag:1 -> 5 bytes etag:2" in err
    assert declared("a")["version"] == 1
    assert json.loads(typed("update", "a", "--json")[1])["is_changed"]
    assert typed("update", "a", "--apply")[0] == 0
    assert declared("a")["version"] == 2
    assert published(typed, "a") == {"a.bin": b"newer"}
    code, out, _ = typed("import", "a", f"{web}/a.bin")
    assert (code, out) == (0, "a@2: already published, nothing changed; 1 file, 5 B, nothing uploaded\n")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            Answer(body=b"x", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}),
            "has md5 9dd4e461268c8034f5c8564e155c67a6",
        ),
        (
            Answer(body=b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}),
            "is an HTML page; expected a file",
        ),
        (Answer(status=404), "does not exist"),
        (Answer(status=403), "access denied"),
        (Answer(status=500), "cannot be read: the server responded with the status 500"),
        (Answer(body=b"x" * 100, is_cut=True), "cannot be read: the connection ended before the file was complete"),
    ],
)
def test_a_wrong_answer_is_an_error_and_nothing_is_published(
    typed: Typed, web: str, pages: dict[str, Answer], answer: Answer, text: str
) -> None:
    pages["/a.bin"] = answer
    code, _, err = typed("import", "a", f"{web}/a.bin")
    assert 50 <= code < 60, err
    assert text in err
    assert not list(Path("datasets").iterdir())
    assert not list(Path("store").rglob("*.json"))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "cannot be resolved: this machine has no network"),
        (ConnectionRefusedError(111, "Connection refused"), "refused the connection"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "cannot be reached"),
        (TimeoutError(), "did not respond in time"),
    ],
)
def test_a_host_that_cannot_be_reached_is_named_with_the_reason(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, fault: OSError, reason: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for source in ("https://data.example/a.bin", "torchvision:MNIST"):
        code, _, err = typed("import", "a", source)
        assert code == 51
        assert re.search(rf"cannot be read: the host [\w.-]+ {reason}", err), err
        assert ("data.example" in err, "--from ADDRESS" in err) == (source[0] == "h", source[0] == "t")
        assert "Errno" not in err


def test_an_expected_digest_is_verified(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    pages["/a.bin"] = Answer(body=b"x")
    code, _, err = typed("import", "a", f"{web}/a.bin", "--sha256", "0" * 64)
    assert code == 55
    assert "--sha256 expects sha256:000" in err
    assert typed("import", "a", f"{web}/a.bin", "--sha256", hashlib.sha256(b"x").hexdigest())[0] == 0


def test_a_signature_in_an_address_is_not_recorded(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    pages["/a.bin"] = Answer(body=b"x")
    assert typed("import", "a", f"{web}/a.bin?X-Amz-Signature=0123456789abcdef&v=1")[0] == 0
    assert "0123456789abcdef" not in Path("datasets/a.toml").read_text()
    code, _, err = typed("import", "b", web.replace("http://", "http://me:secret@") + "/a.bin")
    assert code == 2
    assert "contains a password" in err


def test_a_repository_of_a_hub_is_imported_at_its_commit(typed: Typed, hub: Hub) -> None:
    code, _, err = typed("import", "flowers", "hf://datasets/lab/flowers")
    assert code == 0, err
    document = declared("flowers")
    assert (document["license"], document["upstream"]["revision"]) == ("cc0-1.0", hub.commit)
    assert document["upstream"]["files"]["data/b.bin"].startswith("10240 bytes sha256:")
    assert document["upstream"]["files"]["data/a.bin"].startswith("5 bytes git:")
    assert published(typed, "flowers") == FILES


def test_a_folder_of_a_repository_is_imported_and_its_changes_are_listed(typed: Typed, hub: Hub) -> None:
    assert typed("import", "flowers", "hf://datasets/lab/flowers@main/data")[0] == 0
    assert published(typed, "flowers") == {"a.bin": FILES["data/a.bin"], "b.bin": FILES["data/b.bin"]}
    hub.files["README.md"] = b"# Other text"
    assert f"is unchanged since the import; its revision is now {hub.commit}" in typed("update", "flowers")[1]
    hub.files |= {"data/c.bin": b"c"}
    del hub.files["data/a.bin"]
    code, _, err = typed("update", "flowers", "--apply")
    assert code == 0, err
    assert "added    c.bin" in err
    assert "removed  a.bin" in err
    assert sorted(published(typed, "flowers")) == ["b.bin", "c.bin"]


def test_an_interrupted_import_continues(typed: Typed, hub: Hub) -> None:
    hub.fails = "data/b.bin"
    code, _, err = typed("import", "flowers", "hf://datasets/lab/flowers/data")
    assert (code, "does not exist, or is private" in err) == (54, True)
    hub.fails = ""
    hub.asked.clear()
    assert typed("import", "flowers", "hf://datasets/lab/flowers/data")[0] == 0
    assert {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path} == {"b.bin"}
    assert sorted(published(typed, "flowers")) == ["a.bin", "b.bin"]


@pytest.mark.usefixtures("hub")
def test_no_hub_is_asked_in_offline_mode(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _, err = typed("import", "flowers", "hf://datasets/lab/flowers")
    assert (code, "HF_HUB_OFFLINE is set\n  -> unset HF_HUB_OFFLINE" in err) == (51, True)


@pytest.mark.parametrize("name", ["data/a.bin", "data/b.bin"])
def test_a_hub_that_lies_about_a_checksum_is_rejected(typed: Typed, hub: Hub, name: str) -> None:
    hub.lies_about = name
    code, _, err = typed("import", "flowers", "hf://datasets/lab/flowers")
    assert code == 55
    assert f"{name} has {'git' if name == 'data/a.bin' else 'sha256'} " in err
    assert not Path("datasets/flowers.toml").exists()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("hf://datasets/lab/absent", "does not exist, or is private"),
        ("hf://datasets/lab/flowers@v9", "unknown revision 'v9'"),
        ("hf://datasets/lab/flowers/nothing", "has no files"),
        ("hf://lab/flowers", "expected hf://datasets/OWNER/NAME"),
        ("ftps://host/a", "expected https://"),
        ("./folder", "reprise data publish NAME DIR"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_a_wrong_source_is_an_error_with_a_hint(typed: Typed, source: str, text: str) -> None:
    code, _, err = typed("import", "a", source)
    assert code in {2, 54}
    assert text in err
    assert "->" in err


def test_files_of_google_cloud_storage_are_imported(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = {"d/a.bin": b"one", "d/x/b.bin": b"two", "other": b"x"}
    with web_server(google_answer(objects)) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        code, _, err = typed("import", "g", "gs://lab/d")
    assert code == 0, err
    assert declared("g")["upstream"]["files"]["a.bin"] == f"3 bytes md5:{MD5}"
    assert published(typed, "g") == {"a.bin": b"one", "x/b.bin": b"two"}


def test_files_of_azure_are_imported(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(azure_answer({"d/a.bin": b"one", "d/x/b.bin": b"two", "other": b"x"})) as address:
        text = f"DefaultEndpointsProtocol=http;AccountName=acct;AccountKey=a2V5;BlobEndpoint={address}/acct;"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        code, _, err = typed("import", "z", "az://lab/d")
    assert code == 0, err
    assert declared("z")["upstream"]["files"]["a.bin"] == f"3 bytes md5:{MD5}"
    assert published(typed, "z") == {"a.bin": b"one", "x/b.bin": b"two"}


def test_an_sftp_server_is_trusted_only_if_its_key_is_known(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "served" / "d").mkdir(parents=True)
    (tmp_path / "served" / "d" / "a.bin").write_bytes(b"one")
    (tmp_path / "served" / "d" / "b.bin").symlink_to("a.bin")
    with sftp_server(tmp_path / "served") as (port, known):
        source = f"sftp://lab@127.0.0.1:{port}/d"
        code, _, err = typed("import", "s", source)
        assert code == 52, err
        assert "the server's key is not in ~/.ssh/known_hosts" in err
        (tmp_path / "home" / ".ssh").mkdir(parents=True)
        (tmp_path / "home" / ".ssh" / "known_hosts").write_text(known)
        code, _, err = typed("import", "s", source)
        assert code == 52, err
        assert "No authentication methods" in err
        paramiko.RSAKey.generate(2048).write_private_key_file(str(tmp_path / "home" / ".ssh" / "id_rsa"))
        code, _, err = typed("import", "s", source)
        assert code == 0, err
        assert published(typed, "s") == {"a.bin": b"one", "b.bin": b"one"}
        assert "is unchanged since the import" in typed("update", "s")[1]


@pytest.mark.s3
def test_objects_of_a_bucket_are_imported(typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as endpoint:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        for key, body in {"raw/d/a.bin": b"one", "raw/d/x/b.bin": b"two", "raw/dd": b"other"}.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        code, _, err = typed("import", "folder", f"s3://{BUCKET}/raw/d")
        assert code == 0, err
        assert published(typed, "folder") == {"a.bin": b"one", "x/b.bin": b"two"}
        assert typed("import", "one", f"s3://{BUCKET}/raw/d/a.bin")[0] == 0
        assert published(typed, "one") == {"a.bin": b"one"}
        client.put_object(Bucket=BUCKET, Key="raw/d/a.bin", Body=b"changed")
        assert "changed  a.bin: 3 bytes etag:" in typed("update", "folder")[2]
        assert typed("import", "absent", f"s3://{BUCKET}/nothing")[0] == 54
        assert typed("import", "absent", "s3://no-such-bucket/nothing")[0] == 53
