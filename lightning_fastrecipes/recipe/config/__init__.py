"""What a recipe says: its schema, its document, overrides of its keys."""
