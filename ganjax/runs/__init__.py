"""A run on disk: its config, log, checkpoints, scores and pictures."""
