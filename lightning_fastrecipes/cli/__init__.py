"""The `fastrecipes` command."""
