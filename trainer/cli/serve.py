"""`reprise serve PACKAGE`: serve a model package over HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import UsageError
from trainer.cli import IMAGE_FILE
from trainer.cli.arguments import Arguments
from trainer.cli.containers import serve_in_container
from trainer.cli.find_package import PACKAGE_HELP, find_package
from trainer.cli.machine import can_train
from trainer.cli.output import print_notice
from trainer.cli.packages import mismatch, outputs_text

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.models.packaged import PackagedModel
    from trainer.models.serving.limits import Limits

_PORT: Final = 8080
_MOST_PORT: Final = (1 << 16) - 1
_SHORTEST: Final = 16
_MOST_TOKEN: Final = 4096
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_MAKE: Final = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))' >FILE"


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    args = _parser().parse_args(argv)
    package = find_package(args.package)
    token = None if args.token_file is None else _token(args.token_file)
    _check(args)
    if token is None and not IMAGE_FILE.exists() and not _is_own(args.host):
        print_notice(f"whoever reaches {args.host}:{args.port} can send requests; --token-file FILE requires a token")
    if not can_train():
        words = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in _PASSED]
        return serve_in_container(package, words, host=args.host, port=args.port or _PORT, token=args.token_file)
    from trainer.models.packaged import load_package
    from trainer.models.serving.server import Server, bound_socket

    with bound_socket(args.host, args.port) as bound:
        model = load_package(package)
        _describe(model)
        Server(model, _limits(args), token=token, say=print_notice).run(sockets=[bound])
    return 0


def _describe(model: PackagedModel) -> None:
    package, certificate = model.package, model.opened.certificate
    print_notice(f"package {package.name}, {package.digest}, of run {package.run}")
    if certificate.holds:
        print_notice(
            f"its certificate holds: {certificate.test.samples:,} test samples: {outputs_text(certificate.test)}"
        )
    else:
        print_notice(
            f"the package has no valid certificate; its predictions may differ from the run's: {mismatch(certificate)}"
        )


def _parser() -> Arguments:
    parser = Arguments(
        "reprise serve",
        "Serve a model package over HTTP: POST /predict accepts pictures, tables, arrays or JSON, and /v2 implements the Open "
        "Inference Protocol. The package is verified first. The server needs no store, no run and no other network access.",
    )
    parser.add_argument("package", metavar="PACKAGE", help=PACKAGE_HELP)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=_PORT, help="the port; 0 selects a free port (default: %(default)s)"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a file with a token that requests must send, except for health checks and the start page",
    )
    parser.add_argument(
        "--max-body",
        type=int,
        default=16 << 20,
        metavar="BYTES",
        help="maximum size of a request body (default: %(default)s, 16 MiB)",
    )
    parser.add_argument(
        "--max-batch",
        type=int,
        default=64,
        metavar="N",
        help="maximum number of samples in a batch (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-wait",
        type=float,
        default=2.0,
        metavar="MS",
        help="milliseconds to wait for more requests before running a batch; 0 runs each request alone (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time limit of a request (default: %(default)s)",
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=256,
        metavar="N",
        help="maximum number of concurrent requests (default: %(default)s)",
    )
    return parser


_PASSED: Final = ("max_body", "max_batch", "batch_wait", "timeout", "concurrency")
"""Options that are passed to the container unchanged."""
_RANGES: Final = {
    "port": (0, _MOST_PORT),
    "max_body": (1, 1 << 32),
    "max_batch": (1, 1 << 16),
    "batch_wait": (0, 10_000),
    "timeout": (0.1, 3600),
    "concurrency": (1, 1 << 16),
}


def _check(args: Namespace) -> None:
    for name, (least, most) in _RANGES.items():
        value, option = getattr(args, name), f"--{name.replace('_', '-')}"
        if not least <= value <= most:
            raise UsageError(f"{option} is {value}; expected {least} to {most}", hint="reprise serve --help")


def _is_own(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _limits(args: Namespace) -> Limits:
    from trainer.models.serving.limits import Limits

    return Limits(
        max_body=args.max_body,
        max_batch=args.max_batch,
        batch_wait=args.batch_wait / 1000,
        timeout=args.timeout,
        concurrency=args.concurrency,
    )


def _token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_TOKEN).decode("ascii", "replace").strip()
    except OSError as fault:
        raise UsageError(f"--token-file {path} cannot be read: {fault.strerror}", hint=_MAKE) from fault
    if len(text) < _SHORTEST or not _TOKEN.fullmatch(text):
        message = (
            f"--token-file {path} has no token: expected one line of at least {_SHORTEST} visible ASCII characters"
        )
        raise UsageError(message, hint=_MAKE)
    return text
