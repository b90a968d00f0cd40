"""Reads .npz files of unknown origin: plain arrays, no more than memory holds.

A few bytes may declare an array of any size, or unpack to a thousand times as
much. What is read here is checked before memory is taken.
"""

import math
import os
import zipfile
from typing import IO

import numpy as np

_HEADERS = {
  1: np.lib.format.read_array_header_1_0,
  2: np.lib.format.read_array_header_2_0,
}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns all arrays of an .npz by name, none of them of objects.

  Raises:
    Exception: of any kind, where the file is damaged or no .npz, or holds more
      than this machine's memory.
  """
  with zipfile.ZipFile(path) as archive:
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total > memory:
      raise ValueError(
        f"{total / 1e9:.1f} GB of arrays, and {memory / 1e9:.1f} of memory"
      )
    arrays: dict[str, np.ndarray] = {}
    for member in members:
      with archive.open(member) as file:
        _check_header(file, member.file_size)
      # Opened again: a member of an archive cannot go back to its start.
      with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
      arrays[member.filename.removesuffix(".npy")] = array
  return arrays


def _check_header(file: IO[bytes], size: int) -> None:
  """Raises unless a .npy of `size` bytes holds the array that it declares."""
  major = np.lib.format.read_magic(file)[0]
  shape, _, dtype = _HEADERS[major](file)
  if math.prod(shape) * dtype.itemsize != size - file.tell():
    raise ValueError(f"{size} bytes are no {dtype} {list(shape)}")
