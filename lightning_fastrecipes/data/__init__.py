"""Datamodules, manifests and caches."""
