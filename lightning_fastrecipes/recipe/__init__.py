"""Recipe files: their schema, where they are found, and how they are run."""
