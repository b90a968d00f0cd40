"""The embedded extractor: a small classifier of the dataset itself.

It needs no download and is trained in seconds to minutes on two CPU cores, so
every labelled dataset has features and class logits to be judged in. Scores in
its features compare runs on one dataset; they are no Inception scores. It is
trained once for a dataset and then read from disk.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import extractors
from ganjax.evaluation.extractors import Features

# Raise it when anything below changes the trained parameters.
RECIPE = 1
BATCH_SIZE = 128
# So many examples are seen, but in at least 1 and at most 30 epochs.
EXAMPLES = 300_000
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.1


Params: TypeAlias = Mapping[str, Any]  # A tree of arrays.


class Classifier(nn.Module):
  """A convolutional network for images, a perceptron for points.

  Attributes:
    num_classes: how many logits.
  """

  num_classes: int

  @nn.compact
  def __call__(self, x: jax.Array) -> Features:
    """Maps uint8 `[N, H, W, C]` or float32 `[N, 2]` to `Features`."""
    if x.ndim == 2:
      for _ in range(2):
        x = nn.relu(nn.Dense(128)(x))
    else:
      x = x.astype(jnp.float32) / 127.5 - 1
      # Halved until it is 4 pixels wide. No batch norm: an image's features
      # must not depend on the other images.
      num_stages = max(2, int(np.ceil(np.log2(max(x.shape[1:3]) / 4))))
      for stage in range(num_stages):
        x = nn.Conv(64 if stage else 32, (3, 3), strides=(2, 2))(x)
        x = nn.relu(x)
      x = x.reshape(len(x), -1)
    features = nn.relu(nn.Dense(64)(x))
    return Features(features, nn.Dense(self.num_classes)(features))


class TrainedClassifier:
  """A trained classifier as a function of images: see `extractors.Extractor`.

  Its features are `[N, 64]`, 0 or more.
  """

  def __init__(
    self, name: str, num_classes: int, params: Params, accuracy: float = np.nan
  ):
    """Binds the parameters of a `Classifier`.

    Args:
      name: of what it was trained on.
      num_classes: how many logits.
      params: of a `Classifier`.
      accuracy: on a test split, a fraction; NaN if it is unknown.
    """
    self.name = f"classifier:{name}"
    self.digest = cache.digest_of(_flat(params))
    self.accuracy = accuracy
    self.protocol: dict[str, Any] = {}
    self.params = jax.device_put(params)
    self._apply = jax.jit(Classifier(num_classes).apply)

  def __call__(self, images: np.ndarray) -> Features:
    """Returns the `Features` of uint8 `[N, H, W, C]` or points `[N, 2]`."""

    def apply(part: np.ndarray) -> Features:
      return self._apply({"params": self.params}, part)

    return extractors.in_chunks(apply, images)


@extractors.register(name="classifier")
def make(
  dataset: str, train: data.Arrays, test: data.Arrays
) -> TrainedClassifier:
  """Returns the classifier of a dataset, kept in ganjax's cache."""
  return fit(train, test, cache.root() / "classifiers", dataset)


def fit(
  train: data.Arrays,
  test: data.Arrays,
  cache_dir: pathlib.Path,
  name: str,
) -> TrainedClassifier:
  """Returns the classifier of a dataset: trained now, or found on disk.

  Args:
    train: what it learns; all of it must fit on the device.
    test: what its accuracy is measured on.
    cache_dir: holds one .npz for each dataset that was ever asked for.
    name: of the dataset.

  Raises:
    UserError: the dataset has no labels.
  """
  if not train.num_classes or train.labels is None:
    raise errors.UserError(
      f"dataset {name!r} has no labels to train a classifier on: metrics that "
      "need its features or classes cannot be computed"
    )
  key = [RECIPE, train.num_classes, cache.digest(train), cache.digest(test)]
  short = hashlib.sha256(str(key).encode()).hexdigest()[:16]
  path = pathlib.Path(cache_dir) / f"{name}-{short}.npz"
  arrays = cache.read_arrays(path)
  if arrays is not None:
    accuracy = float(arrays.pop("accuracy"))
    params = traverse_util.unflatten_dict(arrays, sep="/")
    return TrainedClassifier(name, train.num_classes, params, accuracy)
  params = _train(train, name)
  extractor = TrainedClassifier(name, train.num_classes, params)
  logits = extractor(test.images).logits
  extractor.accuracy = float(np.mean(logits.argmax(-1) == test.labels))
  accuracy = np.array(extractor.accuracy)
  cache.write_arrays(path, {**_flat(params), "accuracy": accuracy})
  return extractor


def trained(train: data.Arrays, name: str) -> TrainedClassifier:
  """Returns a classifier trained now on a labelled split, and not kept.

  Args:
    train: what it learns; all of it must fit on the device.
    name: of the split.
  """
  return TrainedClassifier(name, train.num_classes, _train(train, name))


def _train(train: data.Arrays, name: str) -> Params:
  """Returns the parameters; they depend on nothing but the split."""
  images = jnp.asarray(train.images)
  labels = jnp.asarray(train.labels, jnp.int32)
  net = Classifier(train.num_classes)
  apply: Any = net.apply
  rng = np.random.RandomState(0)

  def initialise(shape: jax.ShapeDtypeStruct) -> np.ndarray:
    # He et al. 2015 for ReLU. Drawn by NumPy: compiling the random functions
    # of JAX takes longer than training on a small dataset.
    if len(shape.shape) == 1:
      return np.zeros(shape.shape, np.float32)
    scale = np.sqrt(2 / np.prod(shape.shape[:-1]))
    return (scale * rng.normal(size=shape.shape)).astype(np.float32)

  shapes = jax.eval_shape(net.init, jax.random.key(0), images[:1])["params"]
  params = jax.tree.map(initialise, shapes)
  batch_size = min(BATCH_SIZE, len(images))
  num_batches = len(images) // batch_size
  num_steps = int(np.clip(EXAMPLES // len(images), 1, 30)) * num_batches
  schedule = optax.cosine_decay_schedule(LEARNING_RATE, num_steps)
  opt = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)

  @jax.jit
  def step(
    params: optax.Params,
    opt_state: optax.OptState,
    images: jax.Array,
    labels: jax.Array,
    indices: np.ndarray,
  ) -> tuple[optax.Params, optax.OptState]:
    def loss_fn(params: optax.Params) -> jax.Array:
      _, logits = apply({"params": params}, images[indices])
      return optax.softmax_cross_entropy_with_integer_labels(
        logits, labels[indices]
      ).mean()

    grads = jax.grad(loss_fn)(params)
    updates, opt_state = opt.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  opt_state = jax.jit(opt.init)(params)
  order = np.arange(len(images), dtype=np.int32)
  # A loop of Python: XLA's convolutions are 50 times slower in a scan on CPU.
  text = f"training the classifier of {name}, once"
  for i in cache.track(range(num_steps), num_steps, text):
    offset = i % num_batches * batch_size
    if not offset:
      rng.shuffle(order)
    indices = order[offset : offset + batch_size].copy()
    with extractors.exact():
      params, opt_state = step(params, opt_state, images, labels, indices)
    if i % 16 == 15:  # The progress bar must not run ahead of the device.
      jax.block_until_ready(params)
  return jax.device_get(params)


def _flat(params: Params) -> dict[str, np.ndarray]:
  """Returns parameters by their paths, "Dense_0/kernel"."""
  flat: Any = traverse_util.flatten_dict(jax.device_get(params), sep="/")
  return flat
