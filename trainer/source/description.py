"""The origin of a run's source, as a record describes it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.base.document import Count, Document, OneLine
from trainer.base.suggestions import counted


class Project(Document):
    """The origin of a project from outside the checkout: a git repository, or a folder with a pyproject.toml."""

    path: OneLine
    """The folder of the project's files in the source."""
    commit: OneLine = "unknown"
    dirty: bool | None = None
    """Whether files differed from the commit; `None` if git cannot determine it."""
    submodules: dict[str, str] = Field(default={}, exclude_if=lambda commits: not commits)
    files: Count = 0

    @property
    def described(self) -> str:
        """The number of files and the commit, for a line of output."""
        state = {None: "", True: ", with changes", False: ""}[self.dirty]
        return f"{counted(self.files, 'file')} of the experiment's project, commit {self.commit}{state}"


class Source(Document):
    """The origin of a run's source."""

    how: Literal["mounted", "baked"]
    commit: OneLine = "unknown"
    dirty: bool | None = None
    """Whether files differed from the commit; `None` if git cannot determine it."""
    submodules: dict[str, str] = Field(default={}, exclude_if=lambda commits: not commits)
    """The commit of each git submodule, by path. The files of submodules are part of the source."""
    project: Project | None = Field(default=None, exclude_if=lambda project: project is None)
    """The project of an experiment from outside the checkout; its files are part of the source."""
    files: Count = 0
    bytes: Count = 0
    left_out: list[str] = []
    """The files that were not captured, each with the reason."""
