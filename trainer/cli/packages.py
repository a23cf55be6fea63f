"""`reprise packages ls|show|push|pull`: the model packages on this machine, in a store and in OCI registries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DigestMismatchError, DocumentError, RepriseError, StoreError, UsageError
from trainer.base.safe_folder import Root
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import STORE_HELP, configured_store, runs_folder, shown_path
from trainer.cli.find_package import PACKAGE_HELP, digest_of, find_package
from trainer.cli.formatting import columns, value_text
from trainer.cli.messages import spelled
from trainer.cli.output import one_line, print_json, print_notice
from trainer.comparison.certificate import verification_key
from trainer.models.package import open_package, packages_in, read_package
from trainer.models.package_artifact import default_tag, pull_artifact, push_artifact
from trainer.models.package_signature import package_signature
from trainer.models.package_store import pull_package, push_package, stored_digests, stored_package
from trainer.models.weights_retest import RetestSubject, weights_retests
from trainer.stores.registry import Registry
from trainer.stores.registry_reference import EXAMPLE, Reference, is_reference

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.models.package import MetricComparison, OutputComparison, Package, ParityCertificate, WayParity
    from trainer.models.weights_retest import FoundRetest

KEY_HELP: Final = "Ed25519 private key to sign with, PEM (default: unsigned)"
_REFERENCE_HELP: Final = f"REGISTRY/NAME[:TAG], such as {EXAMPLE}"


def main(argv: list[str]) -> int:
    """Run a subcommand."""
    args = _parser().parse_args(argv)
    code: int = args.verb(args)
    return code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise packages",
        "Manage model packages on this machine and in the store; `reprise package RUN` writes a package.",
    )
    verbs = parser.commands()
    ls = verbs.add_parser("ls", help="list packages")
    places = ls.add_mutually_exclusive_group()
    places.add_argument("--local", action="store_true", help="list only local packages, without access to the store")
    show = verbs.add_parser("show", help="show a package's contents and certificate")
    show.add_argument("package", metavar="PACKAGE", help=PACKAGE_HELP)
    show.add_argument(
        "--key", type=Path, metavar="FILE", help="Ed25519 public key of the expected signer, PEM (default: not checked)"
    )
    push = verbs.add_parser("push", help="copy a package into the store, or into an OCI registry")
    push.add_argument("package", metavar="PACKAGE", help=PACKAGE_HELP)
    push.add_argument(
        "--to", metavar="REFERENCE", help=f"push to an OCI registry: {_REFERENCE_HELP} (default: the store)"
    )
    push.add_argument("--license", metavar="SPDX", help="with --to: the license of the model, such as Apache-2.0")
    pull = verbs.add_parser("pull", help="download and verify a package from the store, or from an OCI registry")
    pull.add_argument(
        "source",
        metavar="DIGEST",
        help="the digest of the package, which `push` prints; or REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST",
    )
    for each, verb in {ls: _ls, show: _show, push: _push, pull: _pull}.items():
        each.set_defaults(verb=verb)
        each.add_argument("--json", action="store_true", help="print the result as JSON")
        if each is not show:
            (places if each is ls else each).add_argument("--store", metavar="ADDRESS", help=STORE_HELP)
    return parser


def _ls(args: Namespace) -> int:
    local, stored = dict(_local()), {} if args.local else dict(_stored(args.store))
    found = {**stored, **local}
    rows = [(package, _places(digest, local, stored)) for digest, package in found.items()]
    if args.json:
        print_json(
            [
                {"package": package.digest, "name": package.name, "in": where, **_about(package)}
                for package, where in rows
            ]
        )
    elif not rows:
        print_notice(spelled("no packages yet: `reprise package RUN` writes a package"))
    else:
        cells = [(package.name, package.run, _metric(package), ", ".join(where)) for package, where in rows]
        print("\n".join(columns([("package", "run", "measured", "in"), *cells])))
    return 0


def _places(digest: str, local: Mapping[str, Package], stored: Mapping[str, Package]) -> list[str]:
    return [name for name, known in (("this machine", local), ("store", stored)) if digest in known]


def _local() -> Iterator[tuple[str, Package]]:
    for path in packages_in(runs_folder()):
        try:
            package = read_package(path)[0]
        except RepriseError as fault:
            print_notice(f"{path.name} is left out: {fault.message}")
        else:
            yield package.digest, package


def _stored(address: str | None) -> Iterator[tuple[str, Package]]:
    try:
        store = configured_store(address)
        for digest in stored_digests(store):
            try:
                yield digest, stored_package(digest_of(digest), store)
            except (DocumentError, DigestMismatchError, UsageError) as fault:
                print_notice(f"{one_line(digest)} is left out: {fault.message}")
    except StoreError as fault:
        print_notice(f"only local packages are listed: {fault.message}")


def _about(package: Package) -> dict[str, Any]:
    return package.model_dump(mode="json", include={"run", "experiment", "metrics", "torch"})


def _metric(package: Package) -> str:
    found = [(name, value) for name, value in package.metrics.items() if not name.endswith("_loss")]
    return next((f"{one_line(name)} {value_text(value)}" for name, value in found or package.metrics.items()), "")


def _show(args: Namespace) -> int:
    path = find_package(args.package)
    if args.key is not None:
        verification_key(args.key)  # report an invalid key before the package is read
    opened = open_package(path)
    package, certificate = opened.package, opened.certificate
    signature = package_signature(path, package, key=args.key)
    retests = weights_retests(path, RetestSubject.of_package(package), key=args.key, opened=Root.at)
    if args.json:
        documents = {"document": package.model_dump(mode="json"), "certificate": certificate.model_dump(mode="json")}
        found = {"signature": signature, "retests": [_retest_document(each) for each in retests]}
        print_json({"package": package.digest, "path": str(path), **documents, **found})
    else:
        print("\n".join([*package_page(package, certificate, path, signature=signature), *_retest_lines(retests)]))
    return 0


def _retest_document(found: FoundRetest) -> dict[str, Any]:
    about = found.retest.model_dump(mode="json", include={"host", "verdict", "when", "who"}) if found.retest else {}
    return {"name": found.name, **about, "signature": found.signature or None, "fault": found.fault}


def _retest_lines(retests: Sequence[FoundRetest]) -> Iterator[str]:
    """Yield a line for each retest, with its host, its verdict and the state of its signature."""
    for number, each in enumerate(retests):
        head = "" if number else "retests"
        if each.retest is None:
            yield f"{head:<12}NOT VALID: {one_line(str(each.fault))}"
        else:
            found = each.retest
            about = f"{found.verdict} on {found.host}, {found.when:%Y-%m-%d}, by {found.who}"
            yield f"{head:<12}{one_line(about)}; signature {one_line(each.signature)}"


def _push(args: Namespace) -> int:
    if args.to is not None:
        return _push_artifact(args)
    if args.license is not None:
        raise UsageError("--license is accepted only with --to, for a registry", hint=f"--to {EXAMPLE}")
    opened, store = open_package(find_package(args.package)), configured_store(args.store)
    push_package(opened, store)
    if args.json:
        print_json({"package": opened.package.digest, "store": store.label})
    else:
        print(f"{opened.package.name} is in {store.label}")
        print(spelled(f"elsewhere: reprise packages pull {opened.package.digest}"))
    return 0


def _push_artifact(args: Namespace) -> int:
    target = Reference.parse(args.to)
    if args.store is not None or target.digest:
        what = "--store and --to are two targets" if args.store is not None else f"{args.to} names a digest"
        raise UsageError(f"{what}; expected a name with a tag", hint=f"--to {EXAMPLE}")
    opened = open_package(find_package(args.package))
    tag = target.tag or default_tag(opened.package)
    digest = push_artifact(opened, _registry(target), tag=tag, license_name=args.license)
    name = f"{target.host}/{target.repository}"
    if args.json:
        print_json({"package": opened.package.digest, "reference": f"{name}:{tag}", "manifest": digest})
    else:
        print(f"{opened.package.name} is in {name}:{tag}")
        print(spelled(f"elsewhere: reprise packages pull {name}@{digest}"))
    return 0


def _pull(args: Namespace) -> int:
    if not is_reference(args.source):
        path = pull_package(digest_of(args.source), configured_store(args.store), runs=runs_folder())
        return _print_pulled(args, path, {})
    source = Reference.parse(args.source)
    if source.tag is None and source.digest is None:
        raise UsageError(f"{args.source} has neither a tag nor a digest", hint=f"reprise packages pull {EXAMPLE}")
    if args.store is not None:
        raise UsageError(
            "--store is accepted only with a digest, for a package in a store",
            hint=f"reprise packages pull {args.source}",
        )
    path, package = pull_artifact(_registry(source), source.digest or str(source.tag), runs=runs_folder())
    if source.digest is None:
        print_notice(
            f"tag {source.tag} is package {package.digest}: compare the digest with the one that its author published"
        )
    return _print_pulled(args, path, {"package": package.digest})


def _print_pulled(args: Namespace, path: Path, about: Mapping[str, str]) -> int:
    if args.json:
        print_json({"path": str(path), **about})
    else:
        print(shown_path(path))
    return 0


def _registry(reference: Reference) -> Registry:
    from trainer.environments.engine.docker import registry_credentials

    return Registry(reference.host, reference.repository, credentials=registry_credentials)


def package_page(package: Package, certificate: ParityCertificate, path: Path, *, signature: str) -> Iterator[str]:
    """Yield the page of a package: its identity, its inputs and outputs, and its certificate."""
    tested = certificate.test
    yield f"package     {package.name}"
    yield f"            {package.digest}"
    yield f"folder      {shown_path(path)}  ({sum(each.bytes for each in package.files) / 1e6:,.1f} MB)"
    yield f"run         {package.run}, experiment {one_line(package.experiment)}"
    yield f"inputs      {one_line('; '.join(map(str, package.inputs)))}"
    yield f"outputs     {one_line('; '.join(map(str, package.outputs)))}"
    yield f"test split  {tested.samples:,} samples: {outputs_text(tested)}"
    for each in certificate.metrics:
        yield f"            {one_line(each.name)} {value_text(each.recomputed)}: {compared_text(each)}"
    if certificate.onnx:
        yield f"onnx        {counted(certificate.onnx.golden.samples, 'golden sample')}: {outputs_text(certificate.onnx.golden)}"
    elif certificate.onnx_omitted:
        yield f"onnx        {one_line(certificate.onnx_omitted)}"
    for number, way in enumerate(certificate.ways):
        yield f"{'' if number else 'golden':<12}{way.way}: {one_line(way_text(way))}"
    yield f"signature   {one_line(signature)}"
    if not certificate.holds:
        yield f"            NOT as measured: {mismatch(certificate)}"
    yield spelled(f"use         reprise predict {package.name} FILE")


def mismatch(certificate: ParityCertificate) -> str:
    """Describe the first difference between a package and its run: a metric, a way of use, or an output of a test sample."""
    tested = certificate.test
    if metric := next((each for each in certificate.metrics if not each.holds), None):
        return f"{metric.name} is {value_text(metric.recomputed)}; the run measured {value_text(metric.measured)}"
    way = next((each for each in certificate.ways if not each.holds), None)
    if way is not None and tested.largest <= certificate.tolerance:
        return f"golden samples by {way.way}: {way_text(way)}"
    return f"{tested.output} of test sample {tested.sample} differs by {tested.largest:.3g} of the largest value"


def way_text(way: WayParity) -> str:
    """Describe how a package's outputs in one way of use compare with the outputs of the run's net, or why there are no outputs."""
    if way.untested is not None:
        return f"not tested: {way.untested}"
    if way.measured is None:
        return f"failed: {way.fault}"
    if way.program is not None and not way.program.identical:
        found = way.program
        return f"{found.output} of sample {found.sample} differs from the program's output by {found.largest:.2g} of the largest value"
    if way.measured.identical:
        return outputs_text(way.measured)
    return f"{outputs_text(way.measured)} of sample {way.measured.sample}"


def compared_text(metric: MetricComparison) -> str:
    """Describe the difference of a recomputed metric from the measured metric."""
    measured, recomputed = metric.measured, metric.recomputed
    if measured == recomputed:
        return "as measured"
    if metric.holds and isinstance(measured, int | float) and isinstance(recomputed, int | float):
        return f"as measured, within {abs(measured - recomputed):.1g}"
    return f"measured {value_text(measured)}"


def outputs_text(outputs: OutputComparison) -> str:
    """Return how the outputs of a package compare with those of the run's net."""
    if outputs.identical:
        return "every bit is equal"
    return f"the largest difference is {outputs.largest:.2g} of the largest value, in {outputs.output}"
