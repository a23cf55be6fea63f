"""The table of datasets by their names in torchvision."""

from __future__ import annotations

import math
import re

import pytest

from trainer.base.errors import UsageError
from trainer.data.upstream.picture_arrays import IdxFiles
from trainer.data.upstream.torchvision import CATALOG, named_dataset


@pytest.mark.parametrize("name", CATALOG)
def test_every_file_has_a_size_a_digest_and_a_use(name: str) -> None:
    dataset = CATALOG[name]
    assert dataset.address.startswith(("https://", "http://"))
    assert not dataset.address.endswith("/")
    assert all(file.size and re.fullmatch("sha256:[0-9a-f]{64}", file.checksum) for file in dataset.files)
    used = {each for names in dataset.pictures.files.values() for each in names}
    if isinstance(dataset.pictures, IdxFiles):
        assert used == {file.path for file in dataset.files}
    assert list(dataset.pictures.files) == ["train", "test"]
    assert math.prod(dataset.pictures.shape) in {784, 3072}


def test_all_files_differ() -> None:
    checksums = [file.checksum for dataset in CATALOG.values() for file in dataset.files]
    assert len(checksums) == len({*checksums}) == 14


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "cifar10",
            "torchvision:cifar10: unknown dataset; expected one of CIFAR10, CIFAR100, Fashion",
            "mean CIFAR10?",
        ),
        ("FashionMNST", "unknown dataset", "did you mean FashionMNIST?"),
        ("celeba", "unknown dataset", "did you mean CelebA?"),
        ("", "unknown dataset", "known: CIFAR10, CIFAR100, FashionMNIST, KMNIST, MNIST"),
        ("ImageNet", "its owner asks for a login or an agreement; expected one of", "unpack ImageNet in DIR"),
        ("CelebA", "its files are on Google Drive", "reprise data publish NAME DIR"),
        ("StanfordCars", "torchvision does not download it either", "reprise data publish NAME DIR"),
        ("SVHN", "its format is not read", "torchvision.datasets.SVHN('DIR', download=True, ...), then: reprise data"),
        ("Food101", "it is an archive of pictures or films", "torchvision.datasets.Food101('DIR', download=True"),
    ],
)
def test_another_name_is_an_error_with_what_to_type(name: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        named_dataset(f"torchvision:{name}", CATALOG)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
