"""Untrusted code is shown, and not run without consent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.records import record as a_record
from tests.runs.runs import finish_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import UntrustedCodeError, UsageError
from trainer.cli import trust
from trainer.cli.trust import TrustDecision, grants, has_own_image, page, require_trust
from trainer.runs.record import Image, Knowledge
from trainer.runs.register import register_attempt
from trainer.source.capture import SourceBundle, SourceFile, bundle_digest
from trainer.source.description import Source

if TYPE_CHECKING:
    from pathlib import Path

WORD = TrustDecision(command="reprise reproduce RUN")


def make_bundle(**files: bytes) -> SourceBundle:
    source_files = tuple(
        SourceFile(path=f"{name}.py", executable=False, sha256=digest_of_bytes(body), data=body)
        for name, body in files.items()
    )
    return SourceBundle(digest=bundle_digest(source_files), source=Source(how="baked"), files=source_files)


def test_a_registered_attempt_belongs_to_the_user(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish_run(runs)
    register_attempt(run.folder)
    assert require_trust(run.record, run.folder.parents[1], WORD, is_isolated=False)
    assert capsys.readouterr().err == ""


def test_an_unregistered_attempt_is_shown_and_not_run_without_terminal_or_trust(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish_run(runs)
    with pytest.raises(UntrustedCodeError, match="is from another user or machine, and it is not trusted") as caught:
        require_trust(run.record, run.folder.parents[1], WORD, is_isolated=True)
    assert str(caught.value.hint).endswith("then: reprise reproduce RUN --trust")
    assert "code.py  6 bytes" in capsys.readouterr().err
    trusting = TrustDecision(trusted=True, command="reprise reproduce RUN")
    assert not require_trust(run.record, run.folder.parents[1], trusting, is_isolated=True)


def test_outside_a_container_trust_is_not_enough(runs: Path) -> None:
    run = finish_run(runs)
    folder = run.folder.parents[1]
    with pytest.raises(UntrustedCodeError, match="would reach this machine's network, credentials and files") as caught:
        require_trust(
            run.record, folder, TrustDecision(trusted=True, command="reprise reproduce RUN"), is_isolated=False
        )
    assert "scripts/reprise reproduce RUN --trust" in str(caught.value.hint)
    granted = TrustDecision(trusted=True, granted=grants("machine"), command="reprise reproduce RUN")
    assert not require_trust(run.record, folder, granted, is_isolated=False)


def test_code_equal_to_the_checkout_belongs_to_the_user(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finish_run(runs)
    folder = run.folder.parents[1]
    monkeypatch.setattr(trust, "CHECKOUT", runs.parent / "checkout")
    assert require_trust(run.record, folder, WORD, is_isolated=False)
    assert require_trust(run.record, folder, WORD, is_isolated=True, in_its_image=False)
    with pytest.raises(UntrustedCodeError):
        require_trust(run.record, folder, WORD, is_isolated=True)


def test_a_file_excluded_from_the_checkouts_source_does_not_belong_to_the_user(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "CHECKOUT", runs.parent / "checkout")
    finish_run(runs)
    (runs.parent / "checkout/runs").mkdir()
    (runs.parent / "checkout/runs/evil.py").write_bytes(b"evil")
    assert list(trust.checkout_files()) == ["code.py"]


def test_files_that_the_checkout_lacks_are_shown_in_the_diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "same.py").write_bytes(b"x = 1\n")
    (tmp_path / "mine.py").write_bytes(b"x = 1\n")
    monkeypatch.setattr(trust, "CHECKOUT", tmp_path)
    shown = list(
        page(a_record(), make_bundle(same=b"x = 1\n", mine=b"x = 2\x1b[2J\n"), checkout=trust.checkout_files())
    )
    assert "different from this checkout: 1 file" in shown
    assert "-x = 1" in shown
    assert r"+x = 2\u001b[2J" in shown


def test_a_long_diff_is_cut() -> None:
    shown = list(page(a_record(), make_bundle(long=b"x\n" * 5000), checkout={}))
    assert shown[-1].endswith("more lines")
    assert len(shown) < 500


@pytest.mark.parametrize(
    ("manifest", "config", "own"), [("a", "b", True), ("a", None, True), ("c", "b", False), (None, None, False)]
)
def test_an_image_belongs_to_the_checkout_if_every_recorded_digest_matches(
    manifest: str | None, config: str | None, *, own: bool
) -> None:
    ours = {"REPRISE_IMAGE": f"r/cpu@{digest_of_bytes(b'a')}", "REPRISE_IMAGE_CONFIG": digest_of_bytes(b"b")}
    theirs = [None if text is None else digest_of_bytes(text.encode()) for text in (manifest, config)]
    record = a_record()
    image = Image(known=Knowledge.ASSERTED, manifest=theirs[0], config=theirs[1])
    around = record.circumstances.model_copy(update={"image": image})
    assert has_own_image(record.model_copy(update={"circumstances": around}), ours) is own


def test_an_unknown_grant_is_named() -> None:
    assert grants("network, store") == {"network", "store"}
    with pytest.raises(UsageError, match="--grant net: expected network, store, machine"):
        grants("net")
