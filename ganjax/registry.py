"""Names to functions, and names to the files of a package."""

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ganjax import errors


class Registry(dict[str, Callable[..., Any]]):
  """A dict of functions under their own names, e.g. `LOSSES["hinge"]`."""

  def __init__(self, kind: str):
    """Makes an empty registry of `kind`, the word that its errors use."""
    super().__init__()
    self.kind = kind

  def register(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """Registers `function` under its own name; use as a decorator."""
    self[function.__name__] = function
    return function

  def find(self, name: str) -> Callable[..., Any]:
    """Returns what is registered as `name`, or raises a `UserError`."""
    if name not in self:
      raise errors.unknown(self.kind, name, self)
    return self[name]


def module_names(package: ModuleType, helpers: tuple[str, ...] = ()):
  """Returns the names of a package's files, without its `helpers`."""
  found = pkgutil.iter_modules(package.__path__)
  return sorted(m.name for m in found if m.name not in helpers)


def find_module(
  package: ModuleType, name: str, kind: str, helpers: tuple[str, ...] = ()
) -> ModuleType:
  """Imports `package.name`: the file's name is the key.

  Raises:
    UserError: there is no such file; the error lists those that exist.
  """
  names = module_names(package, helpers)
  if name not in names:
    raise errors.unknown(kind, name, names)
  return importlib.import_module(f"{package.__name__}.{name}")
