"""The errors of Reprise, and their exit codes. `trainer.cli` prints them.

A message is one sentence that names the object, what was found and what was expected; the hint says what to do next.

| codes | meaning |
|---|---|
| 0 | success |
| 1 | unexpected: a bug in Reprise |
| 2 | usage: an unknown word or a value of the wrong form |
| 10-39 | verdicts of comparing two runs |
| 40-49 | declarations: files, settings, environments, datasets, records |
| 50-59 | the store |
| 60-69 | the engine and its images |
| 70-79 | the machine: disk, permissions, ports, devices |
| 80-99 | the run itself |
| 130, 143 | stopped by Ctrl-C, by SIGTERM |
"""

from __future__ import annotations

from typing import ClassVar


class RepriseError(Exception):
    """The root: a failure with a sentence for its reader and a number for scripts."""

    code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Keep the sentence and what to do about it."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickling: loader workers raise these errors too."""
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[RepriseError], message: str, hint: str | None) -> RepriseError:
    return kind(message, hint=hint)


class UsageError(RepriseError):
    """A command line that cannot be understood."""

    code = 2


# --- 10-39: verdicts


class IncomparableError(RepriseError):
    """A run without a result: running it again could say nothing."""

    code = 30


# --- 40-49: declarations


class DocumentError(RepriseError):
    """A file that cannot be read as what it claims to be."""

    code = 40


class SettingError(RepriseError):
    """A setting that is unknown, of the wrong type, out of range, or without any effect; `faults` are the parts of one that is several."""

    code = 41
    faults: tuple[SettingError, ...] = ()


class ExperimentError(RepriseError):
    """An experiment that is unknown or cannot be loaded."""

    code = 42


class EnvironmentNameError(RepriseError):
    """An environment that is not declared."""

    code = 43


class DatasetError(RepriseError):
    """A dataset that is not declared, or whose declaration does not hold."""

    code = 44


class RunNotFoundError(RepriseError):
    """A run that is neither here nor in the store."""

    code = 45


class SourceError(RepriseError):
    """A checkout that cannot be captured."""

    code = 46


class LockError(RepriseError):
    """A lock that is not the one the image was built from."""

    code = 47


class ManifestError(RepriseError):
    """A manifest that is damaged, or names files that no dataset may have."""

    code = 48


class CertificateError(RepriseError):
    """A certificate that was altered, was signed by another key, or is about another run."""

    code = 49


# --- 50-59: the store


class StoreError(RepriseError):
    """A store that did not do what was asked."""

    code = 50


class StoreUnreachableError(StoreError):
    """A store that does not answer."""

    code = 51


class StoreDeniedError(StoreError):
    """A store that refuses these credentials."""

    code = 52


class StoreMissingError(StoreError):
    """A bucket or folder that does not exist."""

    code = 53


class ObjectMissingError(StoreError):
    """An object that is not in the store."""

    code = 54


class DigestMismatchError(StoreError):
    """Bytes that are not the bytes their digest names."""

    code = 55


# --- 60-69: the engine and its images


class EngineError(RepriseError):
    """An engine that did not do what was asked."""

    code = 60


class EngineAbsentError(EngineError):
    """No engine, or none that answers."""

    code = 61


class ImageMissingError(EngineError):
    """An image that is not on this machine."""

    code = 62


class ImageBuildError(EngineError):
    """A build that failed."""

    code = 63


class PinError(EngineError):
    """A pin that cannot be written or obeyed."""

    code = 64


# --- 70-79: the machine


class MachineError(RepriseError):
    """Something about this machine that stands in the way."""

    code = 70


class DiskFullError(MachineError):
    """No space left where bytes had to go."""

    code = 71


class NotWritableError(MachineError):
    """A folder that this user cannot write."""

    code = 72


class PortTakenError(MachineError):
    """A port that another program listens on."""

    code = 73


class DeviceError(MachineError):
    """A device that was asked for and is not usable."""

    code = 74


class DotenvError(MachineError):
    """A managed block in .env that is damaged or stale."""

    code = 75


class UnsafePathError(MachineError):
    """A link, a pipe, a device or another user's file below a run or a cache, in place of a file or a folder of its own."""

    code = 76


# --- 80-99: the run


class RunError(RepriseError):
    """A run that failed for a reason known by name."""

    code = 80


class NotDeterministicError(RunError):
    """An operation without a deterministic kernel, at a level that promises one."""

    code = 81


class ExperimentFailedError(RunError):
    """The experiment's own code raised; `place` is the last of its lines that was reached."""

    code = 82
    place: str = ""


class NotFiniteError(RunError):
    """A loss of a training step, a validation or the test that is no finite number."""

    code = 83


class IrreproducibleError(RunError):
    """A run that cannot be run again here: something that it needs is missing."""

    code = 84


class UntrustedCodeError(RunError):
    """Somebody else's code, which nobody agreed to run."""

    code = 85


class ResumeError(RunError):
    """A run that cannot be gone on with: it is completed, alive, or what determines it has changed."""

    code = 88


class ImageMismatchError(RunError):
    """A process in another image than the one that a record names."""

    code = 86


class DriftError(RunError):
    """A process that is not what its image was built with, where work must be exact."""

    code = 87


class CheckFailedError(RunError):
    """An experiment that `reprise check` finds something wrong with."""

    code = 89


class CheckpointError(RunError):
    """A checkpoint that cannot be restored: it is not of this run's net, or not what a checkpoint is."""

    code = 90


class StoppedError(RepriseError):
    """A run that was asked to stop: 130 by Ctrl-C, 143 by SIGTERM."""

    code = 143


class InterruptedRunError(StoppedError):
    """A run that was stopped by Ctrl-C."""

    code = 130
