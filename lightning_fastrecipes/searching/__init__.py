"""Search the numbers of a recipe: draw trials, stop most of them early, check what was chosen."""
