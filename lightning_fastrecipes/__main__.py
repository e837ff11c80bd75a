"""Run the command line with ``python -m lightning_fastrecipes``."""

import sys

from lightning_fastrecipes.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
