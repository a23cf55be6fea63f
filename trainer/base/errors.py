"""The errors of Reprise, and their exit codes. `trainer.cli` prints them.

A message is one sentence that names the object, what was found and what was expected; the hint names the next step.

| codes | meaning |
|---|---|
| 0 | success |
| 1 | unexpected: a bug in Reprise |
| 2 | usage: an unknown word or a value of the wrong form |
| 10-39 | verdicts of comparing two runs |
| 40-49 | declarations: files, settings, environments, datasets, records |
| 50-59 | the store |
| 60-69 | the engine and its images, and the scheduler of a cluster |
| 70-79 | the machine: disk, permissions, ports, devices |
| 80-99 | the run itself |
| 130, 143 | stopped by Ctrl-C, by SIGTERM (75 if a checkpoint was saved) |
"""

from __future__ import annotations

from typing import ClassVar


class RepriseError(Exception):
    """The base class: an error with a message, a hint and an exit code."""

    code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Store the message and the hint."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickling: loader workers raise these errors too."""
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[RepriseError], message: str, hint: str | None) -> RepriseError:
    return kind(message, hint=hint)


class UsageError(RepriseError):
    """An invalid command line."""

    code = 2


# --- 10-39: verdicts


class IncomparableError(RepriseError):
    """A run without a result, which cannot be compared with a rerun."""

    code = 30


# --- 40-49: declarations


class DocumentError(RepriseError):
    """A file that does not have its declared format."""

    code = 40


class SettingError(RepriseError):
    """A setting that is unknown, of the wrong type, out of range, or without effect; `faults` lists several faults."""

    code = 41
    faults: tuple[SettingError, ...] = ()


class ExperimentError(RepriseError):
    """An experiment that is unknown or cannot be loaded."""

    code = 42


class EnvironmentNameError(RepriseError):
    """An environment that is not declared."""

    code = 43


class DatasetError(RepriseError):
    """A dataset that is not declared, or does not match its declaration."""

    code = 44


class RunNotFoundError(RepriseError):
    """A run that is neither on this machine nor in the store."""

    code = 45


class SourceError(RepriseError):
    """A checkout that cannot be captured."""

    code = 46


class LockError(RepriseError):
    """A lock that cannot be created, or that differs from the lock of the image."""

    code = 47


class ManifestError(RepriseError):
    """A manifest that is damaged or lists invalid files."""

    code = 48


class CertificateError(RepriseError):
    """A certificate that was changed, is signed by another key, or is about another run."""

    code = 49


# --- 50-59: the store


class StoreError(RepriseError):
    """A failed operation of a store."""

    code = 50


class StoreUnreachableError(StoreError):
    """A store that does not respond."""

    code = 51


class StoreDeniedError(StoreError):
    """A store that rejects the credentials."""

    code = 52


class StoreMissingError(StoreError):
    """A bucket or folder that does not exist."""

    code = 53


class ObjectMissingError(StoreError):
    """An object that is not in the store."""

    code = 54


class DigestMismatchError(StoreError):
    """Bytes that do not match their digest."""

    code = 55


# --- 60-69: the engine and its images


class EngineError(RepriseError):
    """A failed operation of the container engine."""

    code = 60


class EngineAbsentError(EngineError):
    """No container engine is installed, or it does not respond."""

    code = 61


class ImageMissingError(EngineError):
    """An image that is not on this machine."""

    code = 62


class ImageBuildError(EngineError):
    """A build that failed."""

    code = 63


class PinError(EngineError):
    """A pin that cannot be written or restored."""

    code = 64


class SchedulerError(EngineError):
    """A scheduler that is not installed, does not respond, or rejects a job."""

    code = 65


# --- 70-79: the machine


class MachineError(RepriseError):
    """A problem of this machine."""

    code = 70


class DiskFullError(MachineError):
    """No space left on the disk."""

    code = 71


class NotWritableError(MachineError):
    """A folder without write permission for this user."""

    code = 72


class PortTakenError(MachineError):
    """A port that another program listens on."""

    code = 73


class DeviceError(MachineError):
    """A requested device that is not usable."""

    code = 74


class DotenvError(MachineError):
    """A managed block in .env that is damaged or stale."""

    code = 77


class UnsafePathError(MachineError):
    """A link, a pipe, a device or another user's file in a run or a cache, in place of a regular file or folder."""

    code = 76


# --- 80-99: the run


class RunError(RepriseError):
    """A failed run."""

    code = 80


class NotDeterministicError(RunError):
    """An operation without a deterministic kernel, at a level that promises one."""

    code = 81


class ExperimentFailedError(RunError):
    """An exception in the experiment's code; `place` is its last executed line."""

    code = 82
    place: str = ""


class NotFiniteError(RunError):
    """A loss of training, validation or test that is not finite."""

    code = 83


class IrreproducibleError(RunError):
    """A run that cannot be reproduced here, because something that it needs is missing."""

    code = 84


class UntrustedCodeError(RunError):
    """Code from another user or machine that the user has not trusted."""

    code = 85


class ResumeError(RunError):
    """A run that cannot be resumed, for example because it is complete or still running, or because its ingredients changed."""

    code = 88


class ImageMismatchError(RunError):
    """A process in a different image than the recorded image."""

    code = 86


class DriftError(RunError):
    """A process that has drifted from its image."""

    code = 87


class CheckFailedError(RunError):
    """An experiment that fails `reprise check`."""

    code = 89


class CheckpointError(RunError):
    """A checkpoint that cannot be restored: it is invalid, or of another net."""

    code = 90


class RankError(RunError):
    """A process of a run on several devices that ended, did not start, or has other weights than the others."""

    code = 92


class ClaimedError(RunError):
    """An attempt whose number, or a later number of its run, another process has claimed in the store; `host` is its machine."""

    code = 93

    def __init__(self, message: str, *, hint: str | None = None, host: str = "") -> None:
        """Store the message, the hint and the host."""
        super().__init__(message, hint=hint)
        self.host = host


class PackageError(RunError):
    """A net that cannot be packaged, or a package that does not reproduce its run's results."""

    code = 91


class StoppedError(RepriseError):
    """A command that was stopped by SIGTERM; a run that has a checkpoint ends with 75 instead."""

    code = 143


class PreemptedError(StoppedError):
    """A run that was stopped by SIGTERM and has a checkpoint: a scheduler may start it again with `--resume-or-begin`."""

    code = 75


class InterruptedRunError(StoppedError):
    """A run that was stopped by Ctrl-C."""

    code = 130
