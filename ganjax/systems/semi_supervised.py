"""Semi-supervised learning with a GAN (Salimans et al. 2016, section 5).

"Improved techniques for training GANs" (https://arxiv.org/abs/1606.03498): the
discriminator tells K + 1 classes apart, those of the data and "fake". The logit
of "fake" is fixed at 0, so with Z(x) = sum_k exp l_k(x) an image is real with
probability Z / (Z + 1), whose logit is log Z. A few labels teach the classes,
all images and fakes the rest. It is extension 4 of Goodfellow et al. 2014.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.nn import logsumexp

from ganjax import errors, parallel
from ganjax.nets.judged import Judged
from ganjax.objectives import losses, measurements
from ganjax.state import Averaged, NetState, State
from ganjax.systems import SYSTEMS, ability
from ganjax.systems.adversarial import AdversarialSystem, StepKeys, add_noise
from ganjax.systems.system import Metrics, Update

# What of D's output G matches in the mean.
MATCHING = ("logits", "features")

# Of log Z: -E log Z / (Z + 1) of reals - E log 1 / (Z + 1) of fakes.
UNSUPERVISED = losses.non_saturating()


class Classifier(nn.Module):
  """image -> encoder -> features -> logits of the K classes of the data."""

  encoder: nn.Module
  num_classes: int

  @nn.compact
  def __call__(self, images: jax.Array, labels=None, train: bool = True):
    """Maps images `[N, ...]` to logits `[N, K]` and features `[N, d]`."""
    del labels
    features = jax.nn.leaky_relu(self.encoder(images, None, train), 0.2)
    logits = nn.Dense(self.num_classes, name="output")(features)
    return Judged(logits=logits, features=features)


@SYSTEMS.register(name="semi_supervised")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SemiSupervised(AdversarialSystem):
  """A GAN whose discriminator is a classifier.

  A step draws as many labelled images, with replacement, as its batch has
  images, whose own labels it never looks at. The state's memory holds the
  labelled `images [num_labeled, ...]` and their `labels`.

  Attributes:
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
    precision: of the networks' arithmetic in training, see `System`.

  Raises:
    UserError: no classes, too few labels, or parts that do not fit.
  """

  encoder: nn.Module
  # D is made of the encoder: see `networks`.
  discriminator: None = dataclasses.field(default=None, init=False)  # pyright: ignore
  z_dim: int = 100
  latent: str = "uniform"
  num_labeled: int = 100
  num_features: int = 250
  matching: str = "features"
  supervised_only: bool = False
  instance_noise: float = 0.0

  def __post_init__(self):
    """Checks the settings, and that the parts fit the classes."""
    super().__post_init__()
    if self.matching not in MATCHING:
      raise errors.unknown("matching", self.matching, MATCHING)
    num_classes = self.num_classes
    encoder: Any = self.encoder
    conditional = getattr(self.generator, "conditional", False)
    needs = {
      "a dataset with labels; set another config.dataset": num_classes > 0,
      "both nets of as many classes": encoder.num_classes == num_classes,
      "a generator without labels, such as net 'dcgan'": not conditional,
      f"config.system.num_labeled of {num_classes} or more": (
        self.num_labeled >= num_classes
      ),
      "config.system.num_features of 1 or more": self.num_features >= 1,
    }
    for text, met in needs.items():
      if not met:
        raise errors.UserError(f"system 'semi_supervised' needs {text}")

  @functools.cached_property
  def networks(self) -> dict[str, nn.Module]:
    """The generator, and the classifier above the encoder."""
    encoder: Any = self.encoder
    return {
      "generator": self.generator,
      "discriminator": Classifier(
        encoder=encoder.clone(outputs=self.num_features),
        num_classes=self.num_classes,
      ),
    }

  @property
  def conditional(self) -> bool:
    """Samples do not depend on labels."""
    return False

  @property
  def num_classes(self) -> int:
    """Classes of the data."""
    return getattr(self.generator, "num_classes", 0)

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises both players, and chooses the labelled images.

    Raises:
      UserError: the labels are missing, of other classes, or too few.
    """
    n = len(arrays.images)
    if arrays.labels is None or arrays.num_classes != self.num_classes:
      raise errors.UserError(
        f"system 'semi_supervised' is made for {self.num_classes} classes, "
        f"this dataset has labels of {arrays.num_classes}; set another "
        "config.dataset"
      )
    if self.num_labeled > n > 2:  # Of two a state's shapes are found.
      raise errors.UserError(
        f"config.system.num_labeled={self.num_labeled} must be {n} or fewer, "
        "the examples of the training set"
      )
    state = super().init(key, arrays)
    order = jax.random.permutation(jax.random.fold_in(key, 0), n)
    chosen = order[choose(arrays.labels[order], self.num_labeled)]
    state = state.remember(
      images=arrays.images[chosen], labels=arrays.labels[chosen]
    )
    if not self.ema_decay:
      return state
    average = Averaged.create(state.discriminator)
    return state.replace(ema={**state.ema, "discriminator": average})

  def before_d(
    self, state: State, images: jax.Array, key: jax.Array
  ) -> jax.Array:
    """Returns images `[n, ...]` as D sees them, with noise."""
    del state
    if not self.instance_noise:
      return images
    return add_noise(images, self.instance_noise, key)

  def updates(self) -> tuple[Update, ...]:
    """Returns one update: both players learn from the same batch."""
    return (Update(self.step),)

  def step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves D, then G unless it has nothing to match."""
    del skip  # Nothing here is lazy.
    real = real.replace(labels=None)
    d_key, g_key = jax.random.split(key)
    discriminator, metrics = self.discriminator_step(state, real, d_key)
    state = state.replace_nets(discriminator=discriminator)
    if not self.supervised_only:
      generator, g_metrics = self.generator_step(state, real, g_key)
      state = state.replace_nets(generator=generator)
      metrics = {**metrics, **g_metrics}
    state = state.move_averages(self.ema_decay, *state.nets)
    return state.count_step(), metrics

  def discriminator_step(
    self, state: State, real: Any, key: jax.Array
  ) -> tuple[NetState, Metrics]:
    """Returns D after an update, and metrics; `real.images [n, ...]`."""
    pick_key, labeled_key, key = jax.random.split(key, 3)
    keys = StepKeys.split(key)
    player = state.discriminator
    labeled, labels = self.draw_labeled(state, len(real.images), pick_key)
    z = self.sample_z(keys.z, len(real.images))
    fake, _ = self.generate(state.generator, z, None, keys.generator)

    def objective(params):
      net = player.replace(params=params)
      judged, stats = self.judge(
        state, net, labeled, None, labeled_key, iterate=True
      )
      logits = parallel.gather(judged.logits)
      loss = supervised_loss(logits, labels)
      metrics = {
        "supervised_loss": loss,
        "labeled_accuracy": jnp.mean(logits.argmax(1) == labels),
      }
      if not self.supervised_only:
        net = net.replace(stats=stats)
        on_real, stats = self.judge(state, net, real.images, None, keys.real)
        net = net.replace(stats=stats)
        on_fake, stats = self.judge(state, net, fake, None, keys.fake)
        log_z = (log_z_of(on_real), log_z_of(on_fake))
        unsupervised = UNSUPERVISED.discriminator(*log_z)
        metrics["unsupervised_loss"] = unsupervised
        metrics.update(measurements.of_logits(UNSUPERVISED, *log_z))
        loss += unsupervised
      return loss, (stats, {**metrics, "d_loss": loss})

    grads, (stats, metrics) = jax.grad(objective, has_aux=True)(player.params)
    grads = parallel.mean(grads)
    metrics = {
      **metrics,
      "d_grad_norm": optax.tree.norm(grads),
      **measurements.of_images(real.images, fake),
      **measurements.of_stats("d", stats),
    }
    return player.update(self.d_opt, grads, stats), metrics

  def draw_labeled(
    self, state: State, n: int, key: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns n labelled images of this device and the labels `[N]` of all."""
    images = state.memory["images"]
    labels = state.memory["labels"]

    def draw(key):
      return jax.random.randint(key, (), 0, len(labels))

    places = jax.vmap(draw)(parallel.example_keys(key, n))
    return images[places], parallel.gather(labels[places])

  def generator_step(
    self, state: State, real: Any, key: jax.Array
  ) -> tuple[NetState, Metrics]:
    """Returns G after an update, and metrics; D stays as it is.

    The loss is the squared distance of what the mean real image and the mean
    fake of the global batch are to D (Salimans et al. 2016, section 3.1).
    """
    keys = StepKeys.split(key)
    player = state.generator
    z = self.sample_z(keys.z, len(real.images))

    def mean_of(images, key):
      judged, _ = self.judge(state, state.discriminator, images, None, key)
      matched: Any = getattr(judged, self.matching)
      return parallel.gather(matched.mean(0, keepdims=True)).mean(0)

    target = mean_of(real.images, keys.real)

    def objective(params):
      net = player.replace(params=params)
      fake, stats = self.generate(net, z, None, keys.generator, iterate=True)
      return jnp.square(target - mean_of(fake, keys.fake)).sum(), stats

    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, stats), grads = value_and_grad(player.params)
    grads = parallel.mean(grads)
    metrics = {"g_loss": loss, "g_grad_norm": optax.tree.norm(grads)}
    return player.update(self.g_opt, grads, stats), metrics

  def class_logits(
    self, state: State, images: jax.Array, ema: bool
  ) -> jax.Array:
    """Returns the logits `[n, K]` of images, of the averaged D or the live."""
    net = state.net("discriminator", averaged=ema)
    return Judged.of(self.evaluate("discriminator", net, images)).logits

  @ability(takes_labels=False)
  def classify(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns the logits `[n, K]` of images as networks see them."""
    del labels
    return self.class_logits(state, images, ema=True)

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns log Z `[n]`, the live D's logit of "real", one by one."""
    del labels
    return logsumexp(self.class_logits(state, images, ema=False), axis=1)


def log_z_of(judged: Judged) -> jax.Array:
  """Returns log Z `[N]` of the global batch: the logit of "real"."""
  return parallel.gather(logsumexp(judged.logits, axis=1))


def choose(labels: jax.Array, num: int) -> jax.Array:
  """Returns the places `[num]` of the labels `[N]` that are used.

  The first of each class, then the second of each, and so on: balanced, as far
  as the classes reach. `init` shuffles before: labels belong to the seed.
  """
  n = len(labels)
  by_class = jnp.argsort(labels, stable=True)
  ordered = labels[by_class]
  # How many of its class stand before each label.
  nth = jnp.arange(n) - jnp.searchsorted(ordered, ordered)
  nth = jnp.zeros_like(nth).at[by_class].set(nth)
  return jnp.lexsort((labels, nth))[jnp.arange(num) % n]


def supervised_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the mean of -log p(label | x, real) of logits `[N, K]`."""
  own = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
  return jnp.mean(logsumexp(logits, axis=1) - own)
