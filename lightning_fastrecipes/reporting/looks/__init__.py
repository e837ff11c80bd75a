"""Pages that show how a network computes, each a file that needs nothing else."""
