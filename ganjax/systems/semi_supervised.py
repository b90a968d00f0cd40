"""Semi-supervised learning with a GAN (Salimans et al. 2016, section 5).

"Improved techniques for training GANs" (https://arxiv.org/abs/1606.03498): the
discriminator tells K + 1 classes apart, those of the data and "fake". The logit
of "fake" is fixed at 0, so with Z(x) = sum_k exp l_k(x) an image is real with
probability Z / (Z + 1), whose logit is log Z. A few labels teach the classes,
all images and fakes the rest. It is extension 4 of Goodfellow et al. 2014.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.nn import logsumexp

from ganjax import errors, parallel
from ganjax import state as states
from ganjax.objectives import latents, losses, measurements
from ganjax.objectives.augment import AUGMENTATIONS
from ganjax.systems import System, adversarial, gan, sampling
from ganjax.systems.adversarial import GANState, Parts, StepKeys

# What the discriminator returns.
MATCHING = ("logits", "features")

# Of log Z: -E log Z / (Z + 1) of reals - E log 1 / (Z + 1) of fakes.
UNSUPERVISED = losses.non_saturating()


class Discriminator(nn.Module):
  """image -> encoder -> features -> logits of the K classes of the data."""

  encoder: nn.Module
  num_classes: int

  @nn.compact
  def __call__(self, images: jax.Array, labels=None, train: bool = True):
    """Maps images `[N, ...]` to logits `[N, K]` and features `[N, d]`."""
    del labels
    features = jax.nn.leaky_relu(self.encoder(images, None, train), 0.2)
    return nn.Dense(self.num_classes, name="output")(features), features


def make(
  generator: nn.Module,
  encoder: nn.Module,
  g_opt: optax.GradientTransformation,
  d_opt: optax.GradientTransformation,
  *,
  z_dim: int = 100,
  latent: str = "uniform",
  num_labeled: int = 100,
  num_features: int = 250,
  matching: str = "features",
  supervised_only: bool = False,
  instance_noise: float = 0.0,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns the GAN whose discriminator is a classifier.

  A step draws as many labelled images, with replacement, as its batch has
  images, whose own labels it never looks at.

  Args:
    generator: see `ganjax.nets`; not a conditional one.
    encoder: the discriminator up to its features.
    g_opt: the generator's optimizer.
    d_opt: the discriminator's optimizer.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    num_labeled: how many labels are used, see `choose`.
    num_features: the size of the layer before the logits.
    matching: what G matches in the mean, "features" (section 3.1) or "logits".
    supervised_only: the baseline: D sees labelled images alone, G rests.
    instance_noise: the standard deviation of Gaussian noise on all that D
      sees; 0.3 in the paper's code for MNIST.
    ema_decay: of the averages of both networks, or step -> decay; 0 for none.
      Samples and classes are those of the averages.
    precision: of the networks' arithmetic in training, see `gan.make`.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: no classes, too few labels, or parts that do not fit.
  """
  num_classes = getattr(generator, "num_classes", 0)
  if matching not in MATCHING:
    raise errors.unknown("matching", matching, MATCHING)
  needs = {
    "a dataset with labels; set another config.dataset": num_classes,
    "both nets of as many classes": encoder.num_classes == num_classes,
    "a generator without labels, such as net 'dcgan'": not getattr(
      generator, "conditional", False
    ),
    f"config.system.num_labeled of {num_classes} or more": num_labeled
    >= num_classes,
    "config.system.num_features of 1 or more": num_features >= 1,
  }
  for text, met in needs.items():
    if not met:
      raise errors.UserError(f"system 'semi_supervised' needs {text}")
  classifier = Discriminator(encoder.clone(outputs=num_features), num_classes)
  matched = "" if supervised_only else matching
  noise_std = (lambda step: instance_noise) if instance_noise else None
  parts = Parts(
    generator,
    classifier,
    UNSUPERVISED,
    g_opt,
    d_opt,
    {},
    AUGMENTATIONS["none"](),
    functools.partial(latents.LATENTS.find(latent), z_dim=z_dim),
    ema_decay,
    noise_std,
    axis_name,
    jnp.dtype(precision),
  )
  alone = parts._replace(axis_name=None, dtype=jnp.float32)
  if axis_name:  # Samples are drawn on one device.
    alone = alone._replace(generator=generator.clone(axis_name=None))
  return System(
    init=functools.partial(init, parts, num_labeled),
    train_step=functools.partial(train_step, parts, matched),
    sample=functools.partial(sampling.sample, alone),
    settle=functools.partial(sampling.settle, alone),
    latents=functools.partial(sampling.latents, alone),
    decode=functools.partial(sampling.decode, alone),
    score=functools.partial(score, alone),
    classify=functools.partial(classify, alone),
    networks=dict(generator=generator, discriminator=classifier),
    num_classes=num_classes,
  )


def choose(labels: jax.Array, num: int) -> jax.Array:
  """Returns the places `[num]` of the labels `[N]` that are used.

  The first of each class, then the second of each, and so on: balanced, as far
  as the classes reach. `init` shuffles before: labels belong to the seed.
  """
  n = len(labels)
  by_class = jnp.argsort(labels, stable=True)
  ordered = labels[by_class]
  nth = jnp.arange(n) - jnp.searchsorted(ordered, ordered)
  nth = jnp.zeros_like(nth).at[by_class].set(nth)
  return jnp.lexsort((labels, nth))[jnp.arange(num) % n]


def init(parts: Parts, num_labeled: int, key: jax.Array, arrays: Any):
  """Initialises both players; `arrays.images [N, ...]` as networks see them.

  The state's memory holds the labelled `images [num_labeled, ...]`, their
  `labels` and, if there are averages, that of the `discriminator`.

  Raises:
    UserError: the labels are missing, of other classes, or too few.
  """
  n, num_classes = len(arrays.images), parts.discriminator.num_classes
  if arrays.labels is None or arrays.num_classes != num_classes:
    raise errors.UserError(
      f"system 'semi_supervised' is made for {num_classes} classes, this "
      f"dataset has labels of {arrays.num_classes}; set another config.dataset"
    )
  if num_labeled > n > 2:  # Of two a state's shapes are found.
    raise errors.UserError(
      f"config.system.num_labeled={num_labeled} must be {n} or fewer, the "
      "examples of the training set"
    )
  state: Any = gan.init(parts, key, arrays)
  order = jax.random.permutation(jax.random.fold_in(key, 0), n)
  chosen = order[choose(arrays.labels[order], num_labeled)]
  memory = dict(images=arrays.images[chosen], labels=arrays.labels[chosen])
  if parts.ema_decay:
    memory["discriminator"] = states.Averaged.create(state.discriminator)
  return state.replace(memory=memory)


def train_step(
  parts: Parts, matching: str, state: Any, batch, key, skip=()
) -> tuple[GANState, dict[str, jax.Array]]:
  """Updates D, then G unless it has nothing to match; `images [1, n, ...]`."""
  del skip
  real = batch.replace(images=batch.images[0], labels=None)
  d_key, g_key = jax.random.split(key)
  discriminator, metrics = d_step(parts, matching, state, real, d_key)
  state = state.replace(discriminator=discriminator)
  if matching:
    generator, new = g_step(parts, matching, state, real, g_key)
    state, metrics = state.replace(generator=generator), metrics | new
  if state.ema is not None:
    how = parts.ema_decay, state.step
    d_ema = state.memory["discriminator"].update(discriminator, *how)
    ema = state.ema.update(state.generator, *how)
    memory = state.memory | dict(discriminator=d_ema)
    state = state.replace(ema=ema, memory=memory)
  return state.replace(step=state.step + 1), metrics


def supervised_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the mean of -log p(label | x, real) of logits `[N, K]`."""
  own = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
  return jnp.mean(logsumexp(logits, axis=1) - own)


def d_step(parts: Parts, matching: str, state: Any, real, key):
  """Returns D's new `NetState` and metrics; `real.images [n, ...]`."""
  pick_key, labeled_key, key = jax.random.split(key, 3)
  keys, player = StepKeys(*jax.random.split(key, 5)), state.discriminator
  gather = functools.partial(parallel.gather, axis_name=parts.axis_name)
  labeled, labels = _labeled(parts, state, len(real.images), pick_key)
  g = state.generator.params, state.generator.stats
  z = adversarial.draw(parts, real, keys)
  fake, _ = adversarial.generate(parts, g, z, None, keys.generator)

  def loss_fn(params):
    def see(stats, images, key, iterate=False):
      net = params, stats
      return adversarial.judge(parts, state, net, images, None, key, iterate)

    (logits, _), stats = see(player.stats, labeled, labeled_key, True)
    logits = gather(logits)
    loss = supervised_loss(logits, labels)
    metrics = dict(supervised_loss=loss)
    metrics["labeled_accuracy"] = jnp.mean(logits.argmax(1) == labels)
    if matching:
      (logits, _), stats = see(stats, real.images, keys.real)
      (fake_logits, _), stats = see(stats, fake, keys.fake)
      log_z = [gather(logsumexp(x, axis=1)) for x in (logits, fake_logits)]
      metrics["unsupervised_loss"] = UNSUPERVISED.discriminator(*log_z)
      metrics |= measurements.of_logits(UNSUPERVISED, *log_z)
      loss += metrics["unsupervised_loss"]
    return loss, (stats, metrics | dict(d_loss=loss))

  grads, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(player.params)
  grads = parallel.mean(grads, parts.axis_name)
  metrics["d_grad_norm"] = optax.tree.norm(grads)
  metrics |= measurements.of_images(real.images, fake)
  metrics |= measurements.of_stats("d", stats)
  return player.update(parts.d_opt, grads, stats), metrics


def _labeled(parts: Parts, state: Any, n: int, key: jax.Array):
  """Returns n labelled images of this device and the labels `[N]` of all."""
  images, labels = state.memory["images"], state.memory["labels"]
  keys = parallel.example_keys(key, n, parts.axis_name)
  draw = lambda key: jax.random.randint(key, (), 0, len(labels))
  places = jax.vmap(draw)(keys)
  return images[places], parallel.gather(labels[places], parts.axis_name)


def g_step(parts: Parts, matching: str, state: Any, real, key):
  """Returns G's new `NetState` and metrics; D stays as it is.

  The loss is the squared distance of what the mean real image and the mean
  fake of the global batch are to D (Salimans et al. 2016, section 3.1).
  """
  keys, player = StepKeys(*jax.random.split(key, 5)), state.generator
  d = state.discriminator.params, state.discriminator.stats
  z = adversarial.draw(parts, real, keys)

  def mean_of(images, key):
    seen, _ = adversarial.judge(parts, state, d, images, None, key)
    seen = seen[MATCHING.index(matching)].mean(0, keepdims=True)
    return parallel.gather(seen, parts.axis_name).mean(0)

  target = mean_of(real.images, keys.real)

  def loss_fn(params):
    fake, stats = adversarial.generate(
      parts, (params, player.stats), z, None, keys.generator, True
    )
    return jnp.square(target - mean_of(fake, keys.fake)).sum(), stats

  value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, stats), grads = value_and_grad(player.params)
  grads = parallel.mean(grads, parts.axis_name)
  metrics = dict(g_loss=loss, g_grad_norm=optax.tree.norm(grads))
  return player.update(parts.g_opt, grads, stats), metrics


def classify(
  parts: Parts, state: Any, images: jax.Array, labels=None, ema=True
) -> jax.Array:
  """Returns the logits `[n, K]` of images as networks see them."""
  del labels
  live = state.discriminator
  net = state.memory.get("discriminator", live) if ema else live
  variables = {"params": net.params, **net.stats}
  apply: Any = functools.partial(parts.discriminator.apply, train=False)
  return apply(variables, images)[0]


def score(parts: Parts, state: Any, images: jax.Array, labels=None):
  """Returns log Z `[n]`, the live D's logit of "real", of images one by one."""
  return logsumexp(classify(parts, state, images, labels, False), axis=1)
