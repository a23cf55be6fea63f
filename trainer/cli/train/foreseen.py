"""`reprise _foresee`: what `train` would refuse of its words, told by scripts/train before it builds anything. Host only.

Knows that these words are for `train`. Refuses to start it.
"""

from __future__ import annotations

from trainer.cli.train import taken_apart, understood


def main(argv: list[str]) -> int:
    """Raise what `train` would of words that are certainly wrong; say nothing otherwise."""
    words = taken_apart(argv)
    if "exp" in words.options or not words.options.keys() & {"help", "resume"}:
        understood(argv, words)
    return 0
