"""Published weights to the .npz that the extractors read.

`state_dict.py` and `graph_def.py` read the two published formats. They need
neither PyTorch nor TensorFlow, and run nothing that a file asks for. `names.py`
says which of the arrays in a file is which of ganjax's.
"""

import hashlib
import pathlib
from typing import Any, NamedTuple

from ganjax import errors
from ganjax.evaluation.convert import graph_def, names, state_dict
from ganjax.evaluation.extractors import dinov2, inception, weights


class Public(NamedTuple):
  """A published file: its size in bytes, and its digest."""

  size: int
  sha256: str


# As several public projects pin them. Nobody vouches for one of TensorFlow's.
PUBLIC = {
  "inception": (
    Public(
      95_628_359,
      "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
  ),
  "dinov2": (
    Public(
      88_283_115,
      "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    ),
    Public(
      346_378_731,
      "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    ),
    Public(
      1_217_586_395,
      "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    ),
  ),
}


def convert(
  source: pathlib.Path, out: pathlib.Path, kind: str, sha256: str = ""
) -> dict[str, Any]:
  """Converts a published file.

  Args:
    source: a PyTorch state_dict of either format; for Inception also the
      GraphDef of TensorFlow, or the .tgz that it came in.
    out: path of the .npz.
    kind: "inception" or "dinov2".
    sha256: that the source must have, in hexadecimal. By default a
      state_dict must be a published one, and a GraphDef may be any.

  Returns:
    What the manifest says: `kind` with its variant, `digest` of the
    parameters, the `source`'s name and `source_sha256`, and whether that was
    `verified`.

  Raises:
    UserError: the source is not the expected one, damaged or of another
      network, or the result cannot be written.
  """
  if kind not in PUBLIC:
    raise errors.unknown("kind of weights", kind, PUBLIC)
  try:
    with source.open("rb") as file:
      actual = hashlib.file_digest(file, "sha256").hexdigest()
    is_graph = graph_def.looks_like(source)
  except OSError as error:
    raise errors.UserError(f"cannot read {source}: {error.strerror}") from None
  if sha256:
    _match(source, actual, sha256)
  elif not is_graph:
    _match_public(source, actual, kind)
  if not is_graph:
    found = state_dict.read(source)
    variant, shapes = _variant(kind, found, source)
    arrays = names.from_state_dict(found, shapes, str(source))
  elif kind == "inception":
    variant = inception.KIND
    shapes = inception.shapes()
    found = graph_def.constants(graph_def.load(source), str(source))
    arrays = names.from_graph_def(found, str(source))
  else:
    raise errors.UserError(f"{source} is a GraphDef; there is none of {kind}")
  weights.check(arrays, shapes, str(source))
  origin = {
    "source": source.name,
    "source_sha256": actual,
    "verified": bool(sha256) or not is_graph,
  }
  digest = weights.write(out, variant, arrays, origin)
  return {"kind": variant, "digest": digest, **origin}


def _match(source: pathlib.Path, actual: str, expected: str) -> None:
  """Raises a `UserError` unless a file has the digest that is expected."""
  if actual != expected.lower():
    raise errors.UserError(
      f"{source} has the SHA-256 {actual}, not {expected.lower()}: download it "
      "again"
    )


def _match_public(source: pathlib.Path, actual: str, kind: str) -> None:
  """Raises a `UserError` unless a file is one that was published."""
  if actual in (public.sha256 for public in PUBLIC[kind]):
    return
  size = source.stat().st_size
  expected = " or ".join(f"{public.size:,}" for public in PUBLIC[kind])
  raise errors.UserError(
    f"{source} ({size:,} bytes, SHA-256 {actual}) is no published file of "
    f"{kind} ({expected} bytes): download it again, or name the SHA-256 that "
    "you trust with --digest"
  )


def _variant(
  kind: str, found: names.Arrays, source: pathlib.Path
) -> tuple[str, weights.Shapes]:
  """Returns the network that a state_dict is of: its kind and its shapes."""
  if kind == "inception":
    return inception.KIND, inception.shapes()
  width = found["cls_token"].shape[-1] if "cls_token" in found else 0
  for size, config in dinov2.SIZES.items():
    if config.width == width:
      return dinov2.kind(size), dinov2.shapes(size)
  raise errors.UserError(
    f"{source} is none of DINOv2's {', '.join(dinov2.SIZES)}"
  )
