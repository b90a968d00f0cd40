"""The commands, each on top of all else."""
