"""`python -m trainer` is `reprise`."""

from trainer.cli import main

raise SystemExit(main())
