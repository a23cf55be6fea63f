"""`python -m trainer` is `reprise`."""

from __future__ import annotations

import sys

try:
    from trainer.cli import main

    code = main()
except KeyboardInterrupt:  # while modules are imported: `main` answers later ones
    sys.stderr.write("reprise: stopped by Ctrl-C\n")
    code = 130
raise SystemExit(code)
