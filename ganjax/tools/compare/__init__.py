"""Runs side by side: what seeds explain, and what settings do."""
