"""What is said of processes of a run that died, which PyTorch names by their numbers alone."""

import re
import traceback

_WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (.*)", re.DOTALL)
_OF_A_RANK = re.compile(
    "Connection (closed|reset) by peer|Broken pipe|NCCL.*remote process|Connection refused"
    "|Socket Timeout|Timed out waiting",
    re.IGNORECASE,
)
KILLED = "It may have been killed by hand, or by the system for want of memory (`dmesg` says so)."
"""Why a process may have died."""
_LESS_MEMORY = "Less memory is taken with fewer workers (`data.num_workers`) or smaller batches."


def named_death(error: BaseException) -> str | None:
    """Return which process ended and what to do; ``None`` if the error is of another kind.

    >>> named_death(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))[:37]
    'A worker that loads data (process 7) '
    """
    while error.__cause__ is not None and not isinstance(error, RuntimeError):
        error = error.__cause__
    text = " ".join(str(error).split())
    if found := _WORKER.search(text):
        return (
            f"A worker that loads data (process {found[1]}) ended: {found[2].strip().rstrip('.')}."
            f" {KILLED} {_LESS_MEMORY}"
        )
    if isinstance(error, (ConnectionError, EOFError)) and _was_of_a_worker(error):
        how = getattr(error, "strerror", None) or text or "end of file"
        return f"A worker that loads data ended: {how}. {KILLED} {_LESS_MEMORY}"
    if isinstance(error, RuntimeError) and _OF_A_RANK.search(text):
        return (
            f"Another process of this run has ended, so that this one cannot go on ({text[:200]})."
            f" {KILLED} Its own message, if it left one, is above or in the log of its node."
        )
    return None


def _was_of_a_worker(error: BaseException) -> bool:
    """Whether the main process lost a worker before PyTorch knew that it had ended."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    modules = [frame.f_globals.get("__name__", "") for frame in frames]
    # What a worker met itself is raised again in the loader, with a text that begins so.
    is_again = str(error).startswith("Caught ")
    return "torch.utils.data.dataloader" in modules and not is_again
