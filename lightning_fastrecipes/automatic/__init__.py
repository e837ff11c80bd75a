"""Recipes for data that nobody has described: look, decide, and say why."""
