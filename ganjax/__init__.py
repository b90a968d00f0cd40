"""ganjax: a laboratory for adversarial learning in JAX and Flax.

The public names are imported when first used, so that `--help` is quick.

.. include:: ../WORKSPACE.md
"""

import importlib
from typing import Any

__version__ = "0.2.0"

# Public name -> where it lives: a module, or an attribute of one.
_PUBLIC = {
  "augment": "objectives.augment",
  "configs": "runs.configs",
  "data": "data",
  "evaluate": "evaluation.evaluator",
  "health": "runs.monitor",
  "load": "runs.run:load",
  "losses": "objectives.losses",
  "metrics": "evaluation.metrics",
  "nets": "nets",
  "penalties": "objectives.penalties",
  "systems": "systems",
  "theory": "tools.theory",
  "train": "training.train",
}


def __dir__() -> list[str]:
  return sorted(["__version__", *_PUBLIC])


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f"module 'ganjax' has no attribute {name!r}")
  module, _, attribute = _PUBLIC[name].partition(":")
  found = importlib.import_module(f"ganjax.{module}")
  return getattr(found, attribute) if attribute else found
