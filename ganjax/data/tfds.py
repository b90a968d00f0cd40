"""Any image dataset of TensorFlow Datasets, by its TFDS name.

TensorFlow is needed once, to prepare a dataset that is not in the data_dir
yet; TFDS once, to copy it into ganjax's cache; later loads need neither.
"""

import contextlib
import difflib
import importlib.util
import os
import pathlib
import queue
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging
from PIL import Image, ImageOps

from ganjax import data, errors
from ganjax.data import cache, sources

_DEFAULT_DIR = "~/tensorflow_datasets"  # That of TFDS.
_INSTALL = "pip install -e '.[tfds]'"


def source(
  split: str = "train",
  builder: str = "cifar10",
  data_dir: str = "",
  size: int = 0,
  train_split: str = "train",
  test_split: str = "test",
  validation_split: str = "",
) -> "Records":
  """Returns the examples of `load` for a stream: read when wanted, not kept.

  Takes what `load` takes, and raises what it raises.
  """
  named = dict(train=train_split, test=test_split, validation=validation_split)
  split, directory = _place(split, named, data_dir, size)
  with _quiet():
    prepared, shape, num_classes = _open(builder, directory, size)
    examples, _ = _examples(builder, prepared, split)
  if not isinstance(examples, Sequence):
    raise errors.UserError(
      f"tfds: {builder} in {prepared.data_path} is in a format that cannot be "
      "streamed: set data_dir to another folder to prepare it as array_record"
    )
  name = f"{split} of {builder}"
  return Records(
    name, examples, image_shape=shape, num_classes=num_classes, size=size
  )


@data.register(name="tfds", source=source)
def load(
  split: str = "train",
  builder: str = "cifar10",
  data_dir: str = "",
  size: int = 0,
  train_split: str = "train",
  test_split: str = "test",
  validation_split: str = "",
) -> data.Arrays:
  """Loads a dataset from the cache, else from TFDS, which may download it.

  Args:
    split: "train", "test", "validation", or as TFDS writes it: "test[:9]".
    builder: the TFDS name: "mnist", "cifar10", "downsampled_imagenet/64x64".
    data_dir: that of TFDS; "" is `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
    size: if not 0, the central square is resized to so many pixels a side.
    train_split: the TFDS split that "train" stands for.
    test_split: the TFDS split that "test" stands for.
    validation_split: the one that "validation" stands for; "" if none does.

  Returns:
    uint8 images `[N, H, W, C]` in [0, 255], memory-mapped, and int32 labels
    `[N]`, or None where the dataset has no feature "label".

  Raises:
    UserError: no such dataset or split; it holds no images of one shape; or it
      is not prepared, and TensorFlow, the network or files are missing.
  """
  named = dict(train=train_split, test=test_split, validation=validation_split)
  split, directory = _place(split, named, data_dir, size)

  def make(allocate: cache.Allocate) -> data.Arrays:
    return _copy(builder, directory, split, size, allocate)

  key: cache.Key = {
    "dataset": "tfds",
    "builder": builder,
    "split": split,
    "size": size,
    # A cache of the default location may be copied to another machine.
    "data_dir": "" if directory == _directory(_DEFAULT_DIR) else str(directory),
  }
  return cache.cached(key, make)


class Records:
  """A `sources.Source` of the examples of a TFDS split."""

  dtype = np.dtype(np.uint8)

  def __init__(
    self,
    name: str,
    examples: Sequence[dict[str, Any]],
    image_shape: tuple[int, ...],
    num_classes: int,
    size: int,
  ):
    """Keeps `examples`, by number as TFDS decodes them; none is read yet.

    Args:
      name: for messages.
      examples: dicts of "image" and, where there are classes, "label".
      image_shape: `(H, W, C)` after resizing.
      num_classes: of the labels, 0 without.
      size: as in `load`.
    """
    self.name = name
    self.examples = examples
    self.image_shape = image_shape
    self.num_classes = num_classes
    self.size = size

  def __len__(self) -> int:
    """Returns how many examples there are."""
    return len(self.examples)

  def __getitem__(self, i: int) -> tuple[np.ndarray, int | None]:
    """Reads an example; one that TFDS cannot decode is `Corrupt`."""
    try:
      example = self.examples[i]
      image = _resize(example["image"], self.size)
      label = int(example["label"]) if self.num_classes else None
    except Exception as error:
      # As in a folder: the machine's failure is not the record's.
      if isinstance(error, MemoryError) or getattr(error, "errno", None):
        raise
      reason = " ".join(str(error).split())[:300]
      raise sources.Corrupt(f"{self.name}, record {i} ({reason})") from error
    if label is not None and label < 0:
      raise errors.UserError(
        f"tfds: the labels of {self.name} are hidden: it cannot be streamed"
      )
    return image, label


def _place(
  split: str, named: dict[str, str], data_dir: str, size: int
) -> tuple[str, pathlib.Path]:
  """Returns the split's name in TFDS, and where the dataset is."""
  if size < 0:
    raise errors.UserError(f"tfds: size is {size}, it must be at least 0")
  split = named.get(split, split)
  if not split:
    raise errors.UserError(
      "tfds: nothing is set aside for validation: set validation_split"
    )
  return split, _directory(data_dir)


def reachable(urls: Iterable[str], seconds: float = 5.0) -> bool:
  """Returns whether any host of `urls` answers, proxies included."""
  parts = [urllib.parse.urlsplit(url) for url in urls]
  hosts = sorted({(p.scheme, p.netloc) for p in parts if "http" in p.scheme})
  hosts = hosts[:8] or [("https", "storage.googleapis.com")]
  answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

  def ask(scheme: str, host: str) -> None:
    answers.put(_answers(f"{scheme}://{host}/", seconds))

  # Looking up a name has no timeout of its own, hence threads left behind.
  for host in hosts:
    threading.Thread(target=ask, args=host, daemon=True).start()
  end = time.monotonic() + seconds
  with contextlib.suppress(queue.Empty):
    for _ in hosts:
      if answers.get(timeout=max(0.0, end - time.monotonic())):
        return True
  return False


def _answers(url: str, seconds: float) -> bool:
  """Returns whether a server answers, with whatever it has to say."""
  request = urllib.request.Request(url, method="HEAD")
  try:
    urllib.request.urlopen(request, timeout=seconds).close()
  except urllib.error.HTTPError as error:
    return error.code < 500  # Above are the errors of a proxy.
  except urllib.error.URLError as error:
    return isinstance(error.reason, ssl.SSLError)  # Someone did answer.
  except (OSError, ValueError):
    return False
  return True


def _directory(data_dir: str) -> pathlib.Path:
  """Returns where TFDS keeps its datasets; "" is its own choice."""
  chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or _DEFAULT_DIR
  return pathlib.Path(chosen).expanduser().absolute()


def _copy(
  name: str,
  directory: pathlib.Path,
  split: str,
  size: int,
  allocate: cache.Allocate,
) -> data.Arrays:
  """Copies a split out of TFDS into an array that `allocate` makes."""
  with _quiet():
    builder, shape, num_classes = _open(name, directory, size)
    examples, count = _examples(name, builder, split)
    images = allocate((count, *shape))
    labels = np.zeros(count, np.int32)
    i = 0
    try:
      rows = cache.track(examples, count, f"reading {name}")
      for i, example in enumerate(rows):
        images[i] = _resize(example["image"], size)
        if num_classes:
          labels[i] = example["label"]
    except Exception as error:  # TFDS and its decoders raise anything.
      raise errors.UserError(
        f"tfds: {split} of {name} cannot be read at example {i} "
        f"({_one_line(error)}): remove {builder.data_path}, prepare it again"
      ) from error
  # In some test splits the labels are hidden: all of them are -1.
  if not num_classes or labels.min() < 0:
    return data.Arrays(images)
  return data.Arrays(images, labels, num_classes)


def _open(
  name: str, directory: pathlib.Path, size: int
) -> tuple[Any, tuple[int, ...], int]:
  """Returns a builder whose files are there, image shape, and classes."""
  builder = _builder(name, directory)
  shape = _image_shape(name, builder, size)
  if not builder.is_prepared():
    _prepare(name, builder, directory)
  return builder, shape, _num_classes(builder)


def _image_shape(name: str, builder: Any, size: int) -> tuple[int, ...]:
  """Returns `(H, W, C)` of the images as they will be cached."""
  import tensorflow_datasets as tfds

  features = dict(builder.info.features.items())
  image = features.get("image")
  if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
    raise errors.UserError(
      f"tfds: {name} is not a dataset of 8-bit images under the name 'image'; "
      f"its examples have {', '.join(sorted(features))}"
    )
  shape: Any = image.shape
  height, width, channels = shape
  if channels is None or (not size and None in (height, width)):
    raise errors.UserError(
      f"tfds: the images of {name} differ in shape, {shape}: "
      + ("set size, e.g. size=64" if channels else "their channels are unknown")
    )
  return (size or height, size or width, channels)


def _num_classes(builder: Any) -> int:
  """Returns how many classes the feature "label" has; 0 where it has none."""
  import tensorflow_datasets as tfds

  label = dict(builder.info.features.items()).get("label")
  is_class = isinstance(label, tfds.features.ClassLabel)
  return int(label.num_classes or 0) if is_class else 0


def _resize(image: np.ndarray, size: int) -> np.ndarray:
  """Crops `[H, W, C]` to its central square and resizes it to `size`."""
  if size == 0 or image.shape[:2] == (size, size):
    return image
  channels = image.shape[-1]
  picture = Image.fromarray(image[..., 0] if channels == 1 else image)
  picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
  return np.asarray(picture).reshape(size, size, channels)


def _builder(name: str, directory: pathlib.Path) -> Any:
  """Returns the TFDS builder; reads its code or files, downloads nothing."""
  import tensorflow_datasets as tfds

  try:
    return tfds.builder(name, data_dir=str(directory))
  except tfds.core.DatasetNotFoundError as error:
    known = tfds.list_builders(with_community_datasets=False)
    plain = name.split(":")[0].split("/")[0]
    near = difflib.get_close_matches(plain, known, n=8, cutoff=0.3)
    raise errors.UserError(
      f"{errors.unknown('TFDS dataset', name, near)} ({len(known)} in all: "
      "https://www.tensorflow.org/datasets/catalog)"
    ) from error
  except Exception as error:  # TFDS raises anything on a wrong config.
    raise errors.UserError(f"tfds: {_one_line(error)}") from error


def _prepare(name: str, builder: Any, directory: pathlib.Path) -> None:
  """Downloads and prepares a dataset, or soon says what is missing."""
  import tensorflow_datasets as tfds

  where = f"tfds: {name} is not prepared in {directory}"
  if importlib.util.find_spec("tensorflow") is None:
    raise errors.UserError(
      f"{where}, and preparing it needs TensorFlow, once: {_INSTALL}"
    )
  manual = directory / "downloads" / "manual"
  placed = {path.name for path in manual.glob("*")}
  urls = dict(builder.url_infos or {})
  missing = {u: i for u, i in urls.items() if i.filename not in placed}
  if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    if not placed:
      raise errors.UserError(
        f"{where}, and only you may download it: place its files in {manual}: "
        f"{_one_line(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)}"
      )
  # TFDS by itself tries for more than three minutes.
  elif (missing or not urls) and not reachable(missing):
    default = directory == _directory(_DEFAULT_DIR)
    given = "" if default else f" --data_dir {directory}"
    names = [i.filename for i in missing.values() if i.filename]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    place = f", or place {', '.join(names[:4])}{more} in {manual}"
    raise errors.UserError(
      f"{where}, and its server cannot be reached: where there is a network, "
      f"run `ganjax prepare {name}{given}` and copy "
      f"{directory / builder.name} here{place if names else ''}"
    )
  try:
    builder.download_and_prepare(
      file_format="array_record",
      download_dir=str(directory / "downloads"),
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
  except Exception as error:  # TFDS raises anything.
    raise errors.UserError(
      f"tfds: preparing {name} failed: {_one_line(error)}"
    ) from error


def _examples(
  name: str, builder: Any, split: str
) -> tuple[Iterable[dict[str, Any]], int]:
  """Returns the examples of a split, in the order on disk, and their number."""
  import tensorflow_datasets as tfds

  try:
    count = builder.info.splits[split].num_examples
  except (KeyError, ValueError) as error:
    raise errors.UserError(
      f"tfds: {name} has no split {split!r}, it has "
      f"{', '.join(builder.info.splits)}; train_split and test_split may be a "
      "part of one, such as 'train[:90%]'"
    ) from error
  if not count:
    raise errors.UserError(f"tfds: the split {split!r} of {name} is empty")
  formats = {file.value for file in builder.info.available_file_formats()}
  if formats & {"array_record", "parquet"}:
    return builder.as_data_source(split=split), count
  if importlib.util.find_spec("tensorflow") is None:
    raise errors.UserError(
      f"tfds: {name} in {builder.data_path} is in the format "
      f"{' '.join(sorted(formats))}, which needs TensorFlow, once: {_INSTALL}"
    )
  # TFDS would otherwise interleave the files.
  config = tfds.ReadConfig(interleave_cycle_length=1)
  examples = builder.as_dataset(split=split, read_config=config)
  return tfds.as_numpy(examples), count


def _one_line(text: object) -> str:
  """Returns a text as one line of at most 300 characters."""
  words = " ".join(str(text).split())
  return words if len(words) <= 300 else words[:297] + "..."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Silences what TFDS warns of at every start: it hides our one line."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(verbosity)
