"""Scores of samples against a dataset, each with its protocol."""

import collections
import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import extractors, metrics
from ganjax.evaluation.extractors import Features

# Scores and pictures draw from different latents.
SEED = 1

# Reconstructions are scored on so many held-out images.
NUM_PAIRS = 1000
SPLITS = ("train", "test", "validation")
CLASSIFIER = {"name": "classifier"}
# Keys of a metric's spec that are not its hyper-parameters.
NOT_HYPER = ("every", "num_samples", "name")

# The hyper-parameters of a metric, with `every` and `num_samples`.
Spec: TypeAlias = Mapping[str, Any]
# `(images, labels, **how)` -> what a system makes of held-out images.
Ability: TypeAlias = Callable[..., Any]


class Evaluator:
  """Compares images with a split of a dataset.

  A metric sees both as it wants them (`metrics.input_of`). The extractor is
  made when it is first needed; its features of the dataset are kept on disk.

  Attributes:
    train: the training split.
    test: the held-out split, without the classes that the training split
      leaves out.
    everything: the held-out split with all its classes.
    against: the name of the split that samples are compared with.
    seconds: part -> how long it took, all calls together.
  """

  def __init__(
    self,
    name: str,
    train: data.Arrays,
    test: data.Arrays,
    validation: data.Arrays | None = None,
    extractor: Mapping[str, Any] | None = None,
    against: str = "train",
  ):
    """Takes the splits of a dataset.

    Args:
      name: of the dataset.
      train: the training split.
      test: the held-out split.
      validation: the split by which metrics choose hyper-parameters, or None.
      extractor: its name and its options; by default the classifier.
      against: the split that samples are compared with, one of `SPLITS`.
    """
    self.train = train
    self.everything = test
    self.against = against
    self._name = name
    self._extractor_spec = dict(extractor or CLASSIFIER)
    self._classes = None if train.labels is None else np.unique(train.labels)
    self.test = self._known_only(test)
    self._splits = {
      "train": train,
      "test": self.test,
      "validation": validation,
    }
    # (split, form) -> the split in that form: see `_form`.
    self._forms: dict[tuple[str, str], Any] = {}
    self.seconds: dict[str, float] = collections.defaultdict(float)

  @property
  def real(self) -> data.Arrays:
    """The split that samples are compared with."""
    real = self._splits[self.against]
    assert real is not None
    return real

  @functools.cached_property
  def extractor(self) -> extractors.Extractor:
    """Images to features and class logits; trained, or found cached."""
    spec = dict(self._extractor_spec)
    make = extractors.find(spec.pop("name"))
    return make(self._name, self.train, self.test, **spec)

  @functools.cached_property
  def digests(self) -> list[str]:
    """The fingerprints of the reals and of the held-out split."""
    return [cache.digest(self.real), cache.digest(self.everything)]

  def prepare(self, specs: Mapping[str, Spec]) -> None:
    """Makes now what these metrics need, not in the midst of a run.

    Args:
      specs: as those of `compare`.

    Raises:
      UserError: one of them needs labels and the dataset has none, has a
        hyper-parameter out of range, or the extractor's weights are missing.
    """
    for name, spec in specs.items():
      self._make(name, spec)
      self._form(self.against, metrics.input_of(name))

  def compare(
    self,
    specs: Mapping[str, Spec],
    images: np.ndarray,
    labels: np.ndarray | None = None,
  ) -> dict[str, metrics.Record]:
    """Returns each metric of `images` against the dataset's split.

    Args:
      specs: metric -> its hyper-parameters; `every` and `num_samples` are
        not for it.
      images: as they are stored.
      labels: int `[N]`, the classes that the images were drawn for.

    Raises:
      UserError: images of another shape or type, or what a metric refuses.
    """
    self._check(images)
    constant = bool((images == images[:1]).all())
    extracted: Features | None = None  # Once, for all metrics that need it.
    records = {}
    for name, spec in specs.items():
      on = metrics.input_of(name)
      metric = self._make(name, spec, labels)
      real = self._form(self.against, on)
      if on in Features._fields:
        if extracted is None:
          with self._timed("features"):
            extracted = self.extractor(images)
        fake = self._part(extracted, on)
      else:
        fake = _plain_form(images, on)
      with self._timed(name):
        record = metric(real, fake)
      records[name] = metrics.Record(
        record.values,
        {**record.protocol, **self.protocol(on)},
        _flags(record, constant),
      )
    return records

  def protocol(self, on: str) -> dict[str, Any]:
    """Returns in what a metric on `on` is measured, and against what."""
    if on not in Features._fields:
      return {"extractor": "none", "against": self.against}
    found = {
      "extractor": self.extractor.name,
      "extractor_digest": self.extractor.digest,
      **self.extractor.protocol,
    }
    if not np.isnan(self.extractor.accuracy):
      found["extractor_accuracy"] = self.extractor.accuracy
    found["against"] = self.against
    return found

  def describe(self) -> tuple[str, str]:
    """Returns what is compared with, and what stands beside, for people."""
    kind = "points" if self.real.images.ndim == 2 else "images"
    names = {"train": "training", "test": "held-out"}
    name = names.get(self.against, self.against)
    against = f"against {len(self.real.images)} {name} {kind}"
    return against, f"; {len(self.test.images)} held-out {kind}"

  def score(
    self,
    specs: Mapping[str, Spec],
    draw: Callable[..., np.ndarray],
    labels: Callable[[int], np.ndarray | None] | None = None,
    abilities: Mapping[str, Ability] | None = None,
  ) -> dict[str, metrics.Record]:
    """Returns each metric of fresh samples, or of held-out images.

    Args:
      specs: as those of a config, with `num_samples`. Where that is 0 there
        are as many samples as held-out images, since a Fréchet distance
        depends on their number and the one of the held-out images is what to
        compare with.
      draw: `(n, seed=...) -> images`.
      labels: `n -> int [n]`, the classes of what `draw` draws.
      abilities: name -> `(images, labels, **how)`, of `metrics.NEEDS`: what
        a system makes of held-out images.

    Raises:
      UserError: a metric needs an ability that the system does not have.
    """
    records = {}
    of_samples = {}
    for name, spec in specs.items():
      if metrics.needs(name):
        records[name] = self._score_ability(name, spec, abilities or {})
      else:
        of_samples[name] = spec
    # Metrics of as many samples see the same ones.
    for num in sorted({spec["num_samples"] for spec in of_samples.values()}):
      same = {k: v for k, v in of_samples.items() if v["num_samples"] == num}
      with self._timed("samples"):
        images = draw(num or len(self.test.images), seed=SEED)
      classes = labels(len(images)) if labels else None
      records.update(self.compare(same, images, classes))
    return records

  def _score_ability(
    self, name: str, spec: Spec, abilities: Mapping[str, Ability]
  ) -> metrics.Record:
    """Returns a metric of what a system makes of held-out images."""
    needs = metrics.needs(name)
    if needs not in abilities:
      raise errors.UserError(
        f"{name}: this run's system has no {needs!r}; leave {name} out"
      )
    # An anomaly score is judged by the classes that training left out; every
    # other ability by those that training had.
    arrays = self.everything if needs == "score" else self.test
    num = spec["num_samples"]
    if not num:
      num = NUM_PAIRS if needs == "reconstruct" else len(arrays.images)
    arrays = jax.tree.map(lambda x: np.asarray(x[:num]), arrays)
    wanted = arrays.images
    if needs == "classify":
      wanted = arrays.labels
    if needs == "score":
      wanted = self._is_known(arrays.labels)
    how = {k: spec[k] for k in metrics.how(name)}
    found = abilities[needs](arrays.images, arrays.labels, **how)
    record = self._make(name, spec)(wanted, found)
    record.protocol.update(extractor="none", against="test")
    return record

  def _is_known(self, labels: np.ndarray | None) -> np.ndarray | None:
    """Returns which labels `[N]` the training split has, None without any."""
    if labels is None or self._classes is None:
      return None
    return np.isin(labels, self._classes)

  def _known_only(self, arrays: data.Arrays) -> data.Arrays:
    """Returns a split without the classes that training left out."""
    known = self._is_known(arrays.labels)
    if known is None or known.all():
      return arrays  # As it is: it may be mapped from a file.
    return jax.tree.map(lambda x: np.asarray(x)[known], arrays)

  def _check(self, images: np.ndarray) -> None:
    """Raises a `UserError` unless the images are such as the dataset's."""
    real = self.real.images
    if images.shape[1:] != real.shape[1:] or images.dtype != real.dtype:
      raise errors.UserError(
        f"samples {images.dtype} {list(images.shape[1:])} cannot be compared "
        f"with those of {self._name}, {real.dtype} {list(real.shape[1:])}"
      )
    if not len(images):
      raise errors.UserError("there are no samples to score")

  def _make(
    self, name: str, spec: Spec, fake_labels: np.ndarray | None = None
  ) -> metrics.Metric:
    """Returns a metric, given of `metrics.GIVEN` what its factory asks for."""
    hyper = {k: v for k, v in spec.items() if k not in NOT_HYPER}
    parameters = inspect.signature(metrics.find(name)).parameters
    on = metrics.input_of(name)
    # Only what is asked for is made: a form may need the extractor.
    if "labels" in parameters:
      hyper["labels"] = self.real.labels
    if "fake_labels" in parameters:
      hyper["fake_labels"] = fake_labels
    if "held_out" in parameters:
      hyper["held_out"] = self._form("test", on)
    if "held_out_labels" in parameters:
      hyper["held_out_labels"] = self.test.labels
    if "validation" in parameters:
      hyper["validation"] = self._form("validation", on)
    return metrics.get(name, **hyper)

  def _form(self, split: str, on: str) -> Any:
    """Returns a split as `on` names it, None where there is no such split."""
    arrays = self._splits[split]
    if arrays is None:
      return None
    if on in Features._fields:  # Features and logits are extracted together.
      key = (split, "features")
      if key not in self._forms:
        self._forms[key] = self._extract(arrays.images)
      return self._part(self._forms[key], on)
    key = (split, on)
    if key not in self._forms:
      self._forms[key] = _plain_form(arrays.images, on)
    return self._forms[key]

  def _part(self, extracted: Features, on: str) -> np.ndarray:
    """Returns the features or the logits, if the extractor has them."""
    part = getattr(extracted, on)
    if part is None:
      raise errors.UserError(f"{self.extractor.name} has no {on} to compare")
    return part

  def _extract(self, images: np.ndarray) -> Features:
    """Returns the features of a split, from the cache if they are there."""
    extractor = self.extractor
    facts = [extractor.name, extractor.digest, extractor.protocol]
    short = cache.digest_of({str(facts): np.asarray(images)})
    path = cache.root() / "features" / f"{short}.npz"
    arrays = cache.read_arrays(path)
    if arrays is None:
      with self._timed("features of the dataset"):
        found = extractor(images)._asdict()
      arrays = {k: v for k, v in found.items() if v is not None}
      cache.write_arrays(path, arrays)
    return Features(**arrays)

  @contextlib.contextmanager
  def _timed(self, part: str) -> Iterator[None]:
    """Adds the seconds that a block takes to those of a part."""
    start = time.perf_counter()
    yield
    self.seconds[part] += time.perf_counter() - start


def _flags(record: metrics.Record, constant: bool) -> tuple[str, ...]:
  """Returns the flags of a record, and those that any metric may get."""
  flags = [*record.flags]
  if constant and "constant" not in flags:
    flags.append("constant")
  for value, number in record.values.items():
    if np.isnan(number):
      flags.append(f"{value} is not a number")
  return tuple(flags)


def _plain_form(images: np.ndarray, on: str) -> np.ndarray:
  """Returns images or points as they are, or as float64 `[N, d]`."""
  if on == "images":
    return np.asarray(images)
  return np.asarray(images).reshape(len(images), -1).astype(np.float64)
