"""What a finished checkpoint consists of, to notice any change of it.

A file beside those of a step: its first line is the SHA-256 of its second, a
JSON object with the SHA-256 of every file, and each leaf's type and shape.
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
# Of a leaf: its type and its shape.
Facts = tuple[str, list[int]]


def write(folder: pathlib.Path, leaves: Mapping[str, Facts]) -> None:
  """Writes the manifest of what is in `folder`, complete and on the disk."""
  text = json.dumps({"files": _digests(folder), "leaves": leaves})
  own = hashlib.sha256(text.encode()).hexdigest()
  # Beside the folder: within it, it would be a file that does not belong there.
  temporary = folder.with_name(f".{folder.name}.{NAME}")
  with temporary.open("w") as file:
    file.write(f"{own}\n{text}\n")
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(folder / NAME)


def exists(folder: pathlib.Path) -> bool:
  """Returns whether `folder` has a manifest, intact or not."""
  return (folder / NAME).exists()


def problem(folder: pathlib.Path) -> str:
  """Returns what is wrong with `folder`, "" if nothing is."""
  if not exists(folder):
    return "was not finished"
  try:
    wanted, found = _read(folder)["files"], _digests(folder)
  except (OSError, ValueError) as error:
    return f"is damaged: {error}"
  for file in sorted(wanted.keys() | found.keys()):
    if wanted.get(file) != found.get(file):
      what = "has changed" if file in wanted else "does not belong there"
      what = what if file in found else "is missing"
      return f"is damaged: its file {file} {what}"
  return ""


def difference(folder: pathlib.Path, leaves: Mapping[str, Facts]) -> str:
  """Returns the first leaf that is not as in the manifest, "" for none.

  Args:
    folder: whose manifest is intact.
    leaves: path -> type and shape, as they should be.
  """
  saved = _read(folder)["leaves"]
  text = lambda facts: f"{facts[0]} {list(facts[1])}" if facts else "absent"
  for name in sorted(saved.keys() | leaves.keys()):
    one, other = text(saved.get(name)), text(leaves.get(name))
    if one != other:
      return f"{name} is {one} there and {other} in this config's system"
  return ""


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
  own, _, text = (folder / NAME).read_bytes().partition(b"\n")
  text, end = text[:-1], text[-1:]
  right = hashlib.sha256(text).hexdigest().encode() == own
  if not right or end != b"\n":
    raise ValueError(f"its file {NAME} has changed")
  return json.loads(text)


def facts_of(tree: Any) -> dict[str, Facts]:
  """Returns the type and the shape of each leaf by its path."""
  return {
    jax.tree_util.keystr(path): (str(np.dtype(leaf.dtype)), list(leaf.shape))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
