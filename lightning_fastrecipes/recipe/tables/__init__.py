"""What only recipes of tables need."""
