"""`reprise data import NAME torchvision:...`, with small archives in the true formats on a server on loopback."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.data.upstream.servers import Answer, web_server
from tests.data.upstream.test_archive import make_tar
from tests.data.upstream.test_picture_arrays import idx_pair
from tests.stores.server import BUCKET, PASSWORD, USER, serving
from trainer.base.errors import DatasetError, MachineError
from trainer.cli.arguments import Verb
from trainer.cli.data import DataContext, imports
from trainer.cli.data.imports import add_import_options, add_update_options
from trainer.data.cache.folder import Cache
from trainer.data.upstream.listing import RemoteFile
from trainer.data.upstream.torchvision import CATALOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trainer.data.upstream.torchvision import NamedDataset

    Typed = Callable[..., tuple[int, str, str]]
    Catalog = Mapping[str, NamedDataset]

RED, BLUE = bytes([255] * 1024 + [0] * 2048), bytes([0] * 2048 + [255] * 1024)


@pytest.fixture(autouse=True)
def _in_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHECKOUT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pages() -> dict[str, Answer]:
    """The files of a web server by path."""
    return {}


@pytest.fixture
def web(pages: dict[str, Answer]) -> Iterator[str]:
    with web_server(lambda path, _: pages.get(path, Answer(status=404))) as address:
        yield address


def serve(pages: dict[str, Answer], name: str, files: dict[str, bytes], web: str) -> Catalog:
    """Serve files below /d; return a catalog in which they are the dataset `name`."""
    pages.clear()
    pages.update({f"/d/{path}": Answer(body=body) for path, body in files.items()})
    listed = tuple(
        RemoteFile(path=path, size=len(body), checksum=f"sha256:{hashlib.sha256(body).hexdigest()}")
        for path, body in files.items()
    )
    return {name: replace(CATALOG[name], address=f"{web}/d", files=listed)}


def type_with(catalog: Catalog, *words: str) -> int:
    """Run `import` or `update` with another catalog."""
    parser = Verb(prog="reprise data")
    (add_import_options if words[0] == "import" else add_update_options)(parser)
    args = parser.parse_args(words[1:])
    args.store, args.cache, args.json = None, None, False
    root = Path.cwd()
    context = DataContext(root=root, store=str(root / "store"), cache=Cache(root=root / "cache"))
    result: int = args.verb(args, context, catalog=catalog)
    return result


def mnist(*, first: int = 0) -> dict[str, bytes]:
    """Return the four files of MNIST with five pictures for training and two for the test."""
    files: dict[str, bytes] = {}
    for split, count in (("train", 5), ("t10k", 2)):
        pictures = [bytes([first + number]) * 784 for number in range(count)]
        pair = idx_pair(pictures, bytes(range(count)), height=28, width=28)
        files |= dict(zip((f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"), pair, strict=True))
    return files


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return file.getvalue()


def cifar10() -> dict[str, bytes]:
    """Return the members of CIFAR-10's binary archive with two pictures in each file."""
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    records = {
        f"cifar-10-batches-bin/{name}.bin": bytes([number]) + RED + b"\x09" + BLUE for number, name in enumerate(names)
    }
    return {
        **records,
        "cifar-10-batches-bin/batches.meta.txt": b"airplane\n",
        "cifar-10-batches-bin/readme.html": b"<html>",
    }


def declared(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(f"datasets/{name}.toml").read_text())


def published(typed: Typed, name: str) -> dict[str, bytes]:
    """Fetch a version with `reprise data fetch`; return its files by path."""
    code, out, err = typed("fetch", name, "--folder")
    assert code == 0, err
    folder = Path(out.splitlines()[-1])
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_mnist_becomes_arrays_with_the_splits_of_its_authors(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    catalog = serve(pages, "MNIST", mnist(), web)
    assert type_with(catalog, "import", "m", "torchvision:MNIST") == 0
    document = declared("m")
    assert document["reader"] == {"kind": "arrays", "fields": {"image": "image.npy", "label": "label.npy"}}
    assert document["splits"] == {"train": [0, 5], "test": [5, 7]}
    assert (document["source"], document["license"]) == ("torchvision:MNIST", "CC BY-SA 3.0")
    assert document["twin"]["image"] == {"dtype": "uint8", "shape": [1, 28, 28], "range": [0.0, 255.0]}
    assert document["twin"]["label"] == {"dtype": "int64", "shape": [], "classes": 10}
    expected = {file.path: file.state for file in catalog["MNIST"].files}
    assert document["upstream"]["files"] == expected
    files = published(typed, "m")
    assert sorted(files) == ["image.npy", "label.npy"]
    assert files["image.npy"][128:] == b"".join(bytes([each]) * 784 for each in (0, 1, 2, 3, 4, 0, 1))
    assert not list(Path(".reprise/imports").iterdir())


def test_cifar10_becomes_arrays(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    catalog = serve(pages, "CIFAR10", {"cifar-10-binary.tar.gz": tar(cifar10())}, web)
    assert type_with(catalog, "import", "c", "torchvision:CIFAR10", "--license", "unclear") == 0
    document = declared("c")
    assert (document["splits"], document["license"]) == ({"train": [0, 10], "test": [10, 12]}, "unclear")
    files = published(typed, "c")
    assert files["image.npy"][128:] == (RED + BLUE) * 6
    assert files["label.npy"][128::8] == bytes([0, 9, 1, 9, 2, 9, 3, 9, 4, 9, 5, 9])


def test_cifar100_has_both_labels(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    members = {"train.bin": b"\x13\x63" + RED + b"\0\x01" + BLUE, "test.bin": b"\x02\x03" + BLUE}
    archive = tar({f"cifar-100-binary/{name}": body for name, body in members.items()})
    catalog = serve(pages, "CIFAR100", {"cifar-100-binary.tar.gz": archive}, web)
    assert type_with(catalog, "import", "c", "torchvision:CIFAR100") == 0
    assert declared("c")["reader"]["fields"]["coarse"] == "coarse.npy"
    files = published(typed, "c")
    assert (files["label.npy"][128::8], files["coarse.npy"][128::8]) == (b"\x63\x01\x03", b"\x13\0\x02")


@pytest.mark.torch
def test_a_training_reads_the_arrays(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    from trainer.data.declaration import load_dataset
    from trainer.data.files import FolderFiles
    from trainer.training.readers import open_samples

    assert type_with(serve(pages, "MNIST", mnist(), web), "import", "m", "torchvision:MNIST") == 0
    folder = Path(typed("fetch", "m", "--folder")[1].splitlines()[-1])
    samples = open_samples(load_dataset("m", root=Path.cwd()), FolderFiles(folder, ["image.npy", "label.npy"]))
    sample = samples[4]
    assert (str(sample["image"].dtype), tuple(sample["image"].shape)) == ("torch.uint8", (1, 28, 28))
    assert (str(sample["label"].dtype), int(sample["label"])) == ("torch.int64", 4)


def test_an_update_compares_the_known_digests(
    typed: Typed, web: str, pages: dict[str, Answer], capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = serve(pages, "MNIST", mnist(), web)
    assert type_with(catalog, "import", "m", "torchvision:MNIST", "--split", "train=0:3", "--split", "val=3:5") == 0
    capsys.readouterr()
    assert type_with(catalog, "update", "m") == 0
    assert capsys.readouterr().out == "m@1: torchvision:MNIST is unchanged since the import\n"
    assert type_with(catalog, "import", "m", "torchvision:MNIST") == 0
    assert "m@1: already published, nothing changed" in capsys.readouterr().out
    changed = serve(pages, "MNIST", mnist(first=100), web)
    assert type_with(changed, "update", "m") == 0
    assert "changed  t10k-images-idx3-ubyte.gz: " in capsys.readouterr().err
    assert type_with(changed, "update", "m", "--apply") == 0
    document = declared("m")
    assert (document["version"], document["splits"]) == (2, {"train": [0, 3], "val": [3, 5]})
    assert published(typed, "m")["image.npy"][128] == 100


def test_an_update_of_an_archive_imports_it_as_before(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    members = cifar10()
    assert (
        type_with(
            serve(pages, "CIFAR10", {"cifar-10-binary.tar.gz": tar(members)}, web), "import", "c", "torchvision:CIFAR10"
        )
        == 0
    )
    members["cifar-10-batches-bin/test_batch.bin"] = b"\x01" + BLUE + b"\x02" + RED
    changed = serve(pages, "CIFAR10", {"cifar-10-binary.tar.gz": tar(members)}, web)
    assert type_with(changed, "update", "c", "--apply") == 0
    assert declared("c")["version"] == 2
    assert published(typed, "c")["label.npy"][128::8][-2:] == b"\x01\x02"


def test_a_mirror_has_the_same_files(typed: Typed, web: str, pages: dict[str, Answer]) -> None:
    catalog = serve(pages, "MNIST", mnist(), "http://127.0.0.1:9")
    pages.update({path.replace("/d/", "/mirror/mnist/"): pages.pop(path) for path in [*pages]})
    assert type_with(catalog, "import", "m", "torchvision:MNIST", "--from", f"{web}/mirror/mnist/") == 0
    document = declared("m")
    assert document["upstream"]["source"] == "torchvision:MNIST"
    assert "127.0.0.1" not in Path("datasets/m.toml").read_text()
    assert "image.npy" in published(typed, "m")


@pytest.mark.s3
def test_a_mirror_in_a_bucket_has_the_same_files(
    typed: Typed, pages: dict[str, Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as endpoint:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
        }.items():
            monkeypatch.setenv(name, value)
        for path, body in mnist().items():
            boto3.client("s3").put_object(Bucket=BUCKET, Key=f"mirror/{path}", Body=body)
        catalog = serve(pages, "MNIST", mnist(), "http://127.0.0.1:9")
        assert type_with(catalog, "import", "m", "torchvision:MNIST", "--from", f"s3://{BUCKET}/mirror") == 0
    assert "image.npy" in published(typed, "m")


@pytest.mark.parametrize("is_as_long", [False, True])
def test_a_file_that_differs_from_the_known_digest_is_rejected(
    typed: Typed, web: str, pages: dict[str, Answer], *, is_as_long: bool
) -> None:
    for file in CATALOG["MNIST"].files:
        body = bytes(file.size or 0) if is_as_long else mnist()[file.path]
        pages[f"/d/{file.path}"] = Answer(body=body)
    code, _, err = typed("import", "m", "torchvision:MNIST", "--from", f"{web}/d")
    assert code == 55
    assert ("ubyte.gz has sha256 " if is_as_long else "bytes; expected ") in err
    assert not list(Path("datasets").iterdir())
    assert not list(Path("store").rglob("*.json"))


def cifar10_without_a_batch(_: Path) -> bytes:
    return tar({name: body for name, body in cifar10().items() if "batch_3" not in name})


def cifar10_with_a_link(folder: Path) -> bytes:
    entries = [(name, body, b"0", "") for name, body in cifar10().items() if "test_batch" not in name]
    path = make_tar(folder / "a.tgz", *entries, ("cifar-10-batches-bin/test_batch.bin", b"", b"2", "/etc/passwd"))
    return path.read_bytes()


def cifar10_cut(_: Path) -> bytes:
    return tar(cifar10())[:-20]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (cifar10_without_a_batch, "cifar-10-batches-bin/data_batch_3.bin: the file is missing"),
        (cifar10_with_a_link, "test_batch.bin': a link; expected a regular file"),
        (cifar10_cut, "is damaged, or not an archive"),
    ],
)
def test_another_archive_is_an_error_and_nothing_is_published(
    web: str, pages: dict[str, Answer], tmp_path: Path, make: Callable[[Path], bytes], message: str
) -> None:
    Path("store").mkdir(exist_ok=True)
    catalog = serve(pages, "CIFAR10", {"cifar-10-binary.tar.gz": make(tmp_path)}, web)
    with pytest.raises(DatasetError) as caught:
        type_with(catalog, "import", "c", "torchvision:CIFAR10")
    assert message in caught.value.message
    assert not list(Path("store").rglob("*.json"))


def test_an_import_continues_after_an_error_without_another_download(
    typed: Typed, web: str, pages: dict[str, Answer]
) -> None:
    catalog = serve(pages, "MNIST", mnist(), web)
    Path("datasets").rmdir()
    with pytest.raises(MachineError, match="datasets is not writable"):
        type_with(catalog, "import", "m", "torchvision:MNIST")
    Path("datasets").mkdir()
    pages.clear()
    assert type_with(catalog, "import", "m", "torchvision:MNIST") == 0
    assert "label.npy" in published(typed, "m")


def test_a_dataset_of_another_origin_gets_the_reader_of_the_arrays(
    typed: Typed, web: str, pages: dict[str, Answer]
) -> None:
    pages["/raw.bin"] = Answer(body=b"x")
    assert typed("import", "m", f"{web}/raw.bin")[0] == 0
    assert type_with(serve(pages, "MNIST", mnist(), web), "import", "m", "torchvision:MNIST") == 0
    document = declared("m")
    assert (document["version"], document["reader"]["kind"]) == (2, "arrays")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("torchvision:CIFAR11",), "torchvision:CIFAR11: unknown dataset; expected one of CIFAR10, CIFAR100"),
        (("torchvision:ImageNet",), "torchvision:ImageNet cannot be imported by name: its owner asks for a login"),
        (("torchvision:MNIST", "--images", "."), "--images has no effect: torchvision:MNIST becomes arrays"),
        (("torchvision:MNIST", "--size", "8x8"), "--size has no effect without --images"),
        (("torchvision:CIFAR10", "--keep-archive"), "--keep-archive has no effect"),
        (("torchvision:MNIST", "--from", "mirror.example/mnist"), "expected https://"),
        (("torchvision:MNIST", "--as", "x"), "--as has no effect"),
        (("torchvision:MNIST", "--sha256", "0" * 64), "--sha256 is the digest of one file"),
        (("http://127.0.0.1:9/a.csv", "--from", "http://127.0.0.1:9"), "--from has no effect"),
    ],
)
def test_a_wrong_word_is_an_error_with_a_hint(typed: Typed, words: tuple[str, ...], message: str) -> None:
    code, _, err = typed("import", "a", *words)
    assert code == 2
    assert message in err
    assert "->" in err
