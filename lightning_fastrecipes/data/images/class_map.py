"""Class names that must stay what they were."""

from collections.abc import Sequence

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some


def refuse_other_classes(stored: Sequence[str], found: Sequence[str]) -> None:
    """Compare the classes of a checkpoint with those of the data, by name and order.

    Args:
        stored: Class names of the checkpoint.
        found: Class names of the data.

    Raises:
        ConfigurationError: If they differ; the message says how.
    """
    if list(stored) == list(found):
        return
    lacking = [name for name in stored if name not in found]
    new = [name for name in found if name not in stored]
    parts = [f"missing {name_some(lacking)}"] if lacking else []
    parts += [f"new {name_some(new)}"] if new else []
    parts = parts or [f"another order: {name_some(stored)} became {name_some(found)}"]
    raise ConfigurationError(
        f"The classes of the data differ from those of the checkpoint: {'; '.join(parts)}."
        " Use the data it was trained on, or start afresh from its weights."
    )
