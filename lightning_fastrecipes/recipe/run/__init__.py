"""Run a recipe: plan, stages, series, the finder, predictions."""
