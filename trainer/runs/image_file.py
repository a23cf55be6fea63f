"""Whether this process runs in an image, and for which run; separate, so that commands need not import the modules for records."""

from __future__ import annotations

from pathlib import Path
from typing import Final

IMAGE_FILE: Final = Path("/opt/reprise/image.json")
"""The image's own metadata; exists only in containers of Reprise's images."""
RUN_VARIABLE: Final = "REPRISE_WATCHED_RUN"
"""The variable with the run whose folder the launcher on the host created; the launcher in the container uses it."""
