"""The Toronto Face Database (Susskind et al. 2010), from its MATLAB file.

Grey faces of 48x48 pixels, most without a label, some with one of seven
expressions. It is not public: its pictures belong to eight other collections,
each with a licence of its own. `TFD_48x48.mat` holds `images [N, 48, 48]`,
`labs_ex [N]`, the expressions from 1 on, and `folds [N, 5]`, which says for
each of five official folds what an image is for: 0 unlabelled, 1 training,
2 validation, 3 test.
"""

import hashlib
import os
import pathlib
from typing import Any

import numpy as np

from ganjax import data, errors
from ganjax.data import cache

# What a fold uses an image for -> how the file says it.
SETS = {"unlabeled": 0, "labeled": 1, "validation": 2, "test": 3}
NUM_CLASSES = 7
SIZES = (48, 96)
NUM_FOLDS = 5

_ASK = (
  "the Toronto Face Database is not public, ask Joshua Susskind (University "
  "of Toronto, UTML TR 2010-001) for it"
)


@data.register(name="tfd")
def load(
  split: str = "train",
  path: str = "",
  fold: int = 0,
  size: int = 48,
  train_split: str = "unlabeled",
  validation_split: str = "validation",
) -> data.Arrays:
  """Loads a split of TFD; it is cached until the file's size or time changes.

  Args:
    split: "train", "validation", "test", or sets of the fold by their names:
      "unlabeled", "labeled" (those to train on), "validation" and "test",
      several with a + between them.
    path: the folder with `TFD_48x48.mat`.
    fold: of the official five, 0 to 4.
    size: height and width in pixels: 48, or 96 for `TFD_96x96.mat`.
    train_split: the sets that "train" stands for: Goodfellow et al. 2014
      trained on the unlabelled images alone.
    validation_split: the sets that "validation" stands for.

  Returns:
    uint8 images `[N, size, size, 1]` in [0, 255] in the file's order; int32
    labels `[N]` in [0, 7), the expressions, or None where there are unlabelled
    images among them.

  Raises:
    UserError: there is no such split or file, or the file is not TFD's.
  """
  meant = dict(train=train_split, validation=validation_split)
  sets = [_find(name) for name in meant.get(split, split).split("+")]
  if not 0 <= fold < NUM_FOLDS:
    raise errors.UserError(f"tfd: fold is {fold}, it must be from 0 to 4")
  if size not in SIZES:
    raise errors.UserError(f"tfd: size is {size}, it must be 48 or 96")
  if not path:
    raise errors.UserError(
      f"tfd: path is empty, set it to the folder with TFD_{size}x{size}.mat; "
      f"{_ASK}"
    )
  file = pathlib.Path(path).expanduser().resolve() / f"TFD_{size}x{size}.mat"
  if not file.is_file():
    raise errors.UserError(f"tfd: there is no {file}: {_ASK}")
  stat = file.stat()
  facts = f"{stat.st_size}\t{stat.st_mtime_ns}\t".encode() + os.fsencode(file)

  def make(allocate: cache.Allocate) -> data.Arrays:
    del allocate  # The file is read as a whole, and is small.
    return _select(file, sets, fold, size)

  key: cache.Key = {
    "dataset": "tfd",
    "sets": "+".join(sorted(set(sets))),
    "fold": fold,
    "size": size,
    "file": hashlib.sha256(facts).hexdigest()[:16],
  }
  return cache.cached(key, make)


def _find(name: str) -> str:
  """Returns the name of a set without the blanks around it."""
  name = name.strip()
  if name not in SETS:
    raise errors.unknown("split of tfd", name, ("train", *SETS))
  return name


def _select(
  file: pathlib.Path, sets: list[str], fold: int, size: int
) -> data.Arrays:
  """Returns the images of `sets` in a fold, with their labels."""
  images, folds, labels = _read(file, size)
  chosen = np.isin(folds[:, fold], [SETS[name] for name in sets])
  if not chosen.any():
    raise errors.UserError(
      f"tfd: {file} has no {' or '.join(sets)} images in fold {fold}"
    )
  images = images[chosen][..., None]
  labels = labels[chosen]
  if "unlabeled" in sets:
    return data.Arrays(images)
  if not np.isin(labels, np.arange(1, NUM_CLASSES + 1)).all():
    raise errors.UserError(
      f"tfd: {file} is damaged: expressions in labs_ex must be from 1 to "
      f"{NUM_CLASSES}"
    )
  return data.Arrays(images, (labels - 1).astype(np.int32), NUM_CLASSES)


def _read(
  file: pathlib.Path, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns images `[N, size, size]`, folds `[N, 5]` and expressions `[N]`."""
  from scipy import io

  names = ("images", "folds", "labs_ex")
  try:
    found: dict[str, Any] = io.loadmat(str(file), variable_names=names)
  except Exception as error:  # On damaged bytes SciPy raises almost anything.
    reason = " ".join(str(error).split())
    raise errors.UserError(
      f"tfd: {file} cannot be read ({reason}): copy it anew"
    ) from error
  for name in names:
    if getattr(found.get(name), "dtype", np.dtype(object)).kind not in "uif":
      raise errors.UserError(f"tfd: {file} holds no array {name!r} of numbers")
  images = found["images"]
  folds = found["folds"]
  labels = found["labs_ex"].reshape(-1)  # MATLAB has no one axis alone.
  num = len(images)
  for name, array, shape in (
    ("images", images, [num, size, size]),
    ("folds", folds, [num, NUM_FOLDS]),
    ("labs_ex", labels, [num]),
  ):
    if list(array.shape) != shape:
      raise errors.UserError(
        f"tfd: {name} in {file} is {list(array.shape)}, it must be {shape}"
      )
  if images.dtype != np.uint8:
    raise errors.UserError(
      f"tfd: images in {file} are {images.dtype}, they must be uint8"
    )
  return images, folds, labels
