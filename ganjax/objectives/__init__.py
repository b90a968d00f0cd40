"""What networks minimise, and what changes them: pure functions of arrays."""
