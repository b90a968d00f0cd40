"""Systems: what is trained and how, one file each.

A system is a frozen dataclass with methods, as a network is: its fields are
its parts and settings, `init` makes its state, `updates` are what a step makes
of it, and `train_step(state, batch, key) -> (state, metrics)` composes them.
`sample(state, key, n, ...)` draws images. Where they are made of latents
(`LatentSystem`) there are `latents(key, n)` and `decode(state, z)`, too.

What a system can do with images besides, e.g. `encode`, is an ability: a method
`(state, images, labels=None, **how)` that exists or not and that `@ability`
marks. Samplers, runs and metrics find abilities by their names.
"""

from ganjax import registry
from ganjax.systems.sampling import LatentSystem
from ganjax.systems.system import (
  STATISTICS,
  Metrics,
  System,
  Update,
  ability,
  compose,
)

__all__ = [
  "STATISTICS",
  "SYSTEMS",
  "LatentSystem",
  "Metrics",
  "System",
  "Update",
  "ability",
  "compose",
]

SYSTEMS = registry.Registry(
  "system",
  package=__name__,
  helpers=(
    "adversarial",
    "auxiliary",
    "logan",
    "masks",
    "sampling",
    "system",
    "top_k",
  ),
)
