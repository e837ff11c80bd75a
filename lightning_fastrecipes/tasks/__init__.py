"""LightningModules for the tasks of the course."""
