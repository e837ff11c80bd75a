"""What only recipes of images need."""
