"""Datasets by their names in torchvision: MNIST, Fashion-MNIST, KMNIST, CIFAR-10 and CIFAR-100, from the files that their authors publish.

Addresses: `mirrors` in torchvision/datasets/mnist.py and `url` in cifar.py; of CIFAR the binary version, because the version for Python has
pickles. Digests: torchvision/prototype/datasets/_builtin/mnist.py; of CIFAR tensorflow_datasets/url_checksums, which also has the sizes.
https://www.cs.toronto.edu/~kriz/cifar.html has the MD5 of the same archives: c32a1d4ab5d03f1284b67883e8d87530 and
03b5dce01913d631647c71ecec9e9cb8. Licenses: the documentation of keras.datasets.mnist, and the pages of zalandoresearch/fashion-mnist and
rois-codh/kmnist; CIFAR's page states none.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.errors import StoreUnreachableError, UsageError
from trainer.base.suggestions import did_you_mean, nearest, short
from trainer.data.upstream.listing import RemoteFile, UpstreamListing
from trainer.data.upstream.picture_arrays import IdxFiles, RecordFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trainer.data.upstream.listing import Client

SCHEME: Final = "torchvision:"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDataset:
    """The files of a dataset that never change, and their format."""

    address: str
    """The folder of the files."""
    files: tuple[RemoteFile, ...]
    pictures: IdxFiles | RecordFiles
    license: str = ""
    """Empty if the authors state none."""


class NamedFiles:
    """The files of a named dataset, on the server of its authors or on a mirror; sizes and checksums are known before."""

    def __init__(self, source: str, dataset: NamedDataset, *, mirror: str, client: Callable[[str], Client]) -> None:
        """Create a client for the address of each file; `mirror` is the folder of the files if it is not that of the dataset."""
        self.source, self.dataset = source, dataset
        folder = (mirror or dataset.address).rstrip("/")
        self._clients = {file.path: client(f"{folder}/{file.path}") for file in dataset.files}

    def list_files(self) -> UpstreamListing:
        """List the files; no server is asked."""
        return UpstreamListing(files=self.dataset.files, license=self.dataset.license)

    def download(self, file: RemoteFile, target: Path, advance: Callable[[int], None]) -> None:
        """Write a file to `target`. Raise the errors of the address's client."""
        client = self._clients[file.path]
        try:
            client.download(client.list_files().files[0], target, advance)
        except StoreUnreachableError as fault:
            hint = f"{fault.hint}; if another server has the files: reprise data import NAME {shlex.quote(self.source)} --from ADDRESS"
            raise StoreUnreachableError(fault.message, hint=hint) from fault


def named_dataset(source: str, catalog: Mapping[str, NamedDataset]) -> NamedDataset:
    """Return the dataset of `torchvision:NAME`. Raise `UsageError` for an unknown name, and for a dataset that is not imported by name."""
    name = source.removeprefix(SCHEME)
    if name in catalog:
        return catalog[name]
    known = f"expected one of {', '.join(sorted(catalog))}"
    if name in _OTHERS:
        reason, hint = _OTHERS[name]
        raise UsageError(f"{source} cannot be imported by name: {reason}; {known}", hint=hint.format(name=name))
    hint = did_you_mean(name, [*catalog, *nearest(name, _OTHERS)])
    raise UsageError(f"{SCHEME}{short(name)}: unknown dataset; {known}", hint=hint)


def _idx(address: str, files: Mapping[str, tuple[int, str]], license_: str) -> NamedDataset:
    """Return a dataset in the four files of MNIST."""
    splits = {"train": "train", "test": "t10k"}
    return NamedDataset(
        address=address,
        files=tuple(
            RemoteFile(path=f"{name}-ubyte.gz", size=size, checksum=f"sha256:{sha256}")
            for name, (size, sha256) in files.items()
        ),
        pictures=IdxFiles(
            files={
                split: (f"{word}-images-idx3-ubyte.gz", f"{word}-labels-idx1-ubyte.gz")
                for split, word in splits.items()
            },
            shape=(1, 28, 28),
            classes={"label": 10},
        ),
        license=license_,
    )


def _cifar(archive: RemoteFile, files: Mapping[str, tuple[str, ...]], classes: Mapping[str, int]) -> NamedDataset:
    return NamedDataset(
        address="https://www.cs.toronto.edu/~kriz",
        files=(archive,),
        pictures=RecordFiles(files=files, shape=(3, 32, 32), classes=classes),
    )


CATALOG: Final[dict[str, NamedDataset]] = {
    "MNIST": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        {
            "train-images-idx3": (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            "train-labels-idx1": (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            "t10k-images-idx3": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            "t10k-labels-idx1": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        },
        "CC BY-SA 3.0",
    ),
    "FashionMNIST": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        {
            "train-images-idx3": (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            "train-labels-idx1": (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            "t10k-images-idx3": (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            "t10k-labels-idx1": (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        },
        "MIT",
    ),
    "KMNIST": _idx(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
        {
            "train-images-idx3": (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            "train-labels-idx1": (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            "t10k-images-idx3": (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            "t10k-labels-idx1": (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        },
        "CC BY-SA 4.0",
    ),
    "CIFAR10": _cifar(
        RemoteFile(
            path="cifar-10-binary.tar.gz",
            size=170052171,
            checksum="sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
        {
            "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
            "test": ("cifar-10-batches-bin/test_batch.bin",),
        },
        {"label": 10},
    ),
    "CIFAR100": _cifar(
        RemoteFile(
            path="cifar-100-binary.tar.gz",
            size=168513733,
            checksum="sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
        {"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)},
        {"coarse": 20, "label": 100},
    ),
}
"""The datasets that can be imported by name."""
_BY_HAND: Final = "download and unpack {name} in DIR as its page describes, then: reprise data publish NAME DIR"
_BY_TORCHVISION: Final = (
    "in Python: torchvision.datasets.{name}('DIR', download=True, ...), then: reprise data publish NAME DIR"
)
_OTHERS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(
        ("ImageNet", "Cityscapes", "FER2013", "Flickr8k", "Flickr30k"),
        ("its owner asks for a login or an agreement", _BY_HAND),
    ),
    **dict.fromkeys(("CelebA", "PCAM", "WIDERFace"), ("its files are on Google Drive, for a browser", _BY_HAND)),
    **dict.fromkeys(
        ("CocoCaptions", "CocoDetection", "HMDB51", "LSUN", "LSUNClass", "StanfordCars", "UCF101"),
        ("torchvision does not download it either", _BY_HAND),
    ),
    **dict.fromkeys(
        ("EMNIST", "MovingMNIST", "Omniglot", "QMNIST", "SEMEION", "STL10", "SVHN", "USPS"),
        ("its format is not read", _BY_TORCHVISION),
    ),
    **dict.fromkeys(
        (
            *("Caltech101", "Caltech256", "CLEVRClassification", "Country211", "DTD", "EuroSAT", "FGVCAircraft", "Flowers102"),
            *("Food101", "GTSRB", "Imagenette", "INaturalist", "Kinetics", "Kitti", "LFWPairs", "LFWPeople", "OxfordIIITPet"),
            *("PhotoTour", "Places365", "RenderedSST2", "SBDataset", "SBU", "SUN397", "VOCDetection", "VOCSegmentation"),
        ),
        ("it is an archive of pictures or films", _BY_TORCHVISION),
    ),
}  # fmt: skip
"""Datasets of torchvision that cannot be imported by name, the reason, and what to type instead."""
