"""The dataset cache: a folder that several users, containers and machines share."""

from __future__ import annotations

from typing import Final

CACHE_LIMIT: Final = "REPRISE_CACHE_LIMIT"
"""The environment variable with the cache's size limit, such as `20GB`."""
