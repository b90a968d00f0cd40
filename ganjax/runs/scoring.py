"""What is scored: samples of a run, a folder of images, a file of an array."""

import functools
import hashlib
import inspect
import json
import pathlib
import zipfile
from collections.abc import Callable, Mapping
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

# Raise it when a metric's or an extractor's numbers change.
RECIPE = 2


class Source(NamedTuple):
  """Samples, and how they were made.

  Attributes:
    draw: `(n, seed) -> images`.
    labels: `n -> int [n]`, their classes, or None without.
    digest: of all that `draw` depends on but its arguments and `protocol`.
    protocol: how they are drawn.
    num: how many there are, 0 for any number.
    abilities: of the system, by the names of `metrics.NEEDS`.
  """

  draw: Callable[..., np.ndarray]
  labels: Callable[[int], np.ndarray | None]
  digest: str
  protocol: dict[str, Any]
  num: int = 0
  abilities: Mapping[str, Callable[..., Any]] = MappingProxyType({})


def of_run(run: runs.Run, **how: Any) -> Source:
  """Returns the samples of a run; `how` is that of `Run.sample`."""
  leaves = jax.tree_util.tree_leaves_with_path(run.state)
  digest = cache.digest_of(
    {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
  )
  draw = functools.partial(run.sample, **how)
  abilities = run.sampler.abilities(run.state)
  return Source(
    draw, run.sampler.labels, digest, run.protocol(**how), abilities=abilities
  )


def of_path(path: pathlib.Path, like: np.ndarray) -> Source:
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
    images, labels = arrays.images, arrays.labels
  else:
    images, labels = _read(path)
  if images.dtype == np.float64:
    images = images.astype(np.float32)
  return of_arrays(data.Arrays(images, labels), str(path))


def of_arrays(arrays: data.Arrays, name: str) -> Source:
  """Returns given samples as a source; fewer are always the same choice."""
  total, digest = len(arrays.images), cache.digest(arrays)

  def choose(array: Any, n: int) -> Any:
    if array is None or n == total:
      return array
    return array[np.sort(np.random.RandomState(0).permutation(total)[:n])]

  def draw(n, seed):
    del seed
    if n > total:
      raise errors.UserError(f"{name} holds {total} samples, not {n}")
    return choose(arrays.images, n)

  labels = functools.partial(choose, arrays.labels)
  return Source(draw, labels, digest, {"samples": digest}, total)


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
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
  images = labels = None
  for key in ("images", "samples", "arr_0"):
    images = arrays.get(key) if images is None else images
  for key in ("labels", "arr_1"):
    labels = arrays.get(key) if labels is None else labels
  if images is None:
    raise errors.UserError(
      f'{path} holds {", ".join(arrays) or "nothing"}, no "images"'
    )
  fits = images.dtype == np.uint8 and images.ndim == 4
  fits |= images.dtype.kind == "f" and images.ndim == 2
  if not fits:
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


def score(
  evaluator: "evaluate.Evaluator",
  source: Source,
  specs: Mapping[str, Mapping[str, Any]],
  folder: pathlib.Path,
) -> dict[str, metrics.Record]:
  """Returns each metric of a source's samples, with its whole protocol.

  Args:
    evaluator: that compares them.
    source: what to score.
    specs: as those of `Evaluator.score`; 0 samples for all, of a run for as
      many as the held-out split has.
    folder: keeps scores, to be found again by all that they depend on.

  Raises:
    UserError: there are fewer samples than asked for, or what a metric refuses.
  """
  paths, records, missing = {}, {}, {}
  for name, spec in specs.items():
    num = spec["num_samples"] or source.num or len(evaluator.test.images)
    spec = {k: v for k, v in spec.items() if k != "every"} | {
      "num_samples": num
    }
    paths[name] = folder / "evaluations" / _file(evaluator, source, name, spec)
    if (found := _found(paths[name])) is None:
      missing[name] = spec
    else:
      records[name] = found
  for name, record in evaluator.score(
    missing, source.draw, source.labels, source.abilities
  ).items():
    record.protocol.update(source.protocol)
    paths[name].parent.mkdir(parents=True, exist_ok=True)
    files.write_json(paths[name], record.to_dict())
    records[name] = record
  return {name: records[name] for name in specs}


def _file(evaluator, source: Source, name: str, spec) -> str:
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
  return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def noise(like: np.ndarray) -> np.ndarray:
  """Returns uniform noise of the shape and type of `like`, always the same."""
  rng = np.random.RandomState(0)
  if like.dtype == np.uint8:
    return rng.randint(0, 256, like.shape).astype(np.uint8)
  return rng.uniform(-1, 1, like.shape).astype(like.dtype)


def _found(path: pathlib.Path) -> metrics.Record | None:
  try:
    return metrics.Record.from_dict(json.loads(path.read_text()))
  except Exception:  # No text, no JSON, or other JSON.
    return None


def anchors(
  evaluator: "evaluate.Evaluator",
  specs: Mapping[str, Mapping[str, Any]],
  folder: pathlib.Path,
) -> dict[str, dict[str, metrics.Record]]:
  """Returns the scores of held-out reals and of noise.

  A distance says something only on a scale. Left out is what would be compared
  with itself, or needs labels that noise has not.
  """
  if evaluator.against == "test":
    return {}
  test = evaluator.test
  plain = {
    name: {**spec, "num_samples": 0}
    for name, spec in specs.items()
    if not metrics.needs(name)
    and not {"held_out", "fake_labels"}
    & inspect.signature(metrics.find(name)).parameters.keys()
  }
  rows = {
    "held-out real": of_arrays(test, "the held-out split"),
    "noise": of_arrays(data.Arrays(noise(test.images)), "noise"),
  }
  return {who: score(evaluator, x, plain, folder) for who, x in rows.items()}


def evaluator_of(
  config: Any,
  train: data.Arrays | None = None,
  extractor: Mapping[str, Any] | None = None,
  against: str = "train",
) -> "evaluate.Evaluator":
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
  return evaluate.Evaluator(
    spec.get("builder", pathlib.PurePath(spec["name"]).name),
    configs.load_data(config, "train") if train is None else train,
    configs.load_data(config, "test"),
    validation,
    extractor or config.extractor.to_dict(),
    against,
  )


def dataset(text: str) -> tuple[dict[str, Any], str]:
  """Returns the spec and the split of "NAME[:SPLIT]", by default "train".

  NAME is a dataset of ganjax (digits), a folder, or a TFDS name (cifar10).
  """
  name, _, split = text.partition(":")
  if pathlib.Path(name).is_dir():
    return dict(name="folder", path=name), split or "train"
  own = set(data.names()) - {"tfds", "folder"}
  spec = dict(name=name) if name in own else dict(name="tfds", builder=name)
  return spec, split or "train"
