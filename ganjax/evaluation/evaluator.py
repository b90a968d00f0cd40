"""Scores of samples against a dataset, each with its protocol."""

import collections
import functools
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import extractors, metrics

# Scores and pictures draw from different latents.
SEED = 1

# Reconstructions are scored on so many held-out images.
NUM_PAIRS = 1000
SPLITS = ("train", "test", "validation")
CLASSIFIER = {"name": "classifier"}
# Keys of a metric's spec that are not its hyper-parameters.
_NOT_HYPER = ("every", "num_samples", "name")


class Evaluator:
  """Compares images with a split of a dataset.

  A metric sees both as it wants them (`metrics.input_of`). The extractor is
  made when it is first needed; its features of the dataset are kept on disk.

  Attributes:
    train: the training split.
    test: the held-out split, classes that the training split has not left
      out.
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
    """Takes the splits of the dataset `name`, and an extractor's spec."""
    self.train, self.everything, self.against = train, test, against
    self._classes = None if train.labels is None else np.unique(train.labels)
    known = self._is_known(test.labels)
    self.test = test
    if known is not None and not known.all():
      self.test = jax.tree.map(lambda x: np.asarray(x)[known], test)
    self._splits: dict[str, Any] = dict(
      train=train, test=self.test, validation=validation
    )
    self._name, self._spec = name, dict(extractor or CLASSIFIER)
    self._forms: dict[tuple[str, str], Any] = {}
    self.seconds: dict[str, float] = collections.defaultdict(float)

  @property
  def real(self) -> data.Arrays:
    """The split that samples are compared with."""
    return self._splits[self.against]

  @functools.cached_property
  def extractor(self) -> extractors.Extractor:
    """Images to features and class logits; trained, or found cached."""
    spec = dict(self._spec)
    make = extractors.find(spec.pop("name")).make
    return make(self._name, self.train, self.test, **spec)

  @functools.cached_property
  def digests(self) -> list[str]:
    """The fingerprints of the reals and of the held-out split."""
    return [cache.digest(self.real), cache.digest(self.everything)]

  def prepare(self, specs: Mapping[str, Mapping[str, Any]]) -> None:
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
    specs: Mapping[str, Mapping[str, Any]],
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
    extracted, records = None, {}
    for name, spec in specs.items():
      on = metrics.input_of(name)
      metric = self._make(name, spec, labels)
      real = self._form(self.against, on)
      if on in extractors.Features._fields:
        if extracted is None:
          start = time.perf_counter()
          extracted = self.extractor(images)
          self.seconds["features"] += time.perf_counter() - start
        fake = self._part(extracted, on)
      else:
        fake = _plain_form(images, on)
      start = time.perf_counter()
      record = metric(real, fake)
      self.seconds[name] += time.perf_counter() - start
      record.protocol.update(self.protocol(on))
      flags = dict.fromkeys(record.flags)
      if constant:
        flags["constant"] = None
      for value, number in record.values.items():
        if np.isnan(number):
          flags[f"{value} is not a number"] = None
      records[name] = metrics.Record(
        record.values, record.protocol, tuple(flags)
      )
    return records

  def protocol(self, on: str) -> dict[str, Any]:
    """Returns in what a metric on `on` is measured, and against what."""
    if on not in extractors.Features._fields:
      found: dict[str, Any] = {"extractor": "none"}
    else:
      found = dict(
        extractor=self.extractor.name,
        extractor_digest=self.extractor.digest,
        **self.extractor.protocol,
      )
      if not np.isnan(self.extractor.accuracy):
        found["extractor_accuracy"] = self.extractor.accuracy
    return found | {"against": self.against}

  def describe(self) -> tuple[str, str]:
    """Returns what is compared with, and what stands beside, for people."""
    kind = "points" if self.real.images.ndim == 2 else "images"
    name = {"train": "training", "test": "held-out"}.get(
      self.against, self.against
    )
    against = f"against {len(self.real.images)} {name} {kind}"
    return against, f"; {len(self.test.images)} held-out {kind}"

  def score(
    self,
    specs: Mapping[str, Mapping[str, Any]],
    draw: Callable[..., np.ndarray],
    labels: Callable[[int], np.ndarray | None] | None = None,
    abilities: Mapping[str, Callable[..., Any]] | None = None,
  ) -> dict[str, metrics.Record]:
    """Returns each metric of fresh samples, or of held-out images.

    Args:
      specs: as those of a config, with `num_samples`; where that is 0 as
        many as the held-out split has, since a Fréchet distance depends on
        it and the held-out one is what to compare with.
      draw: `(n, seed=...) -> images`.
      labels: `n -> int [n]`, the classes of what `draw` draws.
      abilities: name -> `(images, labels, **how)`, of `metrics.NEEDS`: what
        a system makes of held-out images.

    Raises:
      UserError: a metric needs an ability that there is not.
    """
    records = {}
    others = {k: v for k, v in specs.items() if metrics.needs(k)}
    for name, spec in others.items():
      records[name] = self._score_ability(name, spec, abilities or {})
    specs = {k: v for k, v in specs.items() if k not in others}
    for num in sorted({spec["num_samples"] for spec in specs.values()}):
      start = time.perf_counter()
      images = draw(num or len(self.test.images), seed=SEED)
      self.seconds["samples"] += time.perf_counter() - start
      classes = labels(len(images)) if labels else None
      same = {k: v for k, v in specs.items() if v["num_samples"] == num}
      records |= self.compare(same, images, classes)
    return records

  def _score_ability(self, name: str, spec, abilities) -> metrics.Record:
    needs = metrics.needs(name)
    if needs not in abilities:
      raise errors.UserError(
        f"{name}: this run's system has no {needs!r}; leave {name} out"
      )
    arrays = self.everything if needs == "score" else self.test
    num = spec["num_samples"] or len(arrays.images)
    if needs == "reconstruct":
      num = spec["num_samples"] or NUM_PAIRS
    arrays = jax.tree.map(lambda x: np.asarray(x[:num]), arrays)
    wanted: Any = arrays.images
    if needs == "classify":
      wanted = arrays.labels
    if needs == "score":
      wanted = self._is_known(arrays.labels)
    how = {k: spec[k] for k in metrics.how(name)}
    found = abilities[needs](arrays.images, arrays.labels, **how)
    record = self._make(name, spec)(wanted, found)
    record.protocol.update(extractor="none", against="test")
    return record

  def _is_known(self, labels: Any) -> Any:
    """Returns which labels `[N]` the training split has, None without any."""
    if labels is None or self._classes is None:
      return None
    return np.isin(labels, self._classes)

  def _check(self, images: np.ndarray) -> None:
    real = self.real.images
    if images.shape[1:] != real.shape[1:] or images.dtype != real.dtype:
      raise errors.UserError(
        f"samples {images.dtype} {list(images.shape[1:])} cannot be compared "
        f"with those of {self._name}, {real.dtype} {list(real.shape[1:])}"
      )
    if not len(images):
      raise errors.UserError("there are no samples to score")

  def _make(
    self, name: str, spec: Mapping[str, Any], fake_labels=None
  ) -> metrics.Metric:
    hyper = {k: v for k, v in spec.items() if k not in _NOT_HYPER}
    on = metrics.input_of(name)
    offered: dict[str, Callable[[], Any]] = dict(
      labels=lambda: self.real.labels,
      fake_labels=lambda: fake_labels,
      held_out=lambda: self._form("test", on),
      held_out_labels=lambda: self.test.labels,
      validation=lambda: self._form("validation", on),
    )
    for parameter in inspect.signature(metrics.find(name)).parameters:
      if parameter in offered:
        hyper[parameter] = offered[parameter]()
    return metrics.get(name, **hyper)

  def _form(self, split: str, on: str) -> Any:
    """Returns a split as `on` names it, None where there is no such split."""
    if self._splits[split] is None:
      return None
    features = on in extractors.Features._fields
    key = split, "features" if features else on
    if key not in self._forms:
      images = self._splits[split].images
      make = (
        self._extract if features else functools.partial(_plain_form, on=on)
      )
      self._forms[key] = make(images)
    return self._part(self._forms[key], on) if features else self._forms[key]

  def _part(self, extracted: extractors.Features, on: str) -> np.ndarray:
    part = getattr(extracted, on)
    if part is None:
      raise errors.UserError(f"{self.extractor.name} has no {on} to compare")
    return part

  def _extract(self, images: np.ndarray) -> extractors.Features:
    """Returns the features of a split, from the cache if they are there."""
    extractor = self.extractor
    facts = [extractor.name, extractor.digest, extractor.protocol]
    short = cache.digest_of({str(facts): np.asarray(images)})
    path = cache.root() / "features" / f"{short}.npz"
    if (arrays := cache.read_arrays(path)) is None:
      start = time.perf_counter()
      found = extractor(images)._asdict()
      arrays = {k: v for k, v in found.items() if v is not None}
      self.seconds["features of the dataset"] += time.perf_counter() - start
      cache.write_arrays(path, arrays)
    return extractors.Features(**arrays)


def _plain_form(images: np.ndarray, on: str) -> np.ndarray:
  """Returns images or points as they are, or as float64 `[N, d]`."""
  if on == "images":
    return np.asarray(images)
  return np.asarray(images).reshape(len(images), -1).astype(np.float64)
