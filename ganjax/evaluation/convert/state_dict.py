"""Reads a PyTorch state_dict without PyTorch, and without running its pickle.

A pickle may name any function of Python, which unpickling then calls. Here it
may name only those that a dict of tensors needs; all else is refused before it
is imported. Both formats of `torch.save` are read: the zip archive of PyTorch
1.6 and later, and the stream before it.
"""

import collections
import math
import pathlib
import pickle
import pickletools
import zipfile
from typing import IO, Any, NamedTuple

import numpy as np

from ganjax import errors

# PyTorch's constants that start a stream.
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


class Storage(NamedTuple):
  """A flat array, which one or more tensors look into."""

  key: str
  dtype: str
  count: int


class Tensor(NamedTuple):
  """A view of a storage; offset and strides count elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


_REBUILD = "torch._utils._rebuild_tensor_v2"
_ALLOWED: dict[str, Any] = {
  "collections.OrderedDict": collections.OrderedDict,
  "torch.FloatStorage": "<f4",
  "torch.LongStorage": "<i8",
}


class _Unpickler(pickle.Unpickler):
  """Unpickles what `_ALLOWED` and `_REBUILD` name, and nothing else."""

  def find_class(self, module_name: str, global_name: str, /) -> Any:
    name = f"{module_name}.{global_name}"
    if name == _REBUILD:
      # A pickle may set attributes of a function: each gets one of its own.
      return lambda *parts: Tensor(*parts[:4])
    if name not in _ALLOWED:
      raise errors.UserError(
        f"it asks for {name}, which no state_dict needs: refused, nothing was "
        "run"
      )
    return _ALLOWED[name]

  def persistent_load(self, pid: Any, /) -> Storage:
    kind, dtype, key, _, count = pid[:5]
    if kind != "storage" or dtype not in ("<f4", "<i8"):
      raise ValueError("an unknown kind of storage")
    return Storage(str(key), dtype, int(count))


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a state_dict, by name.

  Args:
    path: of what `torch.save(module.state_dict(), path)` wrote. Its tensors
      are of float32 or int64.

  Raises:
    UserError: the file is damaged, is something else, or asks for a function
      that no state_dict needs.
  """
  try:
    with path.open("rb") as file:
      is_zip = file.read(4) == b"PK\3\4"
      file.seek(0)
      return _read_zip(file) if is_zip else _read_stream(file)
  except errors.UserError as error:
    raise errors.UserError(f"{path}: {error}") from None
  except Exception as error:  # A damaged pickle raises almost anything.
    text = str(error).partition("\n")[0] or type(error).__name__
    raise errors.UserError(
      f"{path} is no state_dict of PyTorch, or damaged ({text}): download it "
      "again"
    ) from None


def _load(file: IO[bytes]) -> Any:
  """Unpickles the value at the file's position.

  The memo is a list, which a single far index would make gigabytes long. An
  honest pickle has no index beyond the number of bytes before it.
  """
  start = file.tell()
  for opcode, argument, at in pickletools.genops(file):
    if opcode.name.endswith("PUT") and (argument or 0) > (at or 0):
      raise ValueError("a memo index out of range")
  file.seek(start)
  return _Unpickler(file).load()


def _read_zip(file: IO[bytes]) -> dict[str, np.ndarray]:
  """Reads an archive: a pickle, and a member for each storage."""
  with zipfile.ZipFile(file) as archive:
    (member,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
    folder = member.removesuffix("data.pkl")
    # PyTorch compresses nothing: no member can be larger than the file.
    if any(m.compress_type != zipfile.ZIP_STORED for m in archive.infolist()):
      raise ValueError("compressed")
    if f"{folder}byteorder" in archive.namelist():
      if archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("not little-endian")
    with archive.open(member) as pickled:
      tensors = _tensors(_load(pickled))
    storages = {tensor.storage for tensor in tensors.values()}
    flat = {
      storage.key: np.frombuffer(
        archive.read(f"{folder}data/{storage.key}"), storage.dtype
      )
      for storage in storages
    }
  return {name: _view(tensor, flat) for name, tensor in tensors.items()}


def _read_stream(file: IO[bytes]) -> dict[str, np.ndarray]:
  """Reads five pickles, then each storage: its count, then its elements."""
  magic = _load(file)
  version = _load(file)
  system = _load(file)
  value = _load(file)
  keys = _load(file)
  if magic != _MAGIC or version != _VERSION or not system["little_endian"]:
    raise ValueError("an unknown start")
  tensors = _tensors(value)
  storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
  flat = {}
  for key in keys:
    storage = storages[key]
    if int.from_bytes(file.read(8), "little") != storage.count:
      raise ValueError("a storage of another size")
    size = storage.count * np.dtype(storage.dtype).itemsize
    flat[key] = np.frombuffer(file.read(size), storage.dtype)
  return {name: _view(tensor, flat) for name, tensor in tensors.items()}


def _tensors(value: Any) -> dict[str, Tensor]:
  """Returns what was unpickled, if it is a state_dict and nothing more."""
  if not isinstance(value, dict) or not value:
    raise errors.UserError(f"it holds a {type(value).__name__}, no state_dict")
  for name, tensor in value.items():
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
      raise errors.UserError(
        f"its {name!r} is a {type(tensor).__name__}, not a tensor: it holds "
        "more than a state_dict"
      )
  return dict(value)


def _view(tensor: Tensor, flat: dict[str, np.ndarray]) -> np.ndarray:
  """Returns a copy of what a tensor shows of its storage."""
  array = flat[tensor.storage.key]
  offset = tensor.offset
  shape = tensor.shape
  strides = tensor.strides
  # NumPy does not check: a wrong stride would read any memory, and one of 0
  # show an element a billion times. Its own integers would overflow.
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if min(offset, *shape, *strides, 0) < 0 or last >= len(array):
    raise ValueError("a tensor outside its storage")
  if math.prod(shape) > len(array):
    raise ValueError("a tensor larger than its storage")
  steps = [step * array.itemsize for step in strides]
  view = np.lib.stride_tricks.as_strided(
    array[offset:], shape, steps, writeable=False
  )
  return view.astype(array.dtype.newbyteorder("="), order="C")
