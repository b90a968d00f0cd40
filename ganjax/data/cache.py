"""Prepared datasets on disk: uint8 arrays that later runs memory-map.

Each dataset is one folder with `images.npy`, `labels.npy` (if it has labels)
and `info.json`. The folder is made under another name and renamed when it is
complete: nobody sees a part of a dataset. Other results that take long to make,
such as features, are kept as an .npz with its digest (`write_arrays`).
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar

import numpy as np

from ganjax import data, errors, files
from ganjax.data import npz

# Raise it when what the loaders write changes: all datasets are made anew then.
FORMAT = 1

# What a dataset depends on, by name; JSON can hold the values.
Key: TypeAlias = dict[str, str | int | float | list[str]]
# `allocate(shape)` makes a uint8 array in the cache.
Allocate: TypeAlias = Callable[[tuple[int, ...]], np.ndarray]
T = TypeVar("T")


def root() -> pathlib.Path:
  """Returns the folder of everything that ganjax caches; may not exist yet.

  It is `$GANJAX_CACHE`, else `$XDG_CACHE_HOME/ganjax`, else `~/.cache/ganjax`.
  """
  own = os.environ.get("GANJAX_CACHE")
  if own:
    return pathlib.Path(own).expanduser().absolute()
  home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(home).expanduser().absolute() / "ganjax"


def digest(arrays: data.Arrays) -> str:
  """Returns the fingerprint of a dataset: 16 hexadecimal digits.

  Args:
    arrays: images of any shape and dtype; labels `[N]` or None.

  Returns:
    The start of the SHA-256 of shape, dtype and bytes of both arrays. It is
    the same whether the arrays are in memory or memory-mapped.
  """
  sha = hashlib.sha256()
  for array in (arrays.images, arrays.labels):
    if array is None:
      sha.update(b"None")
      continue
    array = np.ascontiguousarray(array)
    sha.update(f"{array.shape}{array.dtype.str}".encode())
    sha.update(array.data if array.size else b"")
  return sha.hexdigest()[:16]


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
  """Returns the fingerprint of named arrays: 16 hexadecimal digits."""
  sha = hashlib.sha256()
  for name, array in sorted(arrays.items()):
    array = np.ascontiguousarray(array)
    sha.update(f"{name}{array.shape}{array.dtype.str}".encode())
    sha.update(array.data if array.size else b"")
  return sha.hexdigest()[:16]


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Returns what `write_arrays` wrote; None, with a warning, if it is damaged.

  A file that is not there is None without a warning.
  """
  try:
    arrays = npz.read(path)
    if str(arrays.pop("digest")) != digest_of(arrays):
      raise ValueError("the arrays do not have the digest beside them")
    return arrays
  except (FileNotFoundError, NotADirectoryError):
    return None
  except Exception as error:  # On damaged bytes zipfile raises almost anything.
    warnings.warn(f"{path} is damaged ({error}): made anew", stacklevel=3)
    return None


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an .npz with its digest, whole or not at all.

  A cache that cannot be written costs time, not the result: it is a warning.
  """
  try:
    marked = {**arrays, "digest": np.array(digest_of(arrays))}
    with files.replacing(path) as temporary, temporary.open("wb") as file:
      np.savez(file, allow_pickle=False, **marked)
  except OSError as error:
    warnings.warn(
      f"{path.name} is not kept for the next run: {error}", stacklevel=3
    )


def cached(key: Key, make: Callable[[Allocate], data.Arrays]) -> data.Arrays:
  """Returns the dataset of `key`, memory-mapped; makes it if it is not there.

  Args:
    key: what the arrays depend on: JSON values, the most telling ones first.
    make: makes the arrays. It is given `allocate(shape)`, which returns a
      uint8 array that is already on the cache's disk: what is written there
      is neither held in memory nor written a second time.

  Returns:
    Read-only arrays that NumPy maps from the files.

  Raises:
    UserError: the cache cannot be written.
  """
  folder = root() / _name(key)
  arrays = _read(folder, key)
  if arrays is not None:
    return arrays
  with contextlib.ExitStack() as stack:
    with _writable():
      folder.parent.mkdir(parents=True, exist_ok=True)
      _sweep(folder.parent)
      temporary = pathlib.Path(
        stack.enter_context(
          tempfile.TemporaryDirectory(
            prefix=".making-", dir=folder.parent, ignore_cleanup_errors=True
          )
        )
      )
      built = temporary / "built"
      built.mkdir()
    _build(built, key, make)
    # Another process may publish the same dataset, or clear away the same
    # damaged one, between any two of these lines; then it is tried again.
    for attempt in range(10):
      with contextlib.suppress(OSError):
        built.rename(folder)
      arrays = _read(folder, key)
      if arrays is not None:
        return arrays
      with contextlib.suppress(OSError):
        folder.rename(temporary / f"damaged-{attempt}")
  raise errors.UserError(
    f"{folder} cannot be replaced: remove it, or set GANJAX_CACHE to a folder "
    "that you may write"
  )


def track(items: Iterable[T], total: int, text: str) -> Iterator[T]:
  """Yields `items`; shows a progress bar once five seconds have passed."""
  from rich import console, progress

  start = time.monotonic()
  bar = None
  try:
    for done, item in enumerate(items):
      if bar is None and time.monotonic() - start > 5:
        bar = progress.Progress(console=console.Console(stderr=True))
        bar.add_task(text, total=total)
        bar.start()
      if bar is not None:
        bar.update(bar.task_ids[0], completed=done + 1)
      yield item
  finally:
    if bar is not None:
      bar.stop()


def _name(key: Key) -> str:
  """Returns the folder of a dataset: readable, and different for each key."""
  readable = "-".join(str(value) for value in key.values() if value)
  text = json.dumps([FORMAT, key], sort_keys=True)
  short = hashlib.sha256(text.encode()).hexdigest()[:12]
  return re.sub(r"[^\w.]+", "-", readable).strip("-.")[:48] + "-" + short


def _build(
  folder: pathlib.Path,
  key: Key,
  make: Callable[[Allocate], data.Arrays],
) -> None:
  """Writes what `make` makes into `folder`."""
  allocated: list[np.memmap] = []

  def allocate(shape: tuple[int, ...]) -> np.ndarray:
    # A full disk under a mapped file kills the process without a word.
    free = shutil.disk_usage(folder).free
    needed = math.prod(shape)
    if needed > free:
      raise errors.UserError(
        f"the cache needs {needed / 1e9:.1f} GB, {folder.parent.parent} has "
        f"{free / 1e9:.1f} GB: set GANJAX_CACHE to a folder with more room"
      )
    with _writable():
      array = np.lib.format.open_memmap(
        folder / "allocated.npy", mode="w+", dtype=np.uint8, shape=shape
      )
    allocated.append(array)
    return array

  arrays = make(allocate)
  with _writable():
    if allocated and arrays.images is allocated[0]:
      # The images are on the disk already.
      allocated[0].flush()
      (folder / "allocated.npy").rename(folder / "images.npy")
    else:
      np.save(folder / "images.npy", arrays.images)
      (folder / "allocated.npy").unlink(missing_ok=True)
    if arrays.labels is not None:
      np.save(folder / "labels.npy", arrays.labels)
    info = {
      "key": key,
      "shape": list(arrays.images.shape),
      "num_classes": arrays.num_classes,
      "digest": digest(arrays),
      "bytes": {path.name: path.stat().st_size for path in folder.iterdir()},
    }
    (folder / "info.json").write_text(json.dumps(info, indent=1))


def _read(folder: pathlib.Path, key: Key) -> data.Arrays | None:
  """Returns the arrays in `folder`; None if they are absent or damaged."""
  try:
    info = json.loads((folder / "info.json").read_text())
    if info["key"] != key:
      return None
    arrays = {}
    for name in info["bytes"].keys() & {"images.npy", "labels.npy"}:
      if (folder / name).stat().st_size != info["bytes"][name]:
        return None
      arrays[pathlib.Path(name).stem] = np.load(
        folder / name, mmap_mode="r", allow_pickle=False
      )
    result = data.Arrays(num_classes=info["num_classes"], **arrays)
    return result if _is_whole(result, info["shape"]) else None
  except Exception:  # On damaged bytes NumPy and JSON raise almost anything.
    return None


def _is_whole(arrays: data.Arrays, shape: list[int]) -> bool:
  """Returns whether read arrays are of the form that `cached` writes."""
  images = arrays.images
  labels = arrays.labels
  num = arrays.num_classes
  if images.dtype != np.uint8 or list(images.shape) != shape:
    return False
  if not isinstance(num, int):
    return False
  if labels is None:
    return num == 0
  if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
    return False
  return 0 <= labels.min(initial=0) and labels.max(initial=0) < num


def _sweep(folder: pathlib.Path) -> None:
  """Removes what processes killed more than a day ago were making."""
  for old in folder.glob(".making-*"):
    with contextlib.suppress(OSError):
      if time.time() - old.stat().st_mtime > 24 * 3600:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _writable() -> Iterator[None]:
  """Turns an `OSError` of the cache's own writing into a `UserError`."""
  try:
    yield
  except OSError as error:
    raise errors.UserError(
      f"cannot write the cache {root()} ({error.strerror or error}): set "
      "GANJAX_CACHE to a folder that you may write"
    ) from error
