"""How fast a training step is: `ganjax bench --config FILE`."""
