"""What files may ask for at most."""

MOST = {
    "batch_size": 1_000_000,
    "image_size": 4_096,
    "num_classes": 100_000,
    "views": 1_000,
}
"""Largest values by key that a recipe, a run folder or an export may hold."""
