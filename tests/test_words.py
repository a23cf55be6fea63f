"""Basic modules: digests, suggestions, documents, errors."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.base import errors
from trainer.base.digest import (
    canonical,
    digest_of_blocks,
    digest_of_bytes,
    digest_of_document,
    digest_of_file,
    is_digest,
)
from trainer.base.document import Document, parse_json, read_toml
from trainer.base.errors import DocumentError, RepriseError, StoreDeniedError
from trainer.base.suggestions import did_you_mean, listed, nearest

PACKAGE = Path(errors.__file__).parent
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


class Small(Document):
    """A document of two keys."""

    name: str
    count: int = 0


@given(JSON)
def test_every_document_has_a_canonical_form(document: object) -> None:
    assert digest_of_document(document) == digest_of_document(document)


@given(st.dictionaries(st.text(), st.integers(-100, 100)))
def test_the_order_of_keys_does_not_matter(document: dict[str, int]) -> None:
    assert canonical(document) == canonical(dict(reversed(document.items())))


def test_values_outside_of_json_are_distinguished() -> None:
    assert (
        canonical([float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 2**60])
        == b'["NaN","Infinity","-Infinity","-0",0,"1152921504606846976"]'
    )


def test_a_whole_number_is_written_as_an_integer_up_to_2_to_the_53_less_1() -> None:
    numbers = [2**53 - 1, -(2**53) + 1, 2**53, -(2**53)]
    assert canonical(numbers) == b'[9007199254740991,-9007199254740991,"9007199254740992","-9007199254740992"]'


@given(st.lists(st.binary()))
def test_a_digest_does_not_depend_on_block_sizes(blocks: list[bytes]) -> None:
    assert digest_of_blocks(blocks) == digest_of_bytes(b"".join(blocks))


def test_the_digest_of_a_file_follows_from_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert digest_of_file(tmp_path / "x") == digest_of_bytes(b"abc")
    assert is_digest(digest_of_bytes(b"abc"))
    assert not is_digest("sha256:abc")


def test_a_similar_name_is_suggested_and_a_different_name_is_not() -> None:
    assert nearest("Learning-Rat", ["learning_rate", "seed"]) == ["learning_rate"]
    assert did_you_mean("zzz", ["digits", "faces"]) == "known: digits, faces"


NAMES = [
    "learning_rate",
    "final_rate",
    "max_epochs",
    "max_steps",
    "batch_size",
    "seed",
    "trace",
    "beta1",
    "beta2",
    "depth",
]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("DEPTH", ["depth"]),
        ("LEARNING_RATE", ["learning_rate"]),
        ("l_earning-rate", ["learning_rate"]),
        ("batch.size", ["batch_size"]),
        ("learningrate", ["learning_rate"]),
        ("max_epoch", ["max_epochs"]),
        ("lerning_rate", ["learning_rate"]),
        ("rate", ["final_rate", "learning_rate"]),
        ("epoch", ["max_epochs"]),
        ("beta", ["beta2", "beta1"]),
        ("zzz", []),
    ],
)
def test_several_names_are_suggested_only_if_about_equally_similar(name: str, found: list[str]) -> None:
    assert nearest(name, NAMES) == found


def lacking_hints(path: Path) -> list[str]:
    """Return the lines of a module that construct an error without a hint."""
    kinds = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, RepriseError)}
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    constructed = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in kinds]
    return [
        f"{path}:{each.lineno}" for each in constructed if not {None, "hint"} & {word.arg for word in each.keywords}
    ]


def test_every_error_has_a_hint() -> None:
    assert not [place for path in PACKAGE.rglob("*.py") for place in lacking_hints(path)]


def test_a_hint_never_lists_a_whole_folder() -> None:
    many = [f"{number:06}/{'x' * 40}.png" for number in range(5000)]
    assert len(did_you_mean("nope.csv", many)) < 250
    assert listed(many).endswith(" more")
    assert len(listed([300 * "x", 300 * "y"])) < 150
    assert len(did_you_mean(300 * "x", [299 * "x"])) < 100
    assert listed([]) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('nam = "x"\nname = "y"', "unknown key 'nam'"),
        ("count = 1", "key 'name' is missing"),
        ('name = "x"\ncount = "many"', "count: found 'many'"),
        ("name =", "not valid TOML"),
    ],
)
def test_an_error_in_a_file_is_one_sentence_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(DocumentError, match=message) as caught:
        read_toml(file, Small)
    assert str(file) in caught.value.message
    assert caught.value.hint


def test_a_misspelled_key_suggests_the_nearest_key(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('name = "x"\ncuont = 1')
    with pytest.raises(DocumentError) as caught:
        read_toml(tmp_path / "x.toml", Small)
    assert caught.value.hint == "did you mean count?"


def test_truncated_json_is_reported_as_damaged() -> None:
    with pytest.raises(DocumentError, match="not valid JSON"):
        parse_json('{"name": "x', Small, where="there")


def test_an_error_can_be_pickled_between_processes() -> None:
    again = pickle.loads(pickle.dumps(StoreDeniedError("refused", hint="log in")))  # noqa: S301 - bytes that this line pickled
    assert (type(again), again.message, again.hint, again.code) == (
        StoreDeniedError,
        "refused",
        "log in",
        52,
    )


def test_exit_codes_are_in_the_documented_ranges() -> None:
    codes = [kind.code for kind in _descendants(RepriseError)]
    assert len(codes) == len(set(codes))
    assert all(code in {1, 2, 130, 143} or 10 <= code <= 99 for code in codes)


def _descendants(kind: type[RepriseError]) -> list[type[RepriseError]]:
    return [
        kind,
        *(inner for child in kind.__subclasses__() for inner in _descendants(child)),
    ]
