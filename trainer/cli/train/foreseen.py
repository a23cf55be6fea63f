"""`reprise _foresee`: checks the arguments of `train` for scripts/train, before an image is built. Runs on the host only."""

from __future__ import annotations

from trainer.cli.train import taken_apart, understood


def main(argv: list[str]) -> int:
    """Raise the error that `train` would raise for wrong arguments."""
    words = taken_apart(argv)
    if "exp" in words.options or not words.options.keys() & {"help", "resume"}:
        understood(argv, words)
    return 0
