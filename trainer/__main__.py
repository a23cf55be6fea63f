"""`python -m trainer` is `reprise`."""

from __future__ import annotations

from trainer.cli import main

raise SystemExit(main())
