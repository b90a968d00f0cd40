"""ganjax: a laboratory for adversarial learning in JAX and Flax.

The public names are imported when first used, so that `--help` is quick: `load`
is `ganjax.run.load`, and modules such as `ganjax.losses` are imported by it.

.. include:: ../WORKSPACE.md
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Modules, and `load`, which says more at this place than in its module.
_MODULES = (
  "augment configs data evaluate health losses metrics nets penalties systems "
  "theory train"
).split()


def __getattr__(name: str) -> Any:
  if name == "load":
    return importlib.import_module("ganjax.run").load
  if name in _MODULES:
    return importlib.import_module(f"ganjax.{name}")
  raise AttributeError(f"module 'ganjax' has no attribute {name!r}")
