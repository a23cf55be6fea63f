"""Validators of other projects accept each document, and reject it if it is damaged.

The validators are installed in a separate environment, by hash (validators.txt), since they are not dependencies of Reprise. The tests run
the commands and programs in docs/how-to/share-provenance.md.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.certified import make_keys
from tests.runs.exports.exported import CONTENTS, exported, make_record
from tests.venvs import make_venv
from trainer.base.digest import canonical
from trainer.cli.runs import main
from trainer.comparison.certificate import sign
from trainer.runs.exports.crate_file import write_crate
from trainer.runs.exports.cyclonedx import bill_of_materials
from trainer.runs.exports.slsa import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.index]
ROOT: Final = Path(__file__).parents[3]
PAGE: Final = ROOT / "docs/how-to/share-provenance.md"
REQUIREMENTS: Final = Path(__file__).with_name("validators.txt")
CONTEXT: Final = "https://w3id.org/ro/crate/1.1/context"
TERMS: Final = """
about actionStatus additionalType contentSize CreateAction CreativeWork Dataset datePublished description encodingFormat endTime error
hasPart identifier instrument license mentions name object programmingLanguage PropertyValue result SoftwareSourceCode startTime value
version
"""
"""The terms of RO-Crate 1.1 that crates use. Each is the schema.org term of the same name, except `OTHER_TERMS`."""
OTHER_TERMS: Final = {"File": "http://schema.org/MediaObject", "conformsTo": "http://purl.org/dc/terms/conformsTo"}
STORE: Final = """
import io, sys
from pathlib import Path
import requests
import urllib3
from requests_cache import CachedSession
class Answer(requests.adapters.HTTPAdapter):
    def send(self, request, **_):
        headers = {"Content-Type": "application/ld+json"}
        body = io.BytesIO(Path(sys.argv[3]).read_bytes())
        return self.build_response(request, urllib3.HTTPResponse(body, headers, 200, preload_content=False))
session = CachedSession(sys.argv[1], backend="sqlite", expire_after=-1)
session.mount("https://", Answer())
session.get(sys.argv[2]).raise_for_status()
"""
"""A program that writes the response to a request into the validator's cache, which its option --offline requires."""
PREDICATE: Final = """
import json, sys
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
statement = json.load(open(sys.argv[1]))
Statement.copy_from_pb(ParseDict(statement, Message())).validate()
predicate = ParseDict(statement["predicate"], Provenance())  # rejects unknown fields
for each in [*predicate.build_definition.resolved_dependencies, *predicate.run_details.byproducts]:
    ResourceDescriptor.copy_from_pb(each).validate()
    assert each.digest
assert predicate.build_definition.build_type and predicate.run_details.builder.id
assert predicate.run_details.metadata.started_on.seconds
"""


@pytest.fixture(scope="module")
def validators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs in the environment of the validators."""
    folder = tmp_path_factory.mktemp("validators") / "venv"
    make_venv(folder, "-r", str(REQUIREMENTS))
    return folder / "bin"


def run_python(
    validators: Path, program: str, *words: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [str(validators / "python"), "-I", "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def programs_of_page() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a run with the files of `exported()`."""
    run = exported()
    bodies = {**CONTENTS, "record.json": make_record().to_json()}
    for path, body in bodies.items():
        file = tmp_path / run.record.run / run.last.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    (tmp_path / run.record.run / "source.tar.gz").write_bytes(b"source")
    return tmp_path / run.record.run


def test_provenance_is_a_statement_of_in_toto(validators: Path, tmp_path: Path) -> None:
    file = tmp_path / "provenance.json"
    file.write_bytes(canonical(provenance(exported())))
    assert run_python(validators, PREDICATE, str(file)).stderr == ""


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda statement: statement.update(subject=[]), "subject"),
        (lambda statement: statement["subject"][0].pop("digest"), "digest"),
        (lambda statement: statement["predicate"].update(image={}), "image"),
        (lambda statement: statement["predicate"]["runDetails"]["metadata"].update(startedOn="today"), "startedOn"),
    ],
)
def test_damaged_provenance_is_rejected(
    validators: Path, tmp_path: Path, damage: Callable[[Any], object], error: str
) -> None:
    statement = json.loads(canonical(provenance(exported())))
    damage(statement)
    (tmp_path / "provenance.json").write_text(json.dumps(statement))
    assert error in run_python(validators, PREDICATE, str(tmp_path / "provenance.json")).stderr


def bom_program() -> str:
    return programs_of_page()[1]


def test_a_bill_of_materials_is_valid_for_the_strict_validator(validators: Path, tmp_path: Path) -> None:
    (tmp_path / "bom.json").write_bytes(canonical(bill_of_materials(exported())))
    assert run_python(validators, bom_program(), cwd=tmp_path).stderr == ""


@pytest.mark.parametrize("damage", [{"version": "one"}, {"serialNumber": "1"}, {"unknown": 1}])
def test_a_damaged_bill_of_materials_is_rejected(validators: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    (tmp_path / "bom.json").write_bytes(canonical(bill_of_materials(exported()) | damage))
    assert "AssertionError" in run_python(validators, bom_program(), cwd=tmp_path).stderr


@pytest.fixture(scope="module")
def cache(validators: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of the crate validator, which contains the context of RO-Crate."""
    folder = tmp_path_factory.mktemp("cache")
    terms = {name: f"http://schema.org/{name}" for name in TERMS.split()} | OTHER_TERMS
    (folder / "context.json").write_text(json.dumps({"@context": terms}))
    done = run_python(validators, STORE, str(folder / "http"), CONTEXT, str(folder / "context.json"))
    assert done.returncode == 0, done.stderr
    return folder / "http"


def validate_crate(validators: Path, cache: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the crate validator without network access."""
    command = [str(validators / "rocrate-validator"), "-y", "validate", "--offline", "--cache-path", str(cache), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


UNKNOWN: Final = {
    "The Application SHOULD have a url",
    "The SoftwareApplication id SHOULD be an absolute URI",
    "The Action SHOULD have an agent that is a Person or Organization",
    "The Root Data Entity SHOULD have a link to a Contextual Entity representing the schema_org:license type",
    "The Root Data Entity SHOULD have a link to a Contextual Entity representing the `author` of the RO-Crate",
    "The `publisher` property of a `Root Data Entity` SHOULD be an `Organization`",
}
"""Recommendations about facts that no record has: a URL of the source, a person, a license."""


def test_a_crate_follows_each_requirement_and_what_is_recommended(
    validators: Path, cache: Path, folder: Path, tmp_path: Path
) -> None:
    write_crate(exported(), folder, out=tmp_path / "crate")
    words = ("-p", "process-run-crate", "-l", "RECOMMENDED", "-f", "json", "-o", "issues.json", "crate")
    done = validate_crate(validators, cache, *words, cwd=tmp_path)
    report = json.loads((tmp_path / "issues.json").read_text())
    assert {each["severity"] for each in report["issues"]} == {"RECOMMENDED"}, done.stdout + done.stderr
    assert {each["message"] for each in report["issues"]} == UNKNOWN
    assert report["statistics"]["total_checks_by_severity"]["REQUIRED"] > 40


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"instrument"', b'"description"', "instrument"),
        (b"wfrun/process", b"wfrun/nothing", "permalink of the profile"),
        (b"attempts/1/log.txt", b"attempts/1/log.csv", "log.csv"),
        (b'"actionStatus"', b'"noTermOfRoCrate"', "noTermOfRoCrate"),
    ],
)
def test_a_damaged_crate_is_rejected(
    validators: Path, cache: Path, folder: Path, tmp_path: Path, old: bytes, new: bytes, reason: str
) -> None:
    write_crate(exported(), folder, out=tmp_path / "crate")
    file = tmp_path / "crate/ro-crate-metadata.json"
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new))
    words = ("-p", "process-run-crate", "-f", "json", "-o", "issues.json", "crate")
    assert validate_crate(validators, cache, *words, cwd=tmp_path).returncode == 1
    issues = json.loads((tmp_path / "issues.json").read_text())["issues"]
    assert any(reason in each["message"] for each in issues)


def commands_of_page() -> list[list[str]]:
    """Return, in order, the commands of the page that can be run: those of openssl, the validator, and exports of `latest`."""
    lines = re.findall(r"^    (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    starts = ("openssl ", "reprise runs export latest", "rocrate-validator ")
    return [shlex.split(line, comments=True) for line in lines if line.startswith(starts)]


def test_the_commands_and_programs_of_the_page_work(
    validators: Path, cache: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_RUNS", str(folder.parent))
    monkeypatch.setenv("REPRISE_STORE", "")
    monkeypatch.chdir(tmp_path)
    for words in commands_of_page():
        match words:
            case ["reprise", "runs", *rest]:
                assert main(rest) == 0
            case ["rocrate-validator", "validate", *rest]:
                done = validate_crate(validators, cache, *rest, cwd=tmp_path)
                assert done.returncode == 0, done.stdout + done.stderr
            case _:
                subprocess.run(words, check=True, capture_output=True)
    for program in programs_of_page():
        done = run_python(validators, program, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    require_signature(tmp_path / "provenance.dsse.json", key=tmp_path / "key.pub.pem")


def require_signature(file: Path, *, key: Path) -> None:
    """Verify the signature of an envelope with openssl, over the bytes that the DSSE specification defines."""
    envelope = json.loads(file.read_bytes())
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    signed, signature = file.with_suffix(".pae"), file.with_suffix(".sig")
    signed.write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
    signature.write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", signed, "-sigfile", signature]
    command = list(map(str, words))
    subprocess.run(command, check=True, capture_output=True)
    signed.write_bytes(signed.read_bytes() + b" ")
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_a_changed_envelope_is_rejected_by_the_program_of_the_page(validators: Path, tmp_path: Path) -> None:
    private, _ = make_keys(tmp_path)
    envelope = json.loads(sign(canonical(provenance(exported())), key=private))
    envelope["payload"] = base64.b64encode(base64.b64decode(envelope["payload"]) + b" ").decode()
    (tmp_path / "provenance.dsse.json").write_text(json.dumps(envelope))
    done = run_python(validators, programs_of_page()[0], cwd=tmp_path)
    assert "VerificationError" in done.stderr
