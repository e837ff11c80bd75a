"""The datamodule of tables, and what only tables need."""
