"""What moves a run from its first step to its last."""
