"""What can be checked of a recipe before it runs: all but its data, and these alone."""

from dataclasses import replace

import torch
from torch import nn

from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import TTA, Recipe
from lightning_fastrecipes.recipe.config.several import first_fold
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.plan import build_callbacks, check_stage, set_stage
from lightning_fastrecipes.recipe.run.trainers import check_callbacks, check_trainer
from lightning_fastrecipes.tasks.optim import build_optimizer


def check_without_data(recipe: Recipe) -> None:
    """Build what a recipe names: trainer, callbacks, data that is not read yet, and model.

    Nothing is fetched. Raise `RecipeError` for what does not fit, and what reading weights raises.
    """
    for one in recipe.variants.values() or [recipe]:
        check_trainer(one)
        for index, stage in enumerate(one.stages):
            check_callbacks(build_callbacks(one, index), Place(one.path, stage.key))
        quiet = replace(one.model, init_args={**one.model.init_args, "pretrained": False})
        fetched = "pretrained" in one.model.init_args
        modality = modality_of(one)
        data, model = modality.build_unread(replace(one, model=quiet) if fetched else one)
        group = {"params": [nn.Parameter(torch.zeros(1))], "lr": 1e-3, "weight_decay": 0.0}
        try:
            build_optimizer(model.optim.optimizer, [group])
        except ConfigurationError as error:
            raise Place(one.path, "model.optim").error(error) from error
        if data is None:
            continue
        for index in range(len(one.stages)):
            set_stage(one, index, data, model)
            check_stage(one, index, data, model)
        modality.check_evaluation(_unlearned(one), data, model)


def refusal_of_data(recipe: Recipe) -> str:
    """Return why a run would refuse the data of a recipe, an empty text if it takes them.

    They are read as a run reads them, whole; what a run keeps of them in the cache is kept.
    """
    modality = modality_of(recipe)
    try:
        modality.read_data(first_fold(recipe, modality.fold_strata(recipe)))
    except (DataError, ConfigurationError) as error:
        return str(error)
    return ""


def _unlearned(recipe: Recipe) -> Recipe:
    """Return a recipe whose views have a given weight: to learn it takes the data."""
    tta = recipe.evaluation.tta
    if isinstance(tta, TTA) and tta.plain_weight == "learn":
        asked = replace(recipe.evaluation, tta=replace(tta, plain_weight=None))
        return replace(recipe, evaluation=asked)
    return recipe
