"""Scores samples: `python -m ganjax.tools.evaluate WORKDIR`."""
