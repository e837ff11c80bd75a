"""The recipes that ``auto`` tries, from the simplest to the most complex."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_fastrecipes.functional.timing import cycles_within

_FEWEST_EPOCHS, _SMALLER_SIDES = 3, (160, 128, 96, 64)


@dataclass(frozen=True)
class Candidate:
    """A recipe to try, and how to name it in a sentence."""

    name: str
    document: dict[str, Any]

    @property
    def is_table(self) -> bool:
        """Whether it is of a table."""
        return str(self.document["data"]["class_path"]).endswith("TabularDataModule")

    def with_split_seed(self, seed: int) -> "Candidate | None":
        """Return it with another draw of the validation rows; ``None`` where they are not drawn."""
        split = self.document["data"]["init_args"].get("split")
        if isinstance(split, (int, float)):
            split = {"val": split}
        is_drawn = isinstance(split, Mapping) and "val" in split
        if not is_drawn:
            return None
        return self.changed({"split": {**split, "seed": seed}}, seed)

    def with_batch_size(self, batch_size: int) -> "Candidate":
        """Return it with other batches."""
        return self.changed({"batch_size": batch_size}, int(self.document["seed"]))

    def changed(self, data: Mapping[str, Any], seed: int) -> "Candidate":
        """Return it with other arguments of its data, and another seed."""
        document = copy.deepcopy(self.document)
        document["data"]["init_args"].update(data)
        return Candidate(self.name, document | {"seed": seed})


def candidates(document: Mapping[str, Any]) -> list[Candidate]:
    """Return what to try for a recipe that was drafted: of tables three networks, else its stages.

    The first is the cheapest, and what is kept if nothing else is clearly better.
    """
    if str(document["data"]["class_path"]).endswith("TabularDataModule"):
        return _of_table(document)
    stages = document["stages"]
    found = [Candidate("head", {**document, "stages": {"head": stages["head"]}})]
    if len(stages) > 1:
        found.append(Candidate("fine-tuned", dict(document)))
    return found


def _of_table(document: Mapping[str, Any]) -> list[Candidate]:
    usual = document["model"]["init_args"]["network"]
    # No hidden layer: a sum over columns, as of a linear model of one-hot categories.
    networks: list[tuple[str, dict[str, Any], float, float]] = [
        ("linear", {"layers": [], "dropout": 0.0, "embedding_dropout": 0.0}, 1e-2, 1e-2),
        ("network", dict(usual), 5e-3, 1e-2),
        ("regularised", {"layers": [200, 100], "dropout": 0.4}, 3e-3, 0.1),
    ]
    found = []
    for name, network, lr, weight_decay in networks:
        changed = copy.deepcopy(dict(document))
        changed["model"]["init_args"] |= {
            "network": network,
            "optim": {"weight_decay": weight_decay},
        }
        changed["stages"]["all"]["lr"] = lr
        found.append(Candidate(name, changed))
    return found


def with_other_scale(candidate: Candidate) -> Candidate:
    """Return a regression with the logarithm of the target for the target itself, or back."""
    document = copy.deepcopy(candidate.document)
    columns = document["data"]["init_args"]["columns"]
    is_log = bool(columns.pop("log_target", False))
    if not is_log:
        columns["log_target"] = True
    return Candidate(f"{candidate.name} {'as it is' if is_log else 'of logarithms'}", document)


def with_models(candidate: Candidate, count: int) -> Candidate:
    """Return it with several models that predict together."""
    return _of_several(candidate, "seeds", count) if count > 1 else candidate


def with_folds(candidate: Candidate, count: int) -> Candidate:
    """Return it with a model for each of several folds."""
    return _of_several(candidate, "folds", count)


def _of_several(candidate: Candidate, key: str, count: int) -> Candidate:
    document = copy.deepcopy(candidate.document)
    document = {"description": document.pop("description"), **document, key: count}
    return Candidate(candidate.name, document)


def table_within(candidate: Candidate, epoch: float, seconds: float) -> Candidate | None:
    """Return a candidate whose cycles end within a time, ``None`` if no epoch does."""
    document = copy.deepcopy(candidate.document)
    stage = document["stages"]["all"]
    schedule = stage["callbacks"][0]["init_args"]
    cycles = cycles_within(schedule["cycle_len"], epoch, seconds)
    if cycles is None:
        return None
    schedule["cycle_len"], stage["max_epochs"] = cycles
    return Candidate(candidate.name, document)


def images_within(candidate: Candidate, epoch: float, seconds: float) -> Candidate | None:
    """Return fine-tuning that ends within a time: of fewer epochs, then of smaller images."""
    document = copy.deepcopy(candidate.document)
    stage: Mapping[str, Any] = document["stages"]["all"]
    side, wished = document["data"]["init_args"]["image_size"], stage["max_epochs"]
    for smaller in (side, *(one for one in _SMALLER_SIDES if one < side)):
        epochs = min(int(seconds / max(epoch * (smaller / side) ** 2, 1e-9)), wished)
        if epochs >= min(_FEWEST_EPOCHS, wished):
            changes = {"max_epochs": epochs} | ({} if smaller == side else {"image_size": smaller})
            document["stages"]["all"] = {**stage, **changes}
            document["stages"]["all"]["callbacks"][0]["init_args"]["cycle_len"] = epochs
            return Candidate(candidate.name, document)
    return None
