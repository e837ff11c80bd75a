"""One run folder for all processes, whoever started them: torchrun, SLURM, or Lightning itself."""

import os
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from lightning_fastrecipes.errors import RecipeError

_PATIENCE = timedelta(minutes=30)


class Launch(NamedTuple):
    """Which process this is of how many, and where they meet; ``is_hosted`` if a launcher waits."""

    rank: int
    num_processes: int
    host: str
    port: int
    is_hosted: bool
    attempt: str


def find_launch(environ: Mapping[str, str]) -> Launch | None:
    """Return how torchrun or SLURM has started this process; ``None`` if neither has several.

    >>> environ = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2"}
    >>> find_launch(environ | {"MASTER_ADDR": "node-0", "MASTER_PORT": "29500"}).rank
    1
    """
    if "TORCHELASTIC_RUN_ID" in environ and int(environ.get("WORLD_SIZE", 1)) > 1:
        return Launch(
            int(environ["RANK"]),
            int(environ["WORLD_SIZE"]),
            environ["MASTER_ADDR"],
            int(environ["MASTER_PORT"]),
            environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )
    # A batch script that starts a command without `srun` has no step of its own.
    if "SLURM_STEP_ID" in environ and int(environ.get("SLURM_NTASKS", 1)) > 1:
        from lightning_fastrecipes._lightning import SLURMEnvironment

        if not SLURMEnvironment.detect():
            return None
        try:
            slurm = SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:  # tasks that are not said for each node
            raise RecipeError(f"SLURM: {error}") from error
        # Not its own port, which Lightning opens in a moment.
        place = slurm.main_address, slurm.main_port + 1
        step = environ["SLURM_STEP_ID"]
        return Launch(slurm.global_rank(), slurm.world_size(), *place, False, step)
    return None


def agree(launch: Launch, decide: Callable[[], Path]) -> Path:
    """Let the first process decide on a folder, and tell the others, whoever starts first.

    What ``decide`` raises ends all processes. Raise `RecipeError` if the first one does not come.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    is_first, key = launch.rank == 0, f"fastrecipes/{launch.attempt}"
    try:
        store = TCPStore(
            launch.host,
            launch.port,
            is_master=is_first and not launch.is_hosted,
            timeout=_PATIENCE,
            wait_for_workers=False,
        )
        if not is_first:
            folder = os.fsdecode(store.get(key))
            store.add(f"{key}/read", 1)
    except (RuntimeError, ValueError) as error:
        raise RecipeError(
            f"The processes of this run must reach the first one at {launch.host}:{launch.port},"
            f" but process {launch.rank} of {launch.num_processes} cannot: {error}. Look at the"
            " messages of the first process."
        ) from error
    if is_first:
        folder = ""
        try:
            folder = os.fspath(decide().absolute())
        finally:
            store.set(key, folder)
            ends = time.monotonic() + _PATIENCE.total_seconds()
            # The others must have read it before this process takes the store away.
            while not launch.is_hosted and time.monotonic() < ends:
                if store.add(f"{key}/read", 0) == launch.num_processes - 1:
                    break
                time.sleep(0.05)
    if not folder:
        raise RecipeError("The first process of this run has ended; its message says why.")
    return Path(folder)
