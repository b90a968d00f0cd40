"""What is scored: samples of a run, a folder of images, a file of an array.

A score is kept in a file whose name is the digest of all that it depends on:
what was computed once is found again, and what changed is computed anew.
"""

import hashlib
import inspect
import json
import pathlib
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from ganjax import data, errors, files
from ganjax.data import cache, folder, npz
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import metrics
from ganjax.runs import configs
from ganjax.runs import run as runs

# Part of each score's digest. Raise it when a metric's or an extractor's
# numbers change, so that older ones are not found any more.
RECIPE = 2

# The names that arrays have in an .npz: ours, those of other codebases, and
# what NumPy calls arrays that were given no name.
IMAGE_KEYS = ("images", "samples", "arr_0")
LABEL_KEYS = ("labels", "arr_1")


class SampleSource(NamedTuple):
  """Where samples come from, and how they are made.

  Attributes:
    draw: `(n, seed) -> images`.
    labels: `n -> int [n]`, the classes of n samples, or None without labels.
    digest: of all that samples depend on, beside `protocol`, n and the seed.
    protocol: how samples are drawn.
    num: how many samples there are, 0 for any number.
    abilities: name -> `(images, labels, **how)`: what the system that makes
      the samples can do with images, for metrics that need it.
  """

  draw: Callable[..., np.ndarray]
  labels: Callable[[int], np.ndarray | None]
  digest: str
  protocol: dict[str, Any]
  num: int = 0
  abilities: Mapping[str, Callable[..., Any]] = MappingProxyType({})


def of_run(run: runs.Run, **how: Any) -> SampleSource:
  """Returns the samples of a run.

  Args:
    run: that makes them.
    **how: that of `Run.sample`, for all of them.
  """

  def draw(n: int, seed: int) -> np.ndarray:
    return run.sample(n, seed=seed, **how)

  leaves = jax.tree_util.tree_leaves_with_path(run.state)
  digest = cache.digest_of(
    {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
  )
  return SampleSource(
    draw=draw,
    labels=run.sampler.labels,
    digest=digest,
    protocol=run.protocol(**how),
    abilities=run.sampler.abilities(run.state),
  )


def of_path(path: pathlib.Path, like: np.ndarray) -> SampleSource:
  """Returns the samples in a folder of images, or in an .npz or .npy file.

  Args:
    path: a folder as `data.folder` takes it, images of another size than the
      dataset's being cropped and resized; an .npz whose array is "images",
      "samples" or "arr_0", with "labels" or "arr_1" if there are some; or an
      .npy. Arrays are uint8 `[N, H, W, C]`, or float32 points `[N, 2]`.
    like: images of the dataset, for size and channels.

  Raises:
    UserError: there is no such file, or it does not hold such an array.
  """
  if path.is_dir():
    if like.ndim != 4:
      raise errors.UserError(f"{path} holds images, the dataset holds points")
    arrays = folder.load("all", str(path), like.shape[1], like.shape[3])
  else:
    images, labels = _read(path)
    if images.dtype == np.float64:
      images = images.astype(np.float32)
    arrays = data.Arrays(images, labels)
  return of_arrays(arrays, str(path))


def of_arrays(arrays: data.Arrays, name: str) -> SampleSource:
  """Returns given samples as a source; fewer are always the same choice.

  Args:
    arrays: all samples, with labels or without.
    name: what errors call them.
  """
  total = len(arrays.images)
  digest = cache.digest(arrays)

  def choose(array: Any, n: int) -> Any:
    if array is None or n == total:
      return array
    # Chosen at random, since a folder of classes begins with one class alone.
    return array[np.sort(np.random.RandomState(0).permutation(total)[:n])]

  def draw(n: int, seed: int) -> np.ndarray:
    del seed  # There is but one set of them.
    if n > total:
      raise errors.UserError(f"{name} holds {total} samples, not {n}")
    return choose(arrays.images, n)

  def labels(n: int) -> np.ndarray | None:
    return choose(arrays.labels, n)

  return SampleSource(
    draw=draw,
    labels=labels,
    digest=digest,
    protocol={"samples": digest},
    num=total,
  )


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns the images and the labels in an .npz or .npy file.

  Raises:
    UserError: there is no such file, or it does not hold such arrays.
  """
  try:
    if zipfile.is_zipfile(path):
      arrays = npz.read(path)
    else:  # Mapped, a .npy that declares more than it holds takes no memory.
      arrays = {"images": np.load(path, mmap_mode="r", allow_pickle=False)}
  except FileNotFoundError as error:
    raise errors.UserError(
      f"{path}: there is no such workdir, folder or file"
    ) from error
  except Exception as error:  # On damaged bytes zipfile raises almost anything.
    reason = " ".join(str(error).split())
    raise errors.UserError(
      f"{path} is no readable .npz or .npy of plain arrays: {reason}"
    ) from error
  images = _first(arrays, IMAGE_KEYS)
  labels = _first(arrays, LABEL_KEYS)
  if images is None:
    raise errors.UserError(
      f'{path} holds {", ".join(arrays) or "nothing"}, no "images"'
    )
  are_images = images.dtype == np.uint8 and images.ndim == 4
  are_points = images.dtype.kind == "f" and images.ndim == 2
  if not (are_images or are_points):
    raise errors.UserError(
      f"{path} holds {images.dtype} {list(images.shape)}: images must be uint8 "
      "[N, H, W, C] in 0 to 255, points float32 [N, 2]"
    )
  if labels is not None and labels.shape != (len(images),):
    raise errors.UserError(
      f"{path}: labels {list(labels.shape)} are not one for each of "
      f"{len(images)} samples"
    )
  return images, labels


def _first(
  arrays: Mapping[str, np.ndarray], names: Sequence[str]
) -> np.ndarray | None:
  """Returns the array of the first name that is there, None if none is."""
  for name in names:
    if name in arrays:
      return arrays[name]
  return None


def score(
  evaluator: evaluate.Evaluator,
  source: SampleSource,
  specs: Mapping[str, Mapping[str, Any]],
  folder: pathlib.Path,
) -> dict[str, metrics.Record]:
  """Returns each metric of a source's samples, with its whole protocol.

  Args:
    evaluator: that compares them.
    source: what to score.
    specs: metric -> its spec, as for `Evaluator.score`; 0 samples stand for
      all that the source has, or of a run for as many as the held-out split.
    folder: where scores are kept, below `evaluations`.

  Raises:
    UserError: there are fewer samples than asked for, or what a metric refuses.
  """
  paths = {}
  records = {}
  missing = {}
  for name, spec in specs.items():
    num = spec["num_samples"] or source.num or len(evaluator.test.images)
    # A score does not depend on when it was due.
    spec = {key: value for key, value in spec.items() if key != "every"}
    spec["num_samples"] = num
    file = _file(evaluator, source, name, spec)
    paths[name] = folder / "evaluations" / file
    found = _found(paths[name])
    if found is None:
      missing[name] = spec
    else:
      records[name] = found
  # All at once: metrics of as many samples share them, and their features.
  fresh = evaluator.score(missing, source.draw, source.labels, source.abilities)
  for name, record in fresh.items():
    record.protocol.update(source.protocol)
    files.write_json(paths[name], record.to_dict())
    records[name] = record
  return {name: records[name] for name in specs}


def _file(
  evaluator: evaluate.Evaluator,
  source: SampleSource,
  name: str,
  spec: Mapping[str, Any],
) -> str:
  """Returns the file of a score: its name says all that it depends on."""
  facts = [
    RECIPE,
    name,
    spec,
    source.digest,
    source.protocol,
    evaluator.protocol(metrics.input_of(name)),
    evaluator.digests,
  ]
  text = json.dumps(facts, sort_keys=True)
  name = re.sub(r"\W+", "-", name)  # Of a user's metric it may be a path.
  return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _found(path: pathlib.Path) -> metrics.Record | None:
  """Returns a kept score; None if there is none, or a damaged one."""
  try:
    return metrics.Record.from_dict(json.loads(path.read_text()))
  except Exception:  # No text, no JSON, or other JSON.
    return None


def noise(like: np.ndarray) -> np.ndarray:
  """Returns uniform noise of the shape and type of `like`, always the same."""
  rng = np.random.RandomState(0)
  if like.dtype == np.uint8:
    return rng.randint(0, 256, like.shape).astype(np.uint8)
  return rng.uniform(-1, 1, like.shape).astype(like.dtype)


def anchors(
  evaluator: evaluate.Evaluator,
  specs: Mapping[str, Mapping[str, Any]],
  folder: pathlib.Path,
) -> dict[str, dict[str, metrics.Record]]:
  """Returns the scores of held-out reals and of noise.

  They are the two ends of a scale, without which a distance says nothing. A
  metric is left out if it would compare the held-out split with itself, needs
  labels that noise has not, or measures an ability of a system.

  Args:
    evaluator: that compares them.
    specs: metric -> its spec; all samples are scored, whatever it says.
    folder: where scores are kept, below `evaluations`.
  """
  if evaluator.against == "test":
    return {}
  plain = {
    name: {**spec, "num_samples": 0}
    for name, spec in specs.items()
    if _has_anchors(name)
  }
  test = evaluator.test
  rows = {
    "held-out real": of_arrays(test, "the held-out split"),
    "noise": of_arrays(data.Arrays(noise(test.images)), "noise"),
  }
  return {
    who: score(evaluator, source, plain, folder) for who, source in rows.items()
  }


def _has_anchors(name: str) -> bool:
  """Returns whether a metric has something to say of reals and of noise."""
  parameters = inspect.signature(metrics.find(name)).parameters
  unfit = {"held_out", "fake_labels"} & parameters.keys()
  return not unfit and not metrics.needs(name)


def evaluator_of(
  config: configs.Config,
  train: data.Arrays | None = None,
  extractor: Mapping[str, Any] | None = None,
  against: str = "train",
) -> evaluate.Evaluator:
  """Returns the evaluator of a run's config.

  Args:
    config: resolved.
    train: its training split, if it is loaded already.
    extractor: another one than the config's.
    against: the split that samples are compared with.

  Raises:
    UserError: the dataset has no such split.
  """
  spec = config.dataset.to_dict()
  validation = None
  if spec.get("validation_split") or against == "validation":
    validation = configs.load_data(config, "validation")
  if train is None:
    train = configs.load_data(config, "train")
  return evaluate.Evaluator(
    name=spec.get("builder", pathlib.PurePath(spec["name"]).name),
    train=train,
    test=configs.load_data(config, "test"),
    validation=validation,
    extractor=extractor or config.extractor.to_dict(),
    against=against,
  )


def dataset(text: str) -> tuple[dict[str, Any], str]:
  """Returns the spec and the split of "NAME[:SPLIT]", by default "train".

  NAME is a dataset of ganjax (digits), a folder, or a TFDS name (cifar10).
  """
  name, _, split = text.partition(":")
  split = split or "train"
  if pathlib.Path(name).is_dir():
    return {"name": "folder", "path": name}, split
  own = set(data.names()) - {"tfds", "folder"}
  if name in own:
    return {"name": name}, split
  return {"name": "tfds", "builder": name}, split
