"""The command and a plain script under the real `torchrun`: one run, whoever starts when."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from helpers.processes import free_port
from safetensors.torch import load_file

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

CPU = ["--trainer.accelerator=cpu"]
OF_TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]


def start(folder: Path, *words: object, node: int | None = None, port: int = 0) -> subprocess.Popen:
    """Start `torchrun` for two processes, or as one of two nodes with a process each."""
    nodes = ["--nproc-per-node=2", f"--master-port={free_port()}"]
    if node is not None:
        nodes = ["--nproc-per-node=1", "--nnodes=2", f"--node-rank={node}"]
        nodes += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *nodes, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def ended(*started: subprocess.Popen) -> list[str]:
    """Return what was said, after all have ended well."""
    said = [one.communicate(timeout=600)[0] for one in started]
    assert [one.returncode for one in started] == [0] * len(started), "\n".join(said)[-4000:]
    return said


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "export" / "model.safetensors")


def assert_same_run(found: Path, expected: Path) -> None:
    """Check results, history and weights."""
    for name in ("results.json",):
        first, second = (json.loads((run / name).read_text()) for run in (found, expected))
        for one in (first, second):
            one.pop("timing", None)
        assert first["val"] == second["val"]
        assert first["test"] == second["test"]
    torch.testing.assert_close(weights(found), weights(expected), rtol=0, atol=0)
    left = [path.name for path in found.rglob(".*") if path.is_file() and "lock" not in path.name]
    assert left == []


@pytest.fixture
def expected(recipe_file, tmp_path) -> Path:
    """The run of two processes that Lightning starts by itself."""
    command = [sys.executable, "-m", "lightning_fastrecipes", "run", str(recipe_file)]
    subprocess.run(
        [*command, "--out", "expected", *CPU, *OF_TWO],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path / "expected"


def test_the_command_gives_one_run_under_torchrun(recipe_file, tmp_path, expected) -> None:
    command = ["-m", "lightning_fastrecipes", "run", recipe_file, *CPU]
    ended(start(tmp_path, *command, *OF_TWO, "--out=given"))
    assert_same_run(tmp_path / "given", expected)

    # Without a folder the first process decides on one; devices and strategy are torchrun's.
    (said,) = ended(start(tmp_path, *command))
    (folder,) = (path.parent for path in tmp_path.glob("runs/**/results.json"))
    assert_same_run(folder, expected)
    assert str(folder.relative_to(tmp_path)) in said

    # One of them comes late.
    for late in (0, 1):
        script = tmp_path / "late.py"
        script.write_text(
            "import os, sys, time\n"
            f"time.sleep(8 if os.environ['RANK'] == '{late}' else 0)\n"
            "from lightning_fastrecipes.cli.main import main\n"
            "sys.exit(main())\n"
        )
        ended(start(tmp_path, script, "run", recipe_file, *CPU, f"--out=late-{late}"))
        assert_same_run(tmp_path / f"late-{late}", expected)

    # Two nodes of one process each.
    port = free_port()
    words = [*command, "--out=nodes"]
    ended(*(start(tmp_path, *words, node=node, port=port) for node in (0, 1)))
    assert_same_run(tmp_path / "nodes", expected)


def test_what_is_wrong_is_said_once_and_ends_all_processes(recipe_file, tmp_path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("of mine")
    words = ["-m", "lightning_fastrecipes", "run", recipe_file, *CPU, "--out=taken"]
    started = start(tmp_path, *words)
    said = started.communicate(timeout=300)[0]
    assert started.returncode != 0
    assert len(re.findall("taken.* (is not empty|must be)", said)) == 1, said
    assert "lightning_fastrecipes/" not in said.partition("ChildFailedError")[0], said


def test_a_plain_script_trains_as_one_process_does(tmp_path) -> None:
    script = tmp_path / "plain.py"
    script.write_text(
        dedent(
            """
            import sys
            import pytorch_lightning as pl, torch
            from torch import nn
            from torch.utils.data import DataLoader, Subset, TensorDataset
            import lightning_fastrecipes as fr

            class Module(pl.LightningModule):
                def __init__(self):
                    super().__init__()
                    torch.manual_seed(0)
                    self.net = nn.Linear(4, 3)
                def training_step(self, batch, batch_idx):
                    return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
                def validation_step(self, batch, batch_idx):
                    self.log("val_loss", self.training_step(batch, 0), sync_dist=True)
                def configure_optimizers(self):
                    return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

            def loader(trainer):
                x = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))
                rows = range(trainer.global_rank, 24, trainer.world_size)
                data = Subset(TensorDataset(x, x[:, :3].argmax(1)), rows)
                return DataLoader(data, batch_size=8 // trainer.world_size)

            count, folder = int(sys.argv[1]), sys.argv[2]
            stop = fr.OverfittingStop(patience=9)
            callbacks = [fr.LRFinder(1e-4, 1.0, num_steps=30), fr.SGDR(2)]
            callbacks += [fr.CycleSnapshots(folder), stop, fr.InitialLossCheck(num_classes=3)]
            callbacks += [fr.FiniteLossCheck(), fr.EpochTable()]
            trainer = pl.Trainer(
                accelerator="cpu", devices=count, strategy="ddp" if count > 1 else "auto",
                max_epochs=4, callbacks=callbacks, logger=False, enable_progress_bar=False,
                use_distributed_sampler=False,
            )
            module = Module()
            trainer.fit(module, loader(trainer), loader(trainer))
            trainer.save_checkpoint(f"{folder}/last.ckpt")
            torch.save(stop.history, f"{folder}/history-{trainer.global_rank}.pt")
            """
        )
    )
    subprocess.run([sys.executable, script, "1", "one"], cwd=tmp_path, check=True)
    (said,) = ended(start(tmp_path, script, 2, "two"))
    one, two = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=False) for name in ("one", "two")
    )
    torch.testing.assert_close(two["state_dict"], one["state_dict"])
    histories = [torch.load(tmp_path / "two" / f"history-{rank}.pt") for rank in (0, 1)]
    assert histories[0] == histories[1]
    values = [entry["value"] for entry in torch.load(tmp_path / "one" / "history-0.pt")]
    assert [entry["value"] for entry in histories[0]] == pytest.approx(values, rel=1e-5)
    snapshots = [sorted(path.name for path in (tmp_path / n).iterdir()) for n in ("one", "two")]
    assert [one for one in snapshots[0] if "cycle" in one]
    assert snapshots[1] == sorted([*snapshots[0], "history-1.pt"])
    assert said.count("val_loss") == 1  # the head of the table of epochs
