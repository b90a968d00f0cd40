"""Files that are written at once and complete, and those that ganjax has."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any


def experiments() -> pathlib.Path:
  """Returns the folder of the experiments that come with ganjax."""
  package = pathlib.Path(__file__).resolve().parent
  installed = package / "experiments"
  # A wheel has them within the package; a checkout, and so an editable
  # install, beside it.
  if installed.is_dir():
    return installed
  return package.parent / "experiments"


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives the path of a new file, which then takes the place of `path`.

  Who reads `path` meanwhile, or after a kill, sees the old file or the new
  one, never a part. Folders above it are made.

  Args:
    path: of the file.

  Yields:
    Where to write the new content: a hidden name in the same folder, of this
    process alone. After an error it is deleted, and `path` is as it was.

  Raises:
    OSError: the folder cannot be written.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_bytes(path: str | pathlib.Path, content: bytes) -> None:
  """Writes a file at once and complete; see `replacing`."""
  with replacing(path) as temporary:
    temporary.write_bytes(content)


def write_json(path: str | pathlib.Path, obj: Any) -> None:
  """Writes `obj` as JSON, at once and complete; NaN becomes "nan"."""
  text = json.dumps(to_json(obj), indent=2, allow_nan=False)
  write_bytes(path, (text + "\n").encode())


def to_json(value: Any) -> Any:
  """Returns what JSON can hold of `value`.

  Numbers that are not finite become texts, since JSON has none; arrays become
  lists, paths texts.
  """
  if isinstance(value, Mapping):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [to_json(item) for item in value]
  if hasattr(value, "tolist"):
    return to_json(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if isinstance(value, os.PathLike):
    return str(value)
  return value
