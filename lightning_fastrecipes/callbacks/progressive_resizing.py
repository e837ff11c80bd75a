"""Progressive resizing: small images first, larger ones from given epochs on."""

import sys
from typing import Any, Literal, cast

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, TrainerFn, rank_zero_info, rank_zero_warn
from lightning_fastrecipes.errors import check_choice
from lightning_fastrecipes.functional.images.batches import images_of
from lightning_fastrecipes.functional.images.resizing import check_milestones, milestone_value
from lightning_fastrecipes.nn.probing import taken_sizes
from lightning_fastrecipes.protocols import HasImageSize, TakesImageSizes


class ProgressiveResizing(pl.OwnCallback):
    """Train on small images first, and on larger ones from given epochs on.

    Only where the size changes is the datamodule asked for new loaders. The new size arrives with
    the first batch of its epoch, with any number of workers; images are decoded and cut at the
    small size, and the size of every batch is checked. Sizes are rounded to what the module takes,
    and refused before training if it takes only its own. Learning rates stay as they are; the
    schedules of this package follow the share of the epoch that is done, so they stay exact where
    another batch size changes the number of steps.

    Works with any datamodule that has ``image_size``, ``eval_image_size`` and ``batch_size`` and
    reads them whenever it makes a loader, such as ``ImageFolderDataModule``. After the fit, the
    datamodule is left at the size that was trained last.

    With ``torch.compile``, the second size compiles the network once more, for any size, and later
    ones use what is there. With ``dynamic=False`` each size compiles anew, for training and for
    validation, up to torch's ``recompile_limit`` of 8: later sizes then run uncompiled, with
    torch's warning, or fail with ``fullgraph=True``.

    Args:
        sizes: Epoch from 0 to the side in pixels from there on; 0 must be among the epochs.
        batch_sizes: The same for the images per step and process; the datamodule's own
            throughout if ``None``.
        validate_at: ``train``: validate at the size that is trained, so that both losses are of the
            same images; ``last``: at the last of the sizes throughout, so that epochs compare.

    Raises:
        ValueError: If there is nothing for epoch 0, or a number is out of its range.
        TypeError: If an epoch or a size is no whole number.

    Example:
        >>> ProgressiveResizing({0: 128, 3: 160, 5: 224}).sizes
        {0: 128, 3: 160, 5: 224}

    Note:
        fast.ai 0.7's ``learn.set_data`` also freezes the network and starts the optimizer anew;
        here both go on. For other rates or another depth at each size, use stages of a recipe.

    References:
        fast.ai course (2018), lesson 3; Howard and Gugger, *Deep Learning for Coders* (2020),
        chapter 7.
    """

    needs_own_key = True

    def __init__(
        self,
        sizes: dict[int, int],
        batch_sizes: dict[int, int] | None = None,
        validate_at: Literal["train", "last"] = "train",
    ) -> None:
        check_choice("validate_at", validate_at, ("train", "last"))
        self.sizes = check_milestones("sizes", sizes)
        self.batch_sizes = (
            None if batch_sizes is None else check_milestones("batch_sizes", batch_sizes)
        )
        self.validate_at = validate_at
        self._taken = self.sizes
        self._reload_every = 0
        self._eval_size_before: int | None = None
        self._trained_epoch = 0
        self._logged_epoch: int | None = None
        self._eval_loader_is_of: tuple[int, int] | None = None

    @property
    def largest_image_size(self) -> int:
        """The largest of the sizes, before they are rounded."""
        return max(self.sizes.values())

    def taken_sizes(self, module: Any) -> dict[int, int]:
        """Round the sizes to what a module takes, by epoch, or raise a ValueError if it takes none.

        A module, on any device, that says nothing of sizes is run on empty images, if it has a
        ``forward``.
        """
        has_forward = type(module).forward is not pl.LightningModule.forward
        if not has_forward and not isinstance(module, TakesImageSizes):
            return self.sizes
        return dict(zip(self.sizes, taken_sizes(module, self.sizes.values()), strict=True))

    def leave_at(self, datamodule: HasImageSize, sizes: dict[int, int], epoch: int) -> None:
        """Set a datamodule to what is trained in an epoch, for the loaders that it makes next."""
        datamodule.image_size = milestone_value(sizes, epoch)
        if self.batch_sizes is not None:
            datamodule.batch_size = milestone_value(self.batch_sizes, epoch)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse data and modules that cannot change their size, and set the first one."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        datamodule = _datamodule(trainer)
        # Others are tried out once they are ready to predict; their sizes stay as they are.
        self._taken = self.sizes
        if isinstance(pl_module, TakesImageSizes):
            self._taken = self._taken_or_refused(pl_module)
        for epoch, size in self.sizes.items():
            if self._taken[epoch] != size:
                rank_zero_info(
                    f"ProgressiveResizing: {size} px become {self._taken[epoch]} px, which"
                    f" {type(pl_module).__name__} takes."
                )
        self._logged_epoch = None
        self._reload_every = int(cast(Any, trainer).reload_dataloaders_every_n_epochs)
        self._eval_size_before = datamodule.eval_image_size
        self._set_epoch(datamodule, 0)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on at the size of the epoch that a resumed fit goes on with."""
        if trainer.state.fn == TrainerFn.FITTING and "loops" in checkpoint:
            progress = checkpoint["loops"]["fit_loop"]
            is_over = _is_over(progress)
            processed = int(progress["epoch_progress"]["current"]["processed"])
            self._set_epoch(_datamodule(trainer), processed + int(is_over))
            if is_over:
                # Lightning compares with the batches of the epoch to come, which may be more.
                progress["epoch_loop.batch_progress"]["current"]["completed"] = sys.maxsize

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse sizes and schedulers that do not fit, and warn of sizes that are never reached."""
        if not isinstance(pl_module, TakesImageSizes):
            self._taken_or_refused(pl_module)
        changes_batches = len(set((self.batch_sizes or {}).values())) > 1
        intervals = [config.interval for config in trainer.lr_scheduler_configs]
        if changes_batches and "step" in intervals:
            raise SetupError(
                "`ProgressiveResizing`: `batch_sizes` change the number of steps of an epoch, but"
                " the module has a scheduler with `interval='step'`, which was built for another"
                " number. Use a schedule of this package, such as `SGDR`, or leave `batch_sizes`"
                " out."
            )
        max_epochs = trainer.max_epochs or -1
        late = [epoch for epoch in [*self.sizes, *(self.batch_sizes or {})] if epoch >= max_epochs]
        if late and max_epochs > 0 and not pl.is_fast_dev_run(trainer):
            rank_zero_warn(
                f"`ProgressiveResizing` has an entry for epoch {late[0]}, but `max_epochs` is"
                f" {max_epochs}: it is never reached. Raise `max_epochs`, or remove the entry."
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set what this epoch is validated at, and let its validation ask for loaders."""
        epoch = trainer.current_epoch
        datamodule = _datamodule(trainer)
        self._trained_epoch = epoch
        self._set_eval_size(datamodule, epoch)
        is_stale = self._eval_loader_is_of != _eval_sizes(datamodule)
        _reload_every(trainer, 1 if is_stale else self._reload_every)
        self._log_size(pl_module, epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Check that the size has arrived."""
        epoch = trainer.current_epoch
        if self._logged_epoch != epoch:
            # The fit was resumed within the epoch, which did not start again.
            self._log_size(pl_module, epoch)
        _check_batch(batch, milestone_value(self._taken, epoch), epoch)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what the present loader was made for."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._eval_loader_is_of = _eval_sizes(_datamodule(trainer))

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Check that the validation is at the size that it should be."""
        if trainer.state.fn == TrainerFn.FITTING:
            size, _ = _eval_sizes(_datamodule(trainer))
            _check_batch(batch, size, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Request new loaders for the next epoch if it has another size."""
        datamodule, epoch = _datamodule(trainer), trainer.current_epoch + 1
        before = datamodule.image_size, datamodule.batch_size
        self.leave_at(datamodule, self._taken, epoch)
        changed = before != (datamodule.image_size, datamodule.batch_size)
        _reload_every(trainer, 1 if changed else self._reload_every)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the trainer and the evaluation size; the size that was trained last stays."""
        self._restore(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the trainer and the evaluation size."""
        if trainer.state.fn == TrainerFn.FITTING and self._eval_loader_is_of is not None:
            self._restore(trainer)

    def _log_size(self, pl_module: pl.LightningModule, epoch: int) -> None:
        size = float(milestone_value(self._taken, epoch))
        pl_module.log("image_size", size, on_step=False, on_epoch=True, sync_dist=True)
        self._logged_epoch = epoch

    def _taken_or_refused(self, module: pl.LightningModule) -> dict[int, int]:
        try:
            return self.taken_sizes(module)
        except ValueError as error:
            raise SetupError(f"`ProgressiveResizing`: {error}") from error

    def _restore(self, trainer: pl.Trainer) -> None:
        datamodule = _datamodule(trainer)
        _reload_every(trainer, self._reload_every)
        self.leave_at(datamodule, self._taken, self._trained_epoch)
        datamodule.eval_image_size = self._eval_size_before
        self._eval_loader_is_of = None

    def _set_epoch(self, datamodule: HasImageSize, epoch: int) -> None:
        self._trained_epoch = epoch
        self.leave_at(datamodule, self._taken, epoch)
        self._set_eval_size(datamodule, epoch)
        self._eval_loader_is_of = _eval_sizes(datamodule)

    def _set_eval_size(self, datamodule: HasImageSize, epoch: int) -> None:
        at = epoch if self.validate_at == "train" else max(self._taken)
        datamodule.eval_image_size = milestone_value(self._taken, at)


def _reload_every(trainer: Any, num_epochs: int) -> None:
    """Set after how many epochs Lightning asks for loaders; 0 for never."""
    trainer.reload_dataloaders_every_n_epochs = num_epochs


def _datamodule(trainer: pl.Trainer) -> HasImageSize:
    datamodule = pl.datamodule_of(trainer)
    if not isinstance(datamodule, HasImageSize):
        found = "loaders" if datamodule is None else type(datamodule).__name__
        raise SetupError(
            "`ProgressiveResizing` needs a datamodule with `image_size`, `eval_image_size` and"
            f" `batch_size`, which it can set, but the fit has {found}. Use an"
            " `ImageFolderDataModule`, or give your datamodule the three and read them in its"
            " `..._dataloader` methods."
        )
    return datamodule


def _is_over(progress: dict[str, Any]) -> bool:
    """Return whether a stored fit loop goes on with the next epoch: its last batch is done."""
    epochs, batches = progress["epoch_progress"], progress["epoch_loop.batch_progress"]
    is_open = epochs["total"]["processed"] < epochs["total"]["started"]
    is_after_batch = batches["total"]["completed"] < batches["total"]["processed"]
    return bool(is_open and is_after_batch and batches["is_last_batch"])


def _eval_sizes(datamodule: HasImageSize) -> tuple[int, int]:
    return datamodule.eval_image_size or datamodule.image_size, datamodule.batch_size


def _check_batch(batch: Any, size: int, epoch: int) -> None:
    found = tuple(images_of(batch).shape[-2:])
    if found != (size, size):
        raise SetupError(
            f"`ProgressiveResizing`: epoch {epoch} must have images of {size} x {size} px, but a"
            f" batch has {found[0]} x {found[1]} (height x width). The datamodule must read"
            " `image_size`, or `eval_image_size`, whenever it makes a loader."
        )
