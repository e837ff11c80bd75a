"""Fit the tiny task with each of the given callbacks on two gloo processes.

``test_every_callback.py`` starts this script. It forks, since importing Lightning a second time
takes longer than everything else here.
"""

import multiprocessing
import os
import pickle
import socket
import sys
from pathlib import Path

import torch
from torch.utils.data import Subset


def main(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    # Found only when this runs as a script: pytest keeps its folders out of `sys.path`.
    import conftest

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work, args=(conftest, rank, folder)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode) for process in processes))


def work(conftest, rank: int, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    dataset = conftest.make_loader().dataset
    # In the order of a single process, which the sampler that Lightning adds would shuffle.
    mine = Subset(dataset, range(rank, len(dataset), 2))
    results = {}
    for name, callbacks in pickle.loads((folder / "callbacks.pickle").read_bytes()).items():
        data = {"loader": conftest.ResumableLoader(mine, batch_size=2)}
        if name in conftest.NEEDS_IMAGES:
            data = {"datamodule": conftest.TinyImages(2, rank, num_processes=2)}
        done = conftest.fit_tiny(
            callbacks,
            **data,
            max_epochs=3,
            strategy="ddp",
            devices=2,
            use_distributed_sampler=False,
        )
        results[name] = {"lrs": done.lrs, "weights": done.weights}
    torch.save(results, folder / f"process-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
