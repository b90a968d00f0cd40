"""Any folder of images; class sub-folders are its labels.

Accepted are `path/*.png`, `path/<class>/*.png`, `path/train/*.png` with
`path/test/*.png`, and `path/train/<class>/*.png` with `path/test/<class>/...`.
"""

import hashlib
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ganjax import data, errors
from ganjax.data import cache, sources

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_SPLITS = ("train", "test")


class File(NamedTuple):
  """An image: its path relative to the folder, and its class or ""."""

  path: str
  label: str


def source(
  split: str = "train",
  path: str = "",
  size: int = 32,
  channels: int = 3,
  test_fraction: float = 0.1,
) -> "Files":
  """Returns the images of `load` for a stream: decoded when wanted, not kept.

  Where none is corrupt the examples are those of `load`, in their order; a
  corrupt one keeps its number here.

  Args:
    split: this and what follows is as in `load`.
    path: the folder.
    size: height and width in pixels.
    channels: 3 or 1.
    test_fraction: share of the test split.

  Raises:
    UserError: as `load`.
  """
  folder, files, classes = _listing(split, path, size, channels, test_fraction)
  return Files(folder, files, classes, image_shape=(size, size, channels))


@data.register(name="folder", source=source)
def load(
  split: str = "train",
  path: str = "",
  size: int = 32,
  channels: int = 3,
  test_fraction: float = 0.1,
) -> data.Arrays:
  """Loads a folder of images: cropped to the central square, then resized.

  The arrays are cached until a file's name, size or time changes. A corrupt
  image is skipped with a warning; more than 1 in 100 (or 3) are an error.
  Of an animation the first frame counts; what is transparent becomes white.

  Args:
    split: "train", "test", or "all" for both.
    path: the folder. With sub-folders `train` and `test` these are the splits;
      otherwise a hash of each file's name decides on its split.
    size: height and width in pixels, at least 1.
    channels: 3 (RGB) or 1 (grey).
    test_fraction: share of the test split where there are no such sub-folders.

  Returns:
    uint8 images `[N, size, size, channels]` in [0, 255], and int32 labels
    `[N]` in the sorted order of the class sub-folders' names, or None if there
    are none.

  Raises:
    UserError: a value is out of range, or the folder does not hold images.
  """
  folder, files, classes = _listing(split, path, size, channels, test_fraction)

  def make(allocate: cache.Allocate) -> data.Arrays:
    images = allocate((len(files), size, size, channels))
    return _decode(folder, files, classes, images)

  key: cache.Key = {
    "dataset": "folder",
    "name": folder.name,
    "split": split,
    "size": size,
    "channels": channels,
    "files": _fingerprint(folder, files),
    "classes": classes,
  }
  return cache.cached(key, make)


class Files:
  """A `sources.Source` of the images of a folder."""

  dtype = np.dtype(np.uint8)

  def __init__(
    self,
    folder: pathlib.Path,
    files: list[File],
    classes: list[str],
    image_shape: tuple[int, ...],
  ):
    """Keeps the names of `files`; nothing is read yet."""
    self.folder = folder
    self.files = files
    self.classes = classes
    self.image_shape = image_shape
    self.num_classes = len(classes)

  def __len__(self) -> int:
    """Returns how many files there are."""
    return len(self.files)

  def __getitem__(self, i: int) -> tuple[np.ndarray, int | None]:
    """Decodes an image; a file that Pillow cannot read is `Corrupt`."""
    file = self.files[i]
    try:
      image = _image(self.folder / file.path, self.image_shape)
    except Exception as error:
      # The machine's failure is not the file's: another example in its place
      # would make this run differ from the next one.
      if isinstance(error, MemoryError) or getattr(error, "errno", None):
        raise
      reason = " ".join(str(error).split())
      path = _shown(self.folder / file.path)
      raise sources.Corrupt(f"{path} ({reason})") from error
    if not self.classes:
      return image, None
    return image, self.classes.index(file.label)


def _listing(
  split: str, path: str, size: int, channels: int, test_fraction: float
) -> tuple[pathlib.Path, list[File], list[str]]:
  """Returns the folder, the files of the split, and all classes' names."""
  if split not in (*_SPLITS, "all"):
    raise errors.unknown("split", split, (*_SPLITS, "all"))
  if size < 1:
    raise errors.UserError(f"folder: size is {size}, it must be at least 1")
  if channels not in (1, 3):
    raise errors.UserError(f"folder: channels is {channels}, it must be 1 or 3")
  if not 0 < test_fraction < 1:
    raise errors.UserError(
      f"folder: test_fraction is {test_fraction}, it must be between 0 and 1"
    )
  if not path:
    raise errors.UserError("folder: path is empty, set it to a folder")
  folder = pathlib.Path(path).expanduser().resolve()
  if not folder.is_dir():
    raise errors.UserError(f"folder: {_shown(folder)} is not a folder")
  files, classes = _files(folder, split, test_fraction)
  return folder, files, classes


def _files(
  folder: pathlib.Path, split: str, test_fraction: float
) -> tuple[list[File], list[str]]:
  """Returns the files of the split, sorted, and the names of all classes."""
  named = [name for name in _SPLITS if (folder / name).is_dir()]
  if named:
    files = {name: sorted(_walk(folder, folder / name)) for name in named}
    advice = f"put them into {_shown(folder / split)}"
  else:
    files = {"train": [], "test": []}
    for file in sorted(_walk(folder, folder)):
      is_test = _uniform(file.path) < test_fraction
      files["test" if is_test else "train"].append(file)
    advice = "add more, or change test_fraction"
  files["all"] = [file for part in files.values() for file in part]
  classes = _classes(folder, files["all"])
  if not files.get(split):
    raise errors.UserError(
      f"folder: no images for the {split} split in {_shown(folder)}: {advice}"
    )
  return files[split], classes


def _walk(folder: pathlib.Path, top: pathlib.Path) -> Iterator[File]:
  """Yields the images below `top`, which is `folder` or inside it."""
  for place, folders, names in os.walk(top):
    # In place: `os.walk` goes into what is left here.
    folders[:] = [name for name in folders if not name.startswith(".")]
    for name in names:
      path = pathlib.Path(place, name)
      if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
        continue
      # A link may lead anywhere on the machine: only those inside count.
      if path.is_file() and path.resolve().is_relative_to(folder):
        parts = path.relative_to(top).parts
        label = parts[0] if len(parts) > 1 else ""
        yield File(path.relative_to(folder).as_posix(), label)


def _classes(folder: pathlib.Path, files: list[File]) -> list[str]:
  """Returns the sorted names of the class sub-folders; empty without any."""
  classes = sorted({file.label for file in files})
  if not classes:
    raise errors.UserError(
      f"folder: no images in {_shown(folder)}: it needs files that end in "
      f"{' '.join(SUFFIXES)} (links that lead out of it do not count)"
    )
  if "" in classes and len(classes) > 1:
    raise errors.UserError(
      f"folder: {_shown(folder)} has images both inside and beside class "
      "sub-folders: move all into such sub-folders, or all out of them"
    )
  return [name for name in classes if name]


def _shown(path: pathlib.Path) -> str:
  """Returns a path for a message: one line, whatever its bytes are."""
  text = str(path)
  return text if text.isprintable() else repr(text)


def _uniform(name: str) -> float:
  """Returns a number in [0, 1) that depends on nothing but `name`."""
  short = hashlib.sha256(os.fsencode(name)).digest()[:6]
  return int.from_bytes(short, "big") / 2**48


def _fingerprint(folder: pathlib.Path, files: list[File]) -> str:
  """Returns a digest of the names, sizes and times of files."""
  sha = hashlib.sha256(os.fsencode(folder))
  for file in files:
    stat = (folder / file.path).stat()
    line = f"\n{file.path}\t{stat.st_size}\t{stat.st_mtime_ns}"
    sha.update(os.fsencode(line))
  return sha.hexdigest()[:16]


def _decode(
  folder: pathlib.Path,
  files: list[File],
  classes: list[str],
  images: np.ndarray,
) -> data.Arrays:
  """Decodes `files` into uint8 `images` `[N, size, size, channels]`."""
  kept: list[File] = []
  corrupt: list[str] = []
  too_many = max(3, len(files) // 100) + 1
  for file in cache.track(files, len(files), f"reading {folder.name}"):
    try:
      images[len(kept)] = _image(folder / file.path, images.shape[1:])
      kept.append(file)
    except Exception as error:  # Pillow raises anything on a corrupt file.
      reason = " ".join(str(error).split())
      corrupt.append(f"{_shown(folder / file.path)} ({reason})")
      if len(corrupt) >= too_many:
        break
  if corrupt:
    told = f"{len(corrupt)} of {len(files)} images cannot be read, the first: "
    if not kept or len(corrupt) >= too_many:
      raise errors.UserError(
        f"folder: at least {told}{corrupt[0]}: mend or remove them"
      )
    warnings.warn(f"skipped: {told}{corrupt[0]}", stacklevel=2)
    images = images[: len(kept)]
  if not classes:
    return data.Arrays(images)
  labels = np.array([classes.index(file.label) for file in kept], np.int32)
  return data.Arrays(images, labels, len(classes))


def _image(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the image in `path` as uint8 of `shape` `[size, size, channels]`.

  Raises:
    Exception: of any kind that Pillow has for a corrupt or oversized file.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with Image.open(path, formats=FORMATS) as opened:
      image = ImageOps.exif_transpose(opened)
  if image.mode.startswith("I"):  # 16 bits, which `convert` would clip.
    scaled = np.rint(np.asarray(image) / 257)
    image = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
  elif image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  image = image.convert("RGB" if shape[-1] == 3 else "L")
  image = ImageOps.fit(image, (shape[1], shape[0]), Image.Resampling.LANCZOS)
  return np.asarray(image).reshape(shape)
