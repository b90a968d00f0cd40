"""How fast a training step is: `python -m ganjax.bench --config FILE`."""
