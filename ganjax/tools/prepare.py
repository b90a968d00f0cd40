"""Prepares a dataset once: `ganjax prepare NAME`.

Later runs map the arrays into memory.
"""

import argparse
import inspect
import pathlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # It imports JAX, which `--help` need not wait for.
  from ganjax import data

DESCRIPTION = """\
Prepares a dataset once and caches it as uint8 arrays, which later runs map
into memory without TFDS and TensorFlow. The cache is in $GANJAX_CACHE, by
default ~/.cache/ganjax."""

EXAMPLES = """\
examples:
  ganjax prepare cifar10
  ganjax prepare mnist --size 32 --split train[:50000] test
  ganjax prepare folder:/path/to/images --size 64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = DESCRIPTION
  parser.epilog = EXAMPLES
  add = parser.add_argument
  add(
    "name",
    metavar="NAME",
    help="a TFDS name such as cifar10, digits, toy, or folder:PATH",
  )
  add("--data_dir", help="where TFDS keeps its data (~/tensorflow_datasets)")
  add("--size", type=int, help="height and width in pixels")
  add(
    "--split",
    nargs="+",
    default=["train", "test"],
    help="which splits (train test)",
  )


def run(args: argparse.Namespace) -> None:
  """Prepares the dataset; see `prepare` for what it raises."""
  prepare(args.name, args.split, data_dir=args.data_dir, size=args.size)


def prepare(name: str, splits: list[str], **options: Any) -> None:
  """Loads each of `splits` and prints what it holds and where it is.

  Args:
    name: the name of a dataset of ganjax or of TFDS, or "folder:PATH".
    splits: "train", "test", or whatever else the dataset understands.
    **options: keyword arguments of the dataset's `load`; None means default.

  Raises:
    UserError: the dataset cannot be prepared, or has no such option.
    OSError: the cache cannot be written.
  """
  from ganjax import data, errors

  given = {key: value for key, value in options.items() if value is not None}
  dataset, _, path = name.partition(":")
  if dataset == "folder":
    given["path"] = path and str(pathlib.Path(path).expanduser().absolute())
  elif dataset not in data.names():
    # All other names are those of TFDS, which may contain colons.
    dataset = "tfds"
    given = {"builder": name, **given}
  load = data.find(dataset)
  for key in given:
    if key not in inspect.signature(load).parameters:
      raise errors.UserError(f"{dataset} has no option --{key}: leave it out")
  rows = []
  places = []
  for split in splits:
    start = time.monotonic()
    arrays = load(split, **given)
    rows.append(_row(split, arrays, time.monotonic() - start))
    places.append(_place(arrays))
  print(f"{'split':<16} {'images':>9}  {'shape':<12} classes       MB  seconds")
  print("\n".join([*rows, *dict.fromkeys(places)]))
  words = [f"{key}={value!r}" for key, value in given.items()]
  print(f"config.dataset = dict({', '.join([f'name={dataset!r}', *words])})")


def _row(split: str, arrays: "data.Arrays", seconds: float) -> str:
  shape = "x".join(map(str, arrays.images.shape[1:]))
  megabytes = arrays.images.nbytes / 1e6
  return (
    f"{split:<16} {len(arrays.images):>9,}  {shape:<12} "
    f"{arrays.num_classes or '-':>7} {megabytes:>8,.1f}  {seconds:>7.1f}"
  )


def _place(arrays: "data.Arrays") -> str:
  filename = getattr(arrays.images, "filename", None)
  if filename is None:
    return "made anew at each start: nothing to cache"
  return f"cached in {pathlib.Path(filename).parent}"
