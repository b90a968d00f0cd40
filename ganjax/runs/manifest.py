"""What a finished checkpoint consists of, to notice any change of it.

A manifest is a file beside those of a step. Its first line is the SHA-256 of
its second, a JSON object: the format of the state, the SHA-256 of every file,
and each leaf's type and shape.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

NAME = "ganjax_manifest.json"
# What a state is made of. Raise it when older checkpoints cannot be restored
# any more; 2 since a state is its step, its nets, their averages, its memory.
FORMAT = 2
# Of manifests that name none: those of ganjax 0.1.0.
FIRST_FORMAT = 1
# Of a leaf: its type and its shape.
Facts = tuple[str, list[int]]


def write(folder: pathlib.Path, leaves: Mapping[str, Facts]) -> None:
  """Writes the manifest of what is in `folder`, complete and on the disk.

  Args:
    folder: of a step, with all its files.
    leaves: path -> type and shape of each leaf of its state.

  Raises:
    OSError: a file cannot be read or written.
  """
  text = json.dumps(
    {"format": FORMAT, "files": _digests(folder), "leaves": leaves}
  )
  own = hashlib.sha256(text.encode()).hexdigest()
  # Beside the folder: within it, it would be a file that does not belong there.
  temporary = folder.with_name(f".{folder.name}.{NAME}")
  with temporary.open("w") as file:
    file.write(f"{own}\n{text}\n")
    # A manifest says that all is there: so it must not be there by name alone
    # if the machine dies now.
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(folder / NAME)


def exists(folder: pathlib.Path) -> bool:
  """Returns whether `folder` has a manifest, intact or not."""
  return (folder / NAME).exists()


def formats(folder: pathlib.Path) -> set[int]:
  """Returns the formats of the checkpoints below `folder`.

  Args:
    folder: of all steps; it need not exist. Steps whose manifest is missing or
      damaged are left out: they are refused when they are restored.
  """
  found = set()
  for path in folder.glob(f"*/{NAME}"):
    try:
      found.add(int(_read(path.parent).get("format", FIRST_FORMAT)))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
      continue
  return found


def problem(folder: pathlib.Path) -> str:
  """Returns what is wrong with `folder`, "" if nothing is."""
  if not exists(folder):
    return "was not finished"
  try:
    wanted = _read(folder)["files"]
    found = _digests(folder)
  except (OSError, ValueError) as error:
    return f"is damaged: {error}"
  for file in sorted(wanted.keys() | found.keys()):
    if file not in found:
      return f"is damaged: its file {file} is missing"
    if file not in wanted:
      return f"is damaged: its file {file} does not belong there"
    if wanted[file] != found[file]:
      return f"is damaged: its file {file} has changed"
  return ""


def difference(folder: pathlib.Path, leaves: Mapping[str, Facts]) -> str:
  """Returns the first leaf that is not as in the manifest, "" for none.

  Args:
    folder: whose manifest is intact.
    leaves: path -> type and shape, as they should be.
  """
  saved = _read(folder)["leaves"]
  for name in sorted(saved.keys() | leaves.keys()):
    there = _text_of(saved.get(name))
    here = _text_of(leaves.get(name))
    if there != here:
      return f"{name} is {there} there and {here} in this config's system"
  return ""


def facts_of(tree: Any) -> dict[str, Facts]:
  """Returns the type and the shape of each leaf by its path."""
  return {
    jax.tree_util.keystr(path): (str(np.dtype(leaf.dtype)), list(leaf.shape))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _text_of(facts: Facts | None) -> str:
  """Returns facts for people, such as "float32 [3, 4]"."""
  return f"{facts[0]} {list(facts[1])}" if facts else "absent"


def _digests(folder: pathlib.Path) -> dict[str, str]:
  """Returns file -> SHA-256 of all files below `folder` but the manifest."""
  found = {}
  for path in sorted(folder.rglob("*")):
    name = path.relative_to(folder).as_posix()
    if path.is_file() and name != NAME:
      with path.open("rb") as file:
        found[name] = hashlib.file_digest(file, "sha256").hexdigest()
  return found


def _read(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the manifest; raises ValueError where it is damaged."""
  own, _, rest = (folder / NAME).read_bytes().partition(b"\n")
  text = rest[:-1]
  right = hashlib.sha256(text).hexdigest().encode() == own
  if not right or rest[-1:] != b"\n":
    raise ValueError(f"its file {NAME} has changed")
  return json.loads(text)
