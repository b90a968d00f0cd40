"""Reads the constants of a TensorFlow GraphDef, without TensorFlow.

The wire format is that of protocol buffers: a sequence of fields, each a key
(number << 3 | type) and a value. The numbers below are those of TensorFlow's
graph.proto, node_def.proto, attr_value.proto, tensor.proto and
tensor_shape.proto.
"""

import math
import pathlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ganjax import errors

MEMBER = "classify_image_graph_def.pb"

_GRAPH_NODE = 1
_NODE_NAME = 1
_NODE_OP = 2
_NODE_ATTR = 5
_ENTRY_KEY = 1
_ENTRY_VALUE = 2
_ATTR_TENSOR = 8
_TENSOR_TYPE = 1
_TENSOR_SHAPE = 2
_TENSOR_CONTENT = 4
_TENSOR_FLOATS = 5
_SHAPE_DIM = 2
_DIM_SIZE = 1
_FLOAT = 1  # DT_FLOAT of types.proto
_LARGEST = 2**31  # Bytes: no protocol buffer is larger.
_MOST_FILLED = 2**24  # Elements of a tensor whose last value is repeated.

# The types of the wire format.
_VARINT = 0
_FIXED64 = 1
_BYTES = 2
_FIXED32 = 5


def looks_like(path: pathlib.Path) -> bool:
  """Returns whether a file starts as a GraphDef or a gzip archive does."""
  with path.open("rb") as file:
    start = file.read(2)
  return start == b"\x1f\x8b" or start[:1] == bytes([_GRAPH_NODE << 3 | _BYTES])


def load(path: pathlib.Path) -> bytes:
  """Returns a GraphDef's bytes, out of its .tgz too; nothing is unpacked.

  Raises:
    UserError: the archive is damaged, or there is no GraphDef in it.
  """
  data = path.read_bytes()
  if data[:2] != b"\x1f\x8b":
    return data
  try:
    with tarfile.open(path, "r:gz") as archive:
      for member in archive:
        if pathlib.PurePosixPath(member.name).name == MEMBER:
          file = archive.extractfile(member)
          if file is not None and member.size < _LARGEST:
            return file.read()
  except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
    raise errors.UserError(
      f"{path} is damaged ({type(error).__name__}): download it again"
    ) from None
  raise errors.UserError(f"{path} holds no {MEMBER}")


def constants(data: bytes, where: str) -> dict[str, np.ndarray]:
  """Returns the float32 constants of a GraphDef, by the names of their nodes.

  Args:
    data: the GraphDef.
    where: it comes from, for the error.

  Raises:
    UserError: it is damaged.
  """
  try:
    arrays = {}
    size = 0
    for number, node in _fields(memoryview(data)):
      if number == _GRAPH_NODE:
        name, array = _constant(node)
        if array is not None:
          arrays[name] = array
          size += array.nbytes
        if size > _LARGEST:
          raise ValueError("too large")
    return arrays
  # A field of an unexpected type is a number where bytes are, or the reverse.
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    raise errors.UserError(
      f"{where} is no GraphDef, or damaged ({error}): download it again"
    ) from None


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
  """Yields the number and the value of each field: an integer, or bytes."""
  at = 0
  while at < len(data):
    key, at = _varint(data, at)
    kind = key & 7
    if kind == _VARINT:
      value, at = _varint(data, at)
      yield key >> 3, value
      continue
    if kind == _BYTES:
      size, at = _varint(data, at)
    elif kind in (_FIXED32, _FIXED64):
      size = 4 if kind == _FIXED32 else 8
    else:
      raise ValueError(f"wire type {kind}")
    if at + size > len(data):
      raise ValueError("truncated")
    yield key >> 3, data[at : at + size]
    at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
  """Returns the integer at an offset, and the offset behind it."""
  value = 0
  for shift in range(0, 70, 7):
    if at >= len(data):
      raise ValueError("truncated")
    byte = data[at]
    at += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, at
  raise ValueError("an integer of more than 64 bits")


def _constant(node: memoryview) -> tuple[str, np.ndarray | None]:
  """Returns a node's name, and its value if that is a float32 constant."""
  name = ""
  op = ""
  tensor = None
  for number, value in _fields(node):
    if number == _NODE_NAME:
      name = str(value, "utf-8")
    elif number == _NODE_OP:
      op = str(value, "utf-8")
    elif number == _NODE_ATTR:
      entry = dict(_fields(value))
      if bytes(entry[_ENTRY_KEY]) == b"value":
        tensor = dict(_fields(entry[_ENTRY_VALUE])).get(_ATTR_TENSOR)
  if op != "Const" or tensor is None:
    return name, None
  return name, _tensor(tensor)


def _tensor(tensor: memoryview) -> np.ndarray | None:
  """Returns a TensorProto's array; None if it is not of float32."""
  kind = 0
  shape: list[int] = []
  content = b""
  floats = b""
  for number, value in _fields(tensor):
    if number == _TENSOR_TYPE:
      kind = value
    elif number == _TENSOR_SHAPE:
      for dim, size in _fields(value):
        if dim == _SHAPE_DIM:
          shape.append(dict(_fields(size)).get(_DIM_SIZE, 0))
    elif number == _TENSOR_CONTENT:
      content = value
    elif number == _TENSOR_FLOATS:  # All of them packed, or one at a time.
      floats += bytes(memoryview(value))  # Not of a number: so many zeros.
  if kind != _FLOAT:
    return None
  array = np.frombuffer(content or floats, "<f4").astype(np.float32)
  count = math.prod(shape)
  # The last of the listed values stands for all that follow.
  if not len(content) and 0 < len(array) < count <= _MOST_FILLED:
    array = np.pad(array, (0, count - len(array)), "edge")
  return array.reshape(shape)
