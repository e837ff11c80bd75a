"""The content of a recipe file as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning_fastrecipes.dotted import load_object
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.functional.training.lr_curves import Rule

FIND = "find"
"""What a stage says in place of a rate that is to be found."""

AS_BEFORE = "as_before"
"""What a stage says in place of the rate that the stage before it began with."""


AugmentationKey = (
    Literal["none", "basic", "side_on", "top_down"] | list[str | dict[str, Any]] | dict[str, Any]
)
"""What a stage may say of the augmentation."""


@dataclass(frozen=True)
class LRSearch:
    """How a stage finds its rate.

    Args:
        find: The rule of ``LRFinder``; its default rule if ``None``.
        otherwise: The head's rate where no rule can read the curve, above 0.
    """

    find: Rule | None = None
    otherwise: float = 1e-4


@dataclass(frozen=True)
class ClassSpec:
    """A class and the arguments to build it with.

    Args:
        class_path: Import path of the class.
        init_args: Arguments of its constructor, as plain YAML values.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The class name without its module."""
        return self.class_path.rpartition(".")[2]

    def load(self) -> Any:
        """Import what the class path names; errors are those of ``load_object``."""
        return load_object(self.class_path)


@dataclass(frozen=True)
class Precompute:
    """What a stage keeps of its frozen layers: the arguments of ``FeatureDataModule``.

    Args:
        views: ``poses``: every training image in all flips and turns that the augmentation makes,
            of which each epoch draws one, and nothing else of it; or how many draws of the whole
            augmentation, at least 1. If ``None``, the plain image.
        storage: ``float16``, ``uint8`` or ``float32``: bytes for each number, and so its error; if
            ``None``, ``float16``, and ``float32`` where only the head trains.
    """

    views: int | Literal["poses"] | None = None
    storage: Literal["float32", "float16", "uint8"] | None = None


@dataclass(frozen=True)
class Stage:
    """One ``Trainer.fit``: what is trained, how fast, on which images.

    Args:
        name: Its key in ``stages``; letters, digits, ``-`` and ``_``.
        max_epochs: Number of epochs, at least 1.
        freeze_to: First trained layer group; negative counts from the head, 0 trains all.
        lr: Learning rate of the head; or an array or a range, as for ``Optim``; or ``find``, or
            ``{find: RULE, otherwise: RATE}``: found by ``LRFinder``, and where its curve cannot be
            read the stage trains with the other rate, 1e-4 if not given; or ``as_before``: that of
            the stage before it, as given or found there.
        lr_ratio: How many times smaller each earlier group's rate is, at least 1.
        image_size: Side in pixels; the datamodule's own if ``None``.
        batch_size: Images or rows per process and step; the datamodule's own if ``None``.
        augmentation: Preset for training images, a list of transforms, or a mapping of arguments of
            ``Augmentation``; what is not given, or all if ``None``, as the datamodule has it.
            ``none`` also leaves out the datamodule's list.
        precompute: Whether the frozen layers run once per image, without augmentation; or a mapping
            ``{views: ..., storage: ...}``: once per view of each image.
        until_overfitting: Stop after this many cycles in a row that are worse than the best, and
            go back to the best weights; ``max_epochs`` is then the most. 0 trains all epochs.
        keep_best: A logged metric, such as ``val_accuracy``, or ``{monitor: NAME, mode: max}``: the
            stage ends with the weights of the epoch at which it was best; those of the last epoch
            if ``None``.
        averaging: ``ema``, ``soup`` or ``wise``, or a mapping of arguments of ``Averaging``:
            what is validated, kept and handed on is an average of the weights.
        callbacks: Built anew for this stage.
    """

    name: str
    max_epochs: int
    freeze_to: int = 0
    lr: float | list[float] | dict[str, float | str] | Literal["find", "as_before"] = 1e-3
    lr_ratio: float = 1.0
    image_size: int | None = None
    batch_size: int | None = None
    augmentation: AugmentationKey | None = None
    precompute: bool | Precompute = False
    until_overfitting: int = 0
    keep_best: str | dict[str, str] | None = None
    averaging: str | dict[str, str | int | float] | None = None
    callbacks: tuple[ClassSpec, ...] = ()

    @property
    def key(self) -> str:
        """Its key path in the recipe."""
        return f"stages.{self.name}"

    @property
    def is_augmented(self) -> bool:
        """Whether it may train on anything but the plain images, as the augmentation says."""
        if isinstance(self.precompute, Precompute):
            return self.precompute.views is not None
        return not self.precompute

    @property
    def search(self) -> LRSearch | None:
        """How the rate is found; ``None`` if it is given."""
        if self.lr == FIND:
            return LRSearch()
        is_search = isinstance(self.lr, dict) and {FIND, "otherwise"} & set(self.lr)
        return LRSearch(**self.lr) if is_search else None  # type: ignore[arg-type]


@dataclass(frozen=True)
class TTA:
    """Test-time augmentation of the evaluation: the arguments of ``TestTimeAugmentation``.

    Args:
        n: How many views; what is usual for the preset if ``None``.
        preset: ``training`` (draws of the training augmentation, crop included), ``augmentation``
            (such draws within the plain image), ``flips``, ``five_crops`` or ``scales``.
        augmentation: For the first two, the preset that is drawn; as in the last stage that
            augments its images if neither it nor ``transforms`` is given.
        transforms: For the first two, the list of transforms that is drawn after it.
        plain_weight: Weight of the plain prediction in [0, 1]; the course's if ``None``; ``learn``:
            what is best on the validation split.
    """

    n: int | None = None
    preset: Literal["training", "augmentation", "flips", "five_crops", "scales"] = "training"
    augmentation: Literal["none", "basic", "side_on", "top_down"] | None = None
    transforms: list[str | dict[str, Any]] | None = None
    plain_weight: float | Literal["learn"] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What is measured after the last stage, in 32-bit arithmetic.

    Args:
        splits: Which splits, of ``val`` and ``test``; those without samples are left out.
        image_size: Side in pixels; the last stage's if ``None``.
        crop_fraction: Side of the centre crop over the resized shorter side, in (0, 1]; as in
            training if ``None``. A larger image with a larger crop shows more around things that
            are as large as in training: 256 pixels of 1.0 after training on 224 of 0.875.
        batch_size: Images or rows per step; if ``None``, of images the last stage's.
        ensemble: What predicts: the last weights if ``None``; ``snapshots``: the mean of what the
            last snapshots of ``CycleSnapshots`` predict; ``average``: one model of their mean
            weights, its batch norm measured anew.
        tta: Test-time augmentation: a number of views, or a mapping; none if ``None``. Each member
            of an ensemble predicts all views.
    """

    splits: tuple[Literal["val", "test"], ...] = ("val", "test")
    image_size: int | None = None
    crop_fraction: float | None = None
    batch_size: int | None = None
    ensemble: Literal["snapshots", "average"] | None = None
    tta: int | TTA | None = None


@dataclass(frozen=True)
class Recipe:
    """A whole training run, from data to evaluation.

    Args:
        name: Name of the recipe's folder.
        path: The file it was read from.
        description: One sentence.
        data: The datamodule.
        model: The LightningModule; the number of classes is filled in from the data.
        trainer: Arguments of ``Trainer`` for every stage.
        stages: In the order they run.
        evaluation: What is measured at the end.
        source: The merged YAML document, as it is written to the run folder.
        seed: Seed of weights, shuffling, augmentation and dropout.
        seeds: How many models are trained, with seeds from ``seed`` on; several predict together.
        folds: How many models are trained, each validated on one fold of the rows that are not
            tested on, and trained on the others; together they predict the test split. What
            ``split`` of the data keeps together, its strata, dates and share to test on hold for
            the folds. 0 for none.
        train_metrics: How many training samples ``TrainMetrics`` measures after each epoch, as
            validation does; 0 for none.
        save_every: Optimizer steps, or a time such as ``5min``, after which ``SaveEvery`` writes a
            checkpoint within an epoch; ``None`` leaves those at the ends of epochs.
        initial_checks: Whether ``InitialLossCheck`` looks at model and data before the first step.
        validation_guard: Whether ``ValidationGuard`` compares each stage with what was before it.
        report: Whether a run ends with ``report.html``, the page of ``fastrecipes report``.
        variants: Name to recipe: this one with some keys changed.
        parts: How far each earlier part of a continued run trained: its last stage, and the epochs
            that this stage had then.
        series: ``cumulative``: a run trains all variants in order, each with the changes of the
            ones before it, those with ``side_step: true`` left out. If ``None``, a run trains this
            recipe, or the one variant that is named.
        is_side_step: Of a variant in a series: whether the ones after it do without its changes.
    """

    name: str
    path: Path
    description: str
    data: ClassSpec
    model: ClassSpec
    trainer: dict[str, Any]
    stages: tuple[Stage, ...]
    evaluation: Evaluation
    source: dict[str, Any]
    seed: int = 0
    seeds: int = 1
    folds: int = 0
    train_metrics: int = 0
    save_every: int | str | None = None
    initial_checks: bool = True
    validation_guard: bool = True
    report: bool = True
    parts: tuple[dict[str, int], ...] = ()
    variants: dict[str, "Recipe"] = field(default_factory=dict)
    series: Literal["cumulative"] | None = None
    is_side_step: bool = False

    @property
    def has_many_runs(self) -> bool:
        """Whether it runs more than once: its variants in a series, several seeds, or folds."""
        return self.series is not None or self.num_models > 1

    @property
    def is_fold(self) -> bool:
        """Whether its data are one of several folds, whose predictions may be brought together."""
        split = self.data.init_args.get("split")
        return isinstance(split, Mapping) and "fold" in split

    @property
    def num_models(self) -> int:
        """How many models are trained and predict together."""
        return self.folds or self.seeds

    def variant(self, name: str) -> "Recipe":
        """Return a variant by its name, or raise a `RecipeError`."""
        if name in self.variants:
            return self.variants[name]
        known = f"Variants: {', '.join(self.variants)}." if self.variants else "It has none."
        raise RecipeError(f"{self.path}: there is no variant {name!r}. {known}")

    def part_ends(self, stage: Stage) -> list[tuple[int, int]]:
        """List the parts of the run that train a stage: their numbers, and its epochs after each.

        A part is a fit of its own, which begins where the one before it ended.
        """
        found: list[tuple[int, int]] = []
        place = self.stage_index(stage.name)
        for number, part in enumerate(self.parts, 1):
            ((last, epochs),) = part.items()
            behind = self.stage_index(last) - place
            if behind > 0 or (behind == 0 and epochs >= stage.max_epochs):
                return [*found, (number, stage.max_epochs)]
            if behind == 0:
                found.append((number, epochs))
        return [*found, (len(self.parts) + 1, stage.max_epochs)]

    def stage_index(self, name: str) -> int:
        """Return the position of a stage by its name, or raise a `RecipeError`."""
        names = [stage.name for stage in self.stages]
        if name in names:
            return names.index(name)
        raise RecipeError(f"{self.path}: there is no stage {name!r}. Stages: {', '.join(names)}.")
