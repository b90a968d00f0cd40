"""Adversarially learned inference: an encoder that inverts the generator.

BiGAN (Donahue et al. 2017), also ALI (Dumoulin et al. 2017): D judges pairs,
(x, E(x)) of the data and (G(z), z) of the prior; G and E make them alike.

    min_{G, E} max_D  E_x log D(x, E(x)) + E_z log(1 - D(G(z), z))

At the optimum G and E invert each other (theorem 2). The baseline is extension
2 of Goodfellow et al. 2014: E predicts z from G's own samples, as wake-sleep's.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax.objectives import losses, measurements
from ganjax.state import NetState, State
from ganjax.systems import SYSTEMS, ability
from ganjax.systems.adversarial import AdversarialSystem, StepKeys
from ganjax.systems.gan import GAN
from ganjax.systems.system import Metrics, Update, dropout_rngs, first_two


class Pairs(NamedTuple):
  """What a pass of both pairs through all networks gives.

  Attributes:
    real_logits: `[N]` of the global batch, of (x, E(x)).
    fake_logits: `[N]` of the global batch, of (G(z), z).
    stats: the networks' new statistics, by name.
    fake: G(z) `[n, ...]`.
  """

  real_logits: jax.Array
  fake_logits: jax.Array
  stats: dict[str, Any]
  fake: jax.Array


@SYSTEMS.register(name="bigan")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BiGAN(AdversarialSystem):
  """A generator, an encoder and their judge.

  Attributes:
    generator: see `ganjax.nets`.
    encoder: see `ganjax.nets`; it is given `z_dim` outputs.
    discriminator: see `ganjax.nets`. A judge of pairs sees an image's values
      and z as one vector: it is a net of vectors, "mlp".
    loss: what D minimises; for G and E see `pair_loss`.
    g_opt: of the generator and of the encoder.
    d_opt: of the discriminator.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    latent_regression: the baseline: D judges images alone, E has
      `encoder_step`.
    freeze_generator: the baseline for a fixed G: E alone is trained, and the
      parameters of G, those of `config.start_from`, stay as they are.
    ema_decay: of the averages of G and E.
    precision: of the networks' arithmetic in training, see `System`.

  Raises:
    UserError: the loss has no mirror image; by `init`, D sees no vectors.
  """

  encoder: nn.Module
  loss: losses.Loss
  z_dim: int = 50
  latent: str = "uniform"
  latent_regression: bool = False
  freeze_generator: bool = False

  def __post_init__(self):
    """Checks that the loss has a mirror image, where one is needed."""
    super().__post_init__()
    if not self.joint or self.loss.generator_uses_real:
      return
    if self.loss.probability(jnp.zeros(())) != 0.5:
      raise errors.UserError(
        "system 'bigan' needs a loss with D(x) = 1/2 at a logit of 0, such as "
        "non_saturating, hinge, or least_squares with fake_target=-1"
      )

  @property
  def joint(self) -> bool:
    """Whether D judges pairs, not images."""
    return not (self.latent_regression or self.freeze_generator)

  @functools.cached_property
  def networks(self) -> dict[str, nn.Module]:
    """The players, each with the sizes that its part asks for."""
    networks: dict[str, Any] = {
      "generator": self.generator,
      "encoder": self.encoder.clone(outputs=self.z_dim),  # pyright: ignore
    }
    if self.freeze_generator:
      return networks
    discriminator: Any = self.discriminator
    if self.joint:
      image_shape = getattr(self.generator, "image_shape", ())
      size = math.prod(image_shape) + self.z_dim
      discriminator = discriminator.clone(image_shape=(size,))
    return {**networks, "discriminator": discriminator}

  def abilities(self) -> dict[str, Callable[..., Any]]:
    """Returns what the system can do; without a judge it scores nothing."""
    found = super().abilities()
    if self.freeze_generator:
      del found["score"]
    return found

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises all players; see `System.init`."""
    key, d_key, z_key = jax.random.split(key, 3)
    # G and E start as the players of a GAN do: the encoder from images, as
    # its discriminator.
    start_key, e_key, start_z_key = jax.random.split(key, 3)
    images, labels = first_two(arrays)
    z = jax.vmap(self.sample_one_z)(jax.random.split(start_z_key, 2))
    nets = {
      "generator": self.create(
        "generator",
        start_key,
        z,
        labels,
        optimizer=self.g_opt,
        images=arrays.images,
      ),
      "encoder": self.create(
        "encoder", dropout_rngs(e_key), images, labels, optimizer=self.g_opt
      ),
    }
    averaged = ("generator", "encoder") if self.ema_decay else ()
    if self.freeze_generator:
      # A fixed G is its own average.
      return State.create(nets, averaged[1:])
    shown = images
    if self.joint:
      z = jax.vmap(self.sample_one_z)(jax.random.split(z_key, 2))
      shown = pair(images, z)
    nets["discriminator"] = self._create_judge(d_key, shown, labels)
    return State.create(nets, averaged)

  def _create_judge(
    self, key: jax.Array, shown: jax.Array, labels: Any
  ) -> NetState:
    try:
      return self.create(
        "discriminator",
        dropout_rngs(key),
        shown,
        labels,
        optimizer=self.d_opt,
      )
    except ValueError as error:
      if not self.joint:
        raise
      raise errors.UserError(
        "system 'bigan' shows D images and z as one vector: it needs "
        "config.discriminator.name='mlp', or "
        "config.system.latent_regression=True"
      ) from error

  def updates(self) -> tuple[Update, ...]:
    """Returns the updates of all who learn, from one batch."""
    if self.joint:
      return (
        Update(self.discriminator_step),
        Update(self.generator_encoder_step),
      )
    if self.freeze_generator:
      return (Update(self.encoder_step),)
    return (Update(self.gan_step), Update(self.encoder_step))

  def play(
    self,
    state: State,
    params: dict[str, Any],
    real: Any,
    key: jax.Array,
    iterate: bool = False,
  ) -> Pairs:
    """Passes real and fake pairs through all networks in training mode.

    Args:
      state: of the system.
      params: of those networks that are not as in the state, by name.
      real: the batch, `images [n, ...]`.
      key: of the update.
      iterate: whether D's spectral norms refine their singular vectors.
    """
    nets = {
      name: net.replace(params=params.get(name, net.params))
      for name, net in state.nets.items()
    }
    key, e_key = jax.random.split(key)
    keys = StepKeys.split(key)
    z = self.sample_z(keys.z, len(real.images))
    fake, g_stats = self.generate(
      nets["generator"], z, real.labels, keys.generator, iterate=True
    )
    code, e_stats = self.forward(
      "encoder",
      nets["encoder"],
      real.images,
      real.labels,
      key=e_key,
      iterate=True,
    )
    real = real.replace(images=pair(real.images, code))
    on_real, on_fake, d_stats = self.judge_both(
      state, nets["discriminator"], real, pair(fake, z), keys, iterate
    )
    stats = {
      "generator": g_stats,
      "encoder": e_stats,
      "discriminator": d_stats,
    }
    return Pairs(
      real_logits=on_real.logits,
      fake_logits=on_fake.logits,
      stats=stats,
      fake=fake,
    )

  def discriminator_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves the judge of pairs."""
    del skip  # Nothing here is lazy.
    player = state.discriminator

    def objective(params):
      pairs = self.play(
        state, {"discriminator": params}, real, key, iterate=True
      )
      loss = self.loss.discriminator(pairs.real_logits, pairs.fake_logits)
      return loss, pairs

    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, pairs), grads = value_and_grad(player.params)
    grads = parallel.mean(grads)
    logits = (pairs.real_logits, pairs.fake_logits)
    metrics = {
      "d_loss": loss,
      "d_grad_norm": optax.tree.norm(grads),
      **measurements.of_logits(self.loss, *logits),
      **measurements.of_images(real.images, pairs.fake),
    }
    player = player.update(self.d_opt, grads, pairs.stats["discriminator"])
    return state.replace_nets(discriminator=player), metrics

  def generator_encoder_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves G and E against the judge of pairs; `g_loss` is of both."""
    del skip  # Nothing here is lazy.
    names = ("generator", "encoder")

    def objective(params):
      pairs = self.play(state, params, real, key)
      loss = pair_loss(self.loss, pairs.real_logits, pairs.fake_logits)
      return loss, pairs

    params = {name: state.nets[name].params for name in names}
    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, pairs), grads = value_and_grad(params)
    grads = parallel.mean(grads)
    metrics = {
      "g_loss": loss,
      "g_grad_norm": optax.tree.norm(grads["generator"]),
      "e_grad_norm": optax.tree.norm(grads["encoder"]),
      **measurements.of_generator(
        self.loss, pairs.real_logits, pairs.fake_logits
      ),
    }
    nets = {
      name: state.nets[name].update(self.g_opt, grads[name], pairs.stats[name])
      for name in names
    }
    return self._finish(state.replace_nets(**nets), real, metrics)

  def gan_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves D, which judges images, and then G, as in a plain GAN."""
    del skip  # Nothing here is lazy.
    d_key, g_key = jax.random.split(key)
    # Without an average: the steps of a GAN then move the two players alone.
    gan = GAN(
      generator=self.generator,
      discriminator=self.discriminator,
      loss=self.loss,
      g_opt=self.g_opt,
      d_opt=self.d_opt,
      z_dim=self.z_dim,
      latent=self.latent,
      precision=self.precision,
    )
    averages = state.ema
    state = state.replace(ema={})
    after_d, d_metrics = gan.discriminator_step(state, real, d_key)
    after_g, g_metrics = gan.generator_step(after_d, real, g_key)
    # The step is counted when E has moved, too.
    state = after_g.replace(step=state.step, ema=averages)
    return state, {**d_metrics, **g_metrics}

  def encoder_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves E towards the z of G's samples.

    Its loss, `loss` if nothing else learns, is the mean square of z - E(G(z)).
    A fixed G's running statistics, not of `start_from`, become its samples'.
    """
    del skip  # Nothing here is lazy.
    generator = state.generator
    encoder = state.nets["encoder"]
    keys = StepKeys.split(key)
    z = self.sample_z(keys.z, len(real.images))
    fake, g_stats = self.generate(generator, z, real.labels, keys.generator)

    def objective(params):
      net = encoder.replace(params=params)
      code, stats = self.forward(
        "encoder", net, fake, real.labels, key=keys.fake, iterate=True
      )
      return jnp.square(code - z).mean(), stats

    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, stats), grads = value_and_grad(encoder.params)
    loss, grads = parallel.mean((loss, grads))
    metrics = {
      "loss" if self.freeze_generator else "e_loss": loss,
      "e_grad_norm": optax.tree.norm(grads),
    }
    state = state.replace_nets(encoder=encoder.update(self.g_opt, grads, stats))
    if self.freeze_generator:
      generator = generator.replace(stats=g_stats)
      state = state.replace_nets(generator=generator)
    return self._finish(state, real, metrics)

  def _finish(
    self, state: State, real: Any, metrics: Metrics
  ) -> tuple[State, Metrics]:
    """Moves the averages, counts the step, and measures reconstructions."""
    state = state.move_averages(self.ema_decay, "generator", "encoder")
    state = state.count_step()
    rebuilt = self.reconstruct(state, real.images, real.labels)
    error = jnp.square(rebuilt - real.images).mean()
    return state, {**metrics, "reconstruction_error": parallel.mean(error)}

  @ability
  def encode(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns E(x) `[n, z_dim]`, of the averaged E if there is one."""
    return self.evaluate("encoder", state.net("encoder"), images, labels)

  @ability(returns="images")
  def reconstruct(
    self, state: State, images: jax.Array, labels=None
  ) -> jax.Array:
    """Returns G(E(x)) `[n, ...]` of images as networks see them."""
    z = self.encode(state, images, labels)
    return self.decode(state, z, labels)

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns D's logits `[n]` of pairs (x, E(x)), or of images alone."""
    shown = images
    if self.joint:
      shown = pair(images, self.encode(state, images, labels))
    return super().score(state, shown, labels)


def pair(images: jax.Array, z: jax.Array) -> jax.Array:
  """Returns `[n, d + z_dim]` of images of d pixels and channels, and z."""
  return jnp.concatenate([images.reshape(len(images), -1), z], axis=-1)


def pair_loss(loss: losses.Loss, real: jax.Array, fake: jax.Array) -> jax.Array:
  """Returns what G and E minimise, a scalar, of pairs' logits `[N]` and `[N]`.

  E does with a real logit what G does with the negative of a fake one: of
  minimax that is the value above; of non_saturating, D's loss with exchanged
  labels (Donahue et al. 2017). A relativistic loss is one of both already.
  """
  if loss.generator_uses_real:
    return loss.generator(real, fake)
  return loss.generator(real, fake) + loss.generator(-fake, -real)
