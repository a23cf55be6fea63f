"""`python -m trainer` is `reprise`."""

from __future__ import annotations

import sys

try:
    from trainer.cli import main

    code = main()
except KeyboardInterrupt:  # during the imports; `main` handles Ctrl-C afterwards
    sys.stderr.write("reprise: stopped by Ctrl-C\n")
    code = 130
raise SystemExit(code)
