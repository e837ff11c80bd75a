"""Errors that people see: each message says what must be, what came, and what to do."""


class ConfigurationError(ValueError):
    """Parts that are fine alone but do not fit together."""


class DataError(ValueError):
    """Data that was found but cannot be used as it is."""


class DataNotFoundError(FileNotFoundError):
    """Data or weights that are not where they were said to be."""


class RecipeError(ValueError):
    """A recipe file that cannot be run; the message names the file and the key path."""
