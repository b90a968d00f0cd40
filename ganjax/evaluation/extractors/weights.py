"""Published weights as ganjax keeps them: an .npz with a manifest.

`ganjax convert` writes such files, extractors read them. Nothing is
downloaded, and nothing is unpickled.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ganjax import errors, files
from ganjax.data import npz
from ganjax.evaluation import extractors
from ganjax.evaluation.extractors import Features, resize

# Raise it when a file of today can no longer be read.
FORMAT = 1

# Parameter -> its shape.
Shapes: TypeAlias = dict[str, tuple[int, ...]]
Params: TypeAlias = Mapping[str, Any]  # A tree of arrays.


class Weights(NamedTuple):
  """Parameters read from a file.

  Attributes:
    params: nested dict of float32 arrays.
    digest: the SHA-256 of all of them, in hexadecimal.
  """

  params: Params
  digest: str


class Pretrained:
  """A published network as a function of images: see `extractors.Extractor`.

  An image of one channel is seen as grey.
  """

  def __init__(
    self,
    name: str,
    weights: Weights,
    apply: Callable[[Params, jax.Array], Features],
    protocol: dict[str, Any],
    chunk: int,
  ):
    """Binds the weights.

    Args:
      name: with the variant, e.g. "inception:2015".
      weights: what `read` returns.
      apply: params, uint8 `[chunk, H, W, 3]` -> `Features`.
      protocol: see `extractors.Extractor`.
      chunk: how many images at a time.
    """
    self.name = name
    self.digest = weights.digest[:16]
    self.accuracy = float("nan")
    self.protocol = protocol
    self.params = jax.device_put(weights.params)
    self.chunk = chunk
    self._apply = jax.jit(apply)

  def __call__(self, images: np.ndarray) -> Features:
    """Returns the `Features` of uint8 `[N, H, W, 1 or 3]`, or raises."""
    images = resize.rgb(images, self.name)

    def apply(part: np.ndarray) -> Features:
      return self._apply(self.params, part)

    return extractors.in_chunks(apply, images, self.chunk)


def shapes_of(module: nn.Module, size: int) -> Shapes:
  """Returns the shape of each parameter, e.g. of "fc/kernel".

  Args:
    module: takes float `[N, size, size, 3]`.
    size: of the images that it is asked about, in pixels.
  """
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  variables: Any = jax.eval_shape(module.init, jax.random.key(0), images)
  flat: dict = traverse_util.flatten_dict(variables["params"], sep="/")
  return {name: leaf.shape for name, leaf in flat.items()}


def digest(arrays: dict[str, np.ndarray]) -> str:
  """Returns the SHA-256 of named arrays, in hexadecimal."""
  sha = hashlib.sha256()
  for name, array in sorted(arrays.items()):
    sha.update(f"{name}{array.shape}{array.dtype.str}".encode())
    sha.update(np.ascontiguousarray(array).data)
  return sha.hexdigest()


def locate(kind: str, path: str, variable: str, public: str) -> pathlib.Path:
  """Returns where the weights of an extractor lie.

  Args:
    kind: the name of the extractor.
    path: of the file, as the user gave it; "" if not.
    variable: of the environment, which holds it otherwise.
    public: names the published file, for the error.

  Raises:
    UserError: neither names a file that there is.
  """
  path = path or os.environ.get(variable, "")
  if path and pathlib.Path(path).is_file():
    return pathlib.Path(path)
  problem = f"there is no {path}" if path else "no weights are named"
  raise errors.UserError(
    f"{kind}: {problem}; download {public}, convert it once by `python -m "
    f"ganjax.convert FILE --kind {kind} --out {kind}.npz`, and name the "
    f"result in {variable} or as the extractor's weights"
  )


def read(path: pathlib.Path, kind: str, shapes: Shapes) -> Weights:
  """Returns the weights in a file that `write` wrote.

  Args:
    path: of the .npz.
    kind: which network and variant, e.g. "inception:2015".
    shapes: what the network needs.

  Raises:
    UserError: the file is damaged, or holds something else.
  """
  try:
    arrays = npz.read(path)
    manifest = json.loads(str(arrays.pop("manifest")))
    form = manifest["format"]
    held = manifest["kind"]
    expected = manifest["digest"]
  except Exception as error:  # On damaged bytes zipfile raises almost anything.
    raise errors.UserError(
      f"{path} is damaged, or no file of `ganjax convert` "
      f"({type(error).__name__}): convert the published weights again"
    ) from None
  if (form, held) != (FORMAT, kind):
    raise errors.UserError(
      f"{path} holds {held!r} in format {form}, not {kind!r} in format "
      f"{FORMAT}: convert the weights that are wanted"
    )
  check(arrays, shapes, str(path))
  if digest(arrays) != expected:
    raise errors.UserError(
      f"{path} is damaged, its parameters do not have their digest: convert "
      "the published weights again"
    )
  return Weights(traverse_util.unflatten_dict(arrays, sep="/"), expected)


def write(
  path: pathlib.Path,
  kind: str,
  arrays: dict[str, np.ndarray],
  source: dict[str, Any],
) -> str:
  """Writes weights at once and complete; returns their digest.

  Args:
    path: of the .npz.
    kind: as in `read`.
    arrays: float32, by names as `shapes_of` gives them.
    source: what else the manifest says: where the weights came from.

  Raises:
    UserError: the file cannot be written.
  """
  sha = digest(arrays)
  manifest = {"format": FORMAT, "kind": kind, "digest": sha, **source}
  try:
    with files.replacing(path) as temporary, temporary.open("wb") as file:
      text = np.array(json.dumps(manifest))
      np.savez(file, allow_pickle=False, manifest=text, **arrays)
  except OSError as error:
    raise errors.UserError(f"cannot write {path}: {error.strerror}") from None
  return sha


def check(arrays: dict[str, np.ndarray], shapes: Shapes, where: str) -> None:
  """Raises a `UserError` unless the arrays are those that are needed.

  Args:
    arrays: by name.
    shapes: by name.
    where: they come from, for the error.
  """
  for problem, names in (
    ("lacks", shapes.keys() - arrays.keys()),
    ("has the unknown", arrays.keys() - shapes.keys()),
  ):
    if names:
      first, *rest = sorted(names)
      more = f" and {len(rest)} more" if rest else ""
      raise errors.UserError(
        f"{where} {problem} {first}{more}: these are the weights of another "
        "network"
      )
  for name, array in arrays.items():
    if array.shape != shapes[name] or array.dtype != np.float32:
      raise errors.UserError(
        f"{where}: {name} is {array.dtype} {list(array.shape)}, not float32 "
        f"{list(shapes[name])}: these are the weights of another network"
      )
