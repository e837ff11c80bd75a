"""Pure functions of labels and predictions: targets, thresholds, merging."""
