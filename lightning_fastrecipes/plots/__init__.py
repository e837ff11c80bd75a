"""Figures: arrays in, a figure out."""
