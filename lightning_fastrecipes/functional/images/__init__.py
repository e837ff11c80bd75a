"""Pure functions of image batches: augmentation, views, resizing."""
