"""Which of the published arrays is which of ganjax's."""

import re

import numpy as np

from ganjax import errors
from ganjax.evaluation.extractors import inception, weights

Arrays = dict[str, np.ndarray]

# What PyTorch calls a leaf; all others have the same name.
_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "mean": "running_mean",
  "var": "running_var",
}
# What PyTorch's files hold and no feature depends on.
_UNUSED = re.compile(r"fc\.bias|.*\.num_batches_tracked|mask_token")

_STEM = (
  "Conv2d_1a_3x3",
  "Conv2d_2a_3x3",
  "Conv2d_2b_3x3",
  "Conv2d_3b_1x1",
  "Conv2d_4a_3x3",
)
# The scope of each branch in TensorFlow's graph.
_A = {
  "branch1x1": "",
  "branch5x5": "tower/",
  "branch3x3dbl": "tower_1/",
  "branch_pool": "tower_2/",
}
_B = {"branch3x3": "", "branch3x3dbl": "tower/"}
_C = {
  "branch1x1": "",
  "branch7x7": "tower/",
  "branch7x7dbl": "tower_1/",
  "branch_pool": "tower_2/",
}
_D = {"branch3x3": "tower/", "branch7x7x3": "tower_1/"}
_E = {
  "branch1x1": "",
  "branch3x3": "tower/",
  "branch3x3dbl": "tower_1/",
  "branch_pool": "tower_2/",
}
_SCOPES = dict(
  zip(inception.BLOCKS, (_A, _A, _A, _B, *[_C] * 4, _D, _E, _E), strict=True)
)


def in_state_dict(name: str) -> str:
  """Returns what PyTorch's file calls the parameter `name`."""
  scope, _, leaf = name.rpartition("/")
  leaf = _LEAVES.get(leaf, leaf)
  return f"{scope}/{leaf}".lstrip("/").replace("/", ".")


def in_graph_def(name: str) -> str:
  """Returns what TensorFlow's graph calls the Inception parameter `name`."""
  if name == "fc/kernel":
    return "softmax/weights"
  scope, kind, leaf = name.rsplit("/", 2)
  if kind == "conv":
    return f"{_layer(scope)}/conv2d_params"
  leaf = {
    "scale": "gamma",
    "bias": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
  }[leaf]
  return f"{_layer(scope)}/batchnorm/{leaf}"


def _layer(scope: str) -> str:
  """Returns the graph's scope for e.g. "Mixed_5b/branch5x5_2"."""
  if scope in _STEM:
    return _numbered("conv", _STEM.index(scope))
  block, _, conv = scope.partition("/")
  branch, _, number = conv.rpartition("_")
  if branch not in _SCOPES[block]:  # A branch of one convolution: no number.
    branch = conv
    number = "1"
  mixed = _numbered("mixed", list(_SCOPES).index(block))
  path = f"{mixed}/{_SCOPES[block][branch]}"
  if number[1:]:  # One of two in a split: "2a" and "2b".
    return path + "mixed/" + _numbered("conv", "ab".index(number[1]))
  return path + _numbered("conv", int(number) - 1)


def _numbered(name: str, index: int) -> str:
  """Returns a name as TensorFlow makes it unique: "conv", "conv_1"."""
  return f"{name}_{index}" if index else name


def from_state_dict(
  found: Arrays, shapes: weights.Shapes, where: str
) -> Arrays:
  """Returns ganjax's arrays, with kernels `[..., in, out]`.

  Args:
    found: PyTorch's, with kernels `[out, in, ...]`.
    shapes: of what is wanted, by ganjax's names.
    where: they come from, for the error.

  Raises:
    UserError: some are not there, or there are others.
  """
  table = {name: in_state_dict(name) for name in shapes}
  _none_missing(table, found, where)
  for name in sorted(found.keys() - set(table.values())):
    if not _UNUSED.fullmatch(name):
      raise errors.UserError(
        f"{where} has the unknown {name}: these are the weights of another "
        "network"
      )
  arrays = {name: found[theirs] for name, theirs in table.items()}
  for name, array in arrays.items():
    if name.endswith("/kernel"):
      axes = (*range(2, array.ndim), 1, 0)
      arrays[name] = np.ascontiguousarray(array.transpose(axes))
  return arrays


def from_graph_def(found: Arrays, where: str) -> Arrays:
  """Returns ganjax's arrays of Inception.

  Args:
    found: TensorFlow's, laid out as ganjax's.
    where: they come from, for the error.

  Raises:
    UserError: some are not there.
  """
  table = {name: in_graph_def(name) for name in inception.shapes()}
  _none_missing(table, found, where)
  return {name: found[theirs] for name, theirs in table.items()}


def _none_missing(table: dict[str, str], found: Arrays, where: str) -> None:
  """Raises a `UserError` unless a file has all arrays that are looked for."""
  missing = [name for name in table.values() if name not in found]
  if missing:
    more = f" and {len(missing) - 1} more" if missing[1:] else ""
    raise errors.UserError(
      f"{where} lacks {missing[0]}{more}: these are the weights of another "
      "network"
    )
