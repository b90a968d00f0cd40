"""Names to things: those that ganjax has, and those of its users.

A registry is a dict from the names that configs use to what they name: a
function, or a class. What it finds is one of three:

- what was registered, by `@LOSSES.register` or `@NETS.register(name="x")`, in
  ganjax or in any module that was imported before;
- where a registry belongs to a package, the file of that name in the package,
  which is imported when it is first asked for, and registers what it holds;
- `module:attribute`, e.g. `my_package.losses:margin` or `my_losses.py:margin`:
  any attribute of any module, or of any Python file.
"""

import hashlib
import importlib
import importlib.util
import pathlib
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from ganjax import errors

# The origin of what another process cannot import.
NOWHERE = "__main__"


class Registry(dict[str, Any]):
  """A dict of things under the names that configs use for them.

  Attributes:
    kind: the word that errors use: "loss", "net".
    package: whose files are names, too, or None.
    helpers: files of that package that are none.
  """

  def __init__(
    self, kind: str, package: str | None = None, helpers: Iterable[str] = ()
  ):
    """Makes an empty registry.

    Args:
      kind: what is registered, as the user calls it.
      package: the dotted name of a package in which each file registers what
        has the file's name.
      helpers: files of the package that register nothing.
    """
    super().__init__()
    self.kind = kind
    self.package = package
    self.helpers = frozenset(helpers)

  def register(self, thing: Any = None, *, name: str = "") -> Any:
    """Registers a function or a class; use as a decorator.

    Args:
      thing: what is registered.
      name: under which; its own if empty.

    Returns:
      The thing as it is, or a decorator if called with a name alone.
    """
    if thing is None:
      return lambda thing: self.register(thing, name=name)
    name = name or getattr(thing, "__name__")  # noqa: B009
    self.check_free(name, thing, self.get(name))
    self[name] = thing
    return thing

  def check_free(self, name: str, thing: Any, before: Any) -> None:
    """Raises a `UserError` if a name belongs to somebody else's thing.

    Else a config would mean one thing before an import and another after it.
    What the same file, or a notebook, registers again takes the place of what
    it has registered before.

    Args:
      name: under which `thing` is to be registered.
      thing: what is to be registered.
      before: what has the name now, or None.
    """
    new = source(thing)
    if new == "":
      return
    if before is None:
      old = "" if name in self._files() else new
    else:
      old = source(before)
    if old == "":
      raise errors.UserError(
        f"{self.kind} {name!r} is one of ganjax's own: register yours by "
        "another name"
      )
    if old != new and NOWHERE not in (old, new):
      raise errors.UserError(
        f"{self.kind} {name!r} of {new} is registered by {old} already: use "
        f"another name, or name both by where they are ({new}:...)"
      )

  def names(self) -> list[str]:
    """Returns every name, also of files that were not imported yet."""
    return sorted({*self, *self._files()})

  def find(self, name: str) -> Any:
    """Returns what is called `name`.

    Args:
      name: a name, or `module:attribute`.

    Raises:
      UserError: there is no such thing; the error names those that exist.
    """
    if name in self:
      return self[name]
    if ":" in name:
      return find_attribute(name, self.kind)
    if name in self._files():
      importlib.import_module(f"{self.package}.{name}")
      return self[name]
    raise errors.unknown(self.kind, name, self.names())

  def _files(self) -> set[str]:
    """Returns the names of the package's files."""
    if self.package is None:
      return set()
    path = importlib.import_module(self.package).__path__
    files = {module.name for module in pkgutil.iter_modules(path)}
    return files - self.helpers


def find_attribute(name: str, kind: str) -> Any:
  """Returns the attribute that `module:attribute` names.

  Args:
    name: the module by its dotted name or by the path of its file, a colon,
      and the attribute.
    kind: what is looked for, for the error.

  Raises:
    UserError: there is no such module or attribute.
  """
  module_name, _, attribute = name.rpartition(":")
  module = import_module(module_name)
  if not hasattr(module, attribute):
    raise errors.unknown(
      f"{kind} in {module_name}",
      attribute,
      [key for key in vars(module) if not key.startswith("_")],
    )
  return getattr(module, attribute)


def import_module(name: str) -> ModuleType:
  """Imports a module by its dotted name, or by the path of its file.

  Dotted names are looked up from the working directory, too, which `python -m`
  does by itself and a console script does not. A file is imported once, however
  often it is named.

  Args:
    name: `package.module`, or a path that ends in ".py".

  Raises:
    UserError: there is no such module or file. What goes wrong inside of one
      that exists is raised as it is.
  """
  if name.endswith(".py"):
    return _import_file(pathlib.Path(name).expanduser())
  folder = str(pathlib.Path.cwd())
  if folder not in sys.path and "" not in sys.path:
    sys.path.append(folder)
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    missing = error.name or ""
    if name != missing and not name.startswith(f"{missing}."):
      raise  # The module is there; something that it imports is not.
    raise errors.UserError(
      f"there is no module {name!r} to import from {folder}: start where it "
      "lies, install it, or name the path of its file"
    ) from error


def _import_file(path: pathlib.Path) -> ModuleType:
  """Imports a Python file by its path, as a module of its own.

  A file within a package is imported as that package's module, so that its
  relative imports work.
  """
  if not path.is_file():
    raise errors.UserError(f"there is no file {path} to import")
  path = path.resolve()
  parts = [path.stem]
  folder = path.parent
  while (folder / "__init__.py").is_file():
    parts.insert(0, folder.name)
    folder = folder.parent
  if len(parts) > 1:
    if str(folder) not in sys.path:
      sys.path.append(str(folder))
    return importlib.import_module(".".join(parts))
  digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
  name = f"ganjax_user_{path.stem}_{digest}"
  if name in sys.modules:
    return sys.modules[name]
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise errors.UserError(f"{path} is not a Python file")
  module = importlib.util.module_from_spec(spec)
  # Before it runs: dataclasses and pickles look their module up there.
  sys.modules[name] = module
  if str(folder) not in sys.path:  # For what stands beside the file.
    sys.path.append(str(folder))
  try:
    spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  return module


def source(thing: Any) -> str:
  """Returns the file that a thing comes from.

  "" is for what belongs to ganjax or optax, `NOWHERE` for what was made in a
  notebook or in the script that runs.
  """
  found = origin(thing)
  if found in ("", NOWHERE):
    return found
  file = getattr(sys.modules.get(thing.__module__), "__file__", found)
  return str(pathlib.Path(file).resolve())


def origin(thing: Any) -> str:
  """Returns what to import so that `thing` is there again; "" if nothing is.

  Args:
    thing: a function or a class.

  Returns:
    "" for what belongs to ganjax; a dotted name where Python finds the module
    by it; else the path of its file. For what was made in a notebook or in
    the script that runs, `NOWHERE`: another process cannot import it.
  """
  module_name = getattr(thing, "__module__", "") or ""
  if module_name.partition(".")[0] in ("ganjax", "optax"):
    return ""
  module = sys.modules.get(module_name)
  file = getattr(module, "__file__", None)
  if module_name == "__main__" or file is None:
    return NOWHERE
  if module_name.startswith("ganjax_user_"):
    return str(pathlib.Path(file).resolve())
  return module_name
