"""What images and tables share in a run: predictions, evaluation, ensembles."""
