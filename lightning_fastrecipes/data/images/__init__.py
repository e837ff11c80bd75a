"""Datamodules of images, and what only images need."""
