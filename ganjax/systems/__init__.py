"""Systems: what is trained and how, one file each.

A system is a frozen dataclass with methods, as a network is: its fields are
its parts and settings, `init` makes its state, `updates` are what a step makes
of it, and `train_step` composes them. What it can do besides, e.g. `encode`,
is a method that exists or not.
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
