"""The file and the variable that identify the image and the run of a container, in a module that does not import the record modules."""

from __future__ import annotations

from pathlib import Path
from typing import Final

IMAGE_FILE: Final = Path("/opt/reprise/image.json")
"""The image's metadata; the file exists only in containers of Reprise images."""
RUN_VARIABLE: Final = "REPRISE_WATCHED_RUN"
"""The variable with the ID of the run whose folder the launcher on the host created, and which the command in the container uses."""
