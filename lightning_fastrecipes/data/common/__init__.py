"""What images and tables share: sources, caches, samplers, settings."""
