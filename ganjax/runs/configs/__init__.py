"""Configs: experiment files to checked configs, and those to what they name.

    config = configs.resolve(configs.load("digits_dcgan:smoke"))
    arrays = configs.load_data(config, "train")
    system = configs.build(config, arrays.images.shape[1:], arrays.num_classes)

`experiment` finds and loads files, `keys` has the keys that every config has,
`sections` what they may name and how that is found, `schema` reads signatures,
`resolution` checks and writes defaults out, `parts` builds, and `flags` reads
the command line. The names are imported when first used: `--help` needs none.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from ganjax.runs.configs import flags, schema
  from ganjax.runs.configs.experiment import (
    EXPERIMENTS,
    Config,
    experiments,
    load,
  )
  from ganjax.runs.configs.keys import DEFAULTS, RESUMABLE_KEYS
  from ganjax.runs.configs.parts import build, check_devices, load_data
  from ganjax.runs.configs.resolution import resolve

__all__ = [
  "DEFAULTS",
  "EXPERIMENTS",
  "RESUMABLE_KEYS",
  "Config",
  "build",
  "check_devices",
  "experiments",
  "flags",
  "load",
  "load_data",
  "resolve",
  "schema",
]

# Public name -> the file in which it stands, if it is no file itself.
_FILES = {
  "DEFAULTS": "keys",
  "EXPERIMENTS": "experiment",
  "RESUMABLE_KEYS": "keys",
  "Config": "experiment",
  "build": "parts",
  "check_devices": "parts",
  "experiments": "experiment",
  "load": "experiment",
  "load_data": "parts",
  "resolve": "resolution",
}


def __getattr__(name: str) -> Any:
  if name not in __all__:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  file = importlib.import_module(f"{__name__}.{_FILES.get(name, name)}")
  found = getattr(file, name) if name in _FILES else file
  globals()[name] = found  # Next time it is found without this function.
  return found
