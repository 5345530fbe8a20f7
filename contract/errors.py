"""Define every error that this project raises, and the reaction to each.

* NextwatchError
  + DecodeError          a message breaks the contract             -> dead-letter it
  + ContractError        two processes disagree on a format        -> stop the process
    - BundleError        a model bundle is missing or damaged      -> keep the old bundle
    - WindowError        a stored window is damaged                -> rebuild it from what is whole
      . NewerFormatError a newer version of the code wrote it      -> stop; start the newer version
  + StoreError           the files of a store are damaged          -> rebuild it from the changelog
  + IndexUnavailable     the vector index did not answer           -> answer from what is there
  + BrokerUnavailable    the broker did not answer                 -> retry, then stop
  + StoreUnavailable     bundles or checkpoints cannot be read now -> try again later
  + WorkerPausedError    this process stood still for too long     -> stop; another one took over
  + StorageFull          a disk that is written to is full         -> stop, and tell the person
  + StackError           the embedded stack cannot start or run    -> stop, and say the remedy
  + DatasetError         a log to replay is missing or damaged     -> stop, and say the remedy
"""


class NextwatchError(Exception):
    """The root of the tree."""


class DecodeError(NextwatchError):
    """A message that cannot be decoded or breaks a bound.

    ``reason`` is one short stable word for headers and counters (``missing:user_id``);
    ``detail`` says it in a sentence that quotes no payload.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ContractError(NextwatchError):
    """Two processes disagree on a format."""


BUNDLE_FAULTS = {
    "not_announced": "its manifest is not the one that was announced",
    "missing": "its store does not have it",
    "incomplete": "a file is missing, cut, or foreign to the manifest",
    "checksum": "a file has another sha256 than the manifest says",
    "unreadable": "a file or the manifest cannot be decoded",
    "format": "it was made for another format, or for features that this code does not compute",
    "not_finite": "a matrix has values that are not finite",
    "unsafe_model": "an ONNX file has what no model of ours needs",
    "outputs_differ": "a model does not reproduce its golden outputs here",
    "misfit": "its parts do not fit each other, or anything else",
}
"""Every word that the ``word`` of a `BundleError` may be, and its meaning."""


class BundleError(ContractError):
    """A model bundle is missing, damaged or does not fit; *word* is of `BUNDLE_FAULTS`."""

    def __init__(self, message: str, *, word: str = "misfit") -> None:
        super().__init__(message)
        self.word = word


class WindowError(ContractError):
    """A stored window record is damaged."""


class NewerFormatError(WindowError):
    """A stored window record is whole, and of a format that only newer code knows."""


class StoreError(NextwatchError):
    """The files of a local store are damaged."""


class IndexUnavailable(NextwatchError):  # noqa: N818 - the name states the condition
    """The vector index did not answer in time."""


class BrokerUnavailable(NextwatchError):  # noqa: N818 - the name states the condition
    """The broker did not answer, or did not acknowledge in time.

    ``fact`` says what happened, without the *remedy*: a command that knows a better one can tell
    it.
    """

    def __init__(self, fact: str, *, remedy: str = "") -> None:
        super().__init__(f"{fact}: {remedy}" if remedy else fact)
        self.fact = fact
        self.has_remedy = bool(remedy)


class StoreUnavailable(NextwatchError):  # noqa: N818 - the name states the condition
    """The store of bundles or checkpoints could not be read.

    ``is_missing`` says that the store answered, and has nothing of that name, or not yet.
    """

    def __init__(self, reason: str, *, is_missing: bool = False) -> None:
        super().__init__(reason)
        self.is_missing = is_missing


class WorkerPausedError(NextwatchError):
    """The process was paused so long that another one may own its partitions by now."""


class StorageFull(NextwatchError):  # noqa: N818 - the name states the condition
    """A disk that the process writes to is full."""


class StackError(NextwatchError):
    """The embedded stack cannot start, or one of its processes ended."""


class DatasetError(NextwatchError):
    """The files of a log to replay are missing, damaged, or not in the known form."""
