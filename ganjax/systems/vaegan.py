"""VAE/GAN: a VAE whose errors are those that a discriminator sees.

Larsen et al. 2016: not pixels but features of images are to come back, those
of a discriminator that learns beside the VAE. With z of q(z|x) and x' = Dec(z),
and z_p of the prior and x_p = Dec(z_p), the terms of equation 8 are

    kl          L_prior, KL(q(z|x) || N(0, I))
    similarity  L_llike of equation 7, |Dis_l(x) - Dis_l(x')|^2 / 2
    L_GAN       log Dis(x) + log(1 - Dis(x')) + log(1 - Dis(x_p))

and each network minimises its own sum of them (Algorithm 1): Enc kl +
similarity, Dec gamma similarity + L_GAN, Dis -L_GAN.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import parallel
from ganjax.nets.judged import Judged
from ganjax.objectives import losses, measurements
from ganjax.state import State
from ganjax.systems import SYSTEMS, ability
from ganjax.systems.adversarial import features_of, judge_alone
from ganjax.systems.system import Metrics, Update, dropout_rngs, first_two
from ganjax.systems.vae import (
  Likelihood,
  VariationalSystem,
  get_likelihood,
  kl_divergence,
  reparameterize,
)


class Terms(NamedTuple):
  """The losses of which each network minimises a sum, or their weights."""

  kl: Any
  similarity: Any
  g_loss: Any
  d_loss: Any


class Game(NamedTuple):
  """What a pass through all networks gives beside its `Terms`.

  Attributes:
    stats: the networks' new statistics, by name.
    real_logits: `[2 N]` of the global batch, the reals' twice.
    fake_logits: `[2 N]` of the global batch, of x' and of x_p.
    rebuilt: x' `[n, ...]`.
    drawn: x_p `[n, ...]`.
  """

  stats: dict[str, Any]
  real_logits: jax.Array
  fake_logits: jax.Array
  rebuilt: jax.Array
  drawn: jax.Array


@SYSTEMS.register(name="vaegan")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class VAEGAN(VariationalSystem):
  """A VAE whose decoder is also a GAN's generator.

  Attributes:
    encoder: see `ganjax.nets`; its outputs become 2 `z_dim`.
    decoder: a net's generator.
    discriminator: see `ganjax.nets`. Its features, which make the logit, stand
      for Dis_l(x). The similarity is a sum over these features, as the log of a
      Gaussian with identity covariance is (its constant is left out), and a
      mean over images. So it grows with the size of the features: batch norm in
      D, as the paper has it, sets that.
    loss: of the decoder and of D. Its fakes are x' and x_p alike, twice as
      many as there are real images. The mean over both has the weight of the
      reals' mean, as in the authors' code; the sum in Algorithm 1 would give
      fakes two votes. Its `minimax` is the paper's.
    g_opt: of the encoder and of the decoder.
    d_opt: of the discriminator.
    z_dim: the size of z.
    gamma: the weight of the similarity for the decoder; 0 for a pure GAN. The
      encoder always has it at 1.
    ema_decay: of the averages of encoder and decoder.
    precision: of the networks' arithmetic in training, see `System`.
  """

  discriminator: nn.Module
  loss: losses.Loss
  g_opt: optax.GradientTransformation
  d_opt: optax.GradientTransformation
  gamma: float = 0.01

  @functools.cached_property
  def p_of_x(self) -> Likelihood:
    """A Gaussian, whose mean is the decoder's output."""
    return get_likelihood("gaussian")

  @functools.cached_property
  def networks(self) -> dict[str, nn.Module]:
    """Encoder and decoder as in a VAE, and the discriminator."""
    autoencoder = super().networks
    return {**autoencoder, "discriminator": self.discriminator}

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises all players; see `System.init`."""
    key, d_key = jax.random.split(key)
    state = self.init_autoencoder(key, arrays, self.g_opt)
    images, labels = first_two(arrays)
    discriminator = self.create(
      "discriminator",
      dropout_rngs(d_key),
      images,
      labels,
      optimizer=self.d_opt,
    )
    return state.replace_nets(discriminator=discriminator)

  def updates(self) -> tuple[Update, ...]:
    """Returns the one update, of all networks at once."""
    return (Update(self.step),)

  def step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves all three networks at once, on one batch: Algorithm 1's iteration.

    One pass serves all of them: its terms are pulled back once for each
    network, with that network's weights.
    """
    del skip  # Nothing here is lazy.

    def play(params):
      return self.play(state, params, real, key)

    weights = weights_of(self.gamma)
    params = {name: state.nets[name].params for name in weights}
    terms, pull, game = jax.vjp(play, params, has_aux=True)
    grads = {
      name: pull(jax.tree.map(jnp.float32, own))[0][name]
      for name, own in weights.items()
    }
    grads, terms = parallel.mean((grads, terms))
    metrics = {
      **terms._asdict(),
      **self.measure(real.images, game),
      **measurements.of_stats("d", game.stats["discriminator"]),
    }
    nets = {}
    for name, letter in (
      ("encoder", "e"),
      ("decoder", "g"),
      ("discriminator", "d"),
    ):
      optimizer = self.d_opt if name == "discriminator" else self.g_opt
      nets[name] = state.nets[name].update(
        optimizer, grads[name], game.stats[name]
      )
      metrics[f"{letter}_grad_norm"] = optax.tree.norm(grads[name])
    state = state.replace_nets(**nets)
    state = state.move_averages(self.ema_decay, "encoder", "decoder")
    return state.count_step(), metrics

  def play(
    self, state: State, params: Mapping[str, Any], real: Any, key: jax.Array
  ) -> tuple[Terms, Game]:
    """Passes a batch through all networks in training mode.

    D sees x, x' and x_p one after another, each batch normalised by its own
    statistics. What it drops of x it drops of x', so that equal images have
    equal features.

    Args:
      state: for the networks' statistics.
      params: name -> parameters.
      real: the batch, `images [n, ...]`.
      key: of the step.
    """
    keys = jax.random.split(key, 7)
    n = len(real.images)
    labels = real.labels
    stats = {name: state.nets[name].stats for name in params}

    def apply(name, inputs, key, iterate=False):
      net = state.nets[name].replace(params=params[name], stats=stats[name])
      output, stats[name] = self.forward(
        name, net, inputs, labels, key=key, iterate=iterate
      )
      return output

    def judge(images, key, iterate=False):
      return Judged.of(apply("discriminator", images, key, iterate))

    code = apply("encoder", real.images, keys[0], iterate=True)
    mean, log_var = jnp.split(code, 2, axis=1)
    noise = self._normal(keys[1], n)
    z = reparameterize(mean, log_var, noise[:, None])
    rebuilt = apply("decoder", z, keys[3], iterate=True)
    drawn = apply("decoder", self._normal(keys[2], n), keys[4])
    on_real = judge(real.images, keys[5], iterate=True)
    on_rebuilt = judge(rebuilt, keys[5])
    on_drawn = judge(drawn, keys[6])
    real_logits = jnp.concatenate([on_real.logits, on_real.logits])
    fake_logits = jnp.concatenate([on_rebuilt.logits, on_drawn.logits])
    real_logits = parallel.gather(real_logits)
    fake_logits = parallel.gather(fake_logits)
    difference = features_of(on_real) - features_of(on_rebuilt)
    terms = Terms(
      kl=kl_divergence(mean, log_var).mean(),
      similarity=0.5 * jnp.square(difference).sum() / n,
      g_loss=self.loss.generator(real_logits, fake_logits),
      d_loss=self.loss.discriminator(real_logits, fake_logits),
    )
    game = Game(
      stats=stats,
      real_logits=real_logits,
      fake_logits=fake_logits,
      rebuilt=rebuilt,
      drawn=drawn,
    )
    return terms, game

  def measure(self, images: jax.Array, game: Game) -> Metrics:
    """Returns what a step says of itself; of z as drawn, of networks before it.

    `reconstruction_error` is the mean square of x - x', `spread` that of x_p.
    """
    error = jnp.square(images - game.rebuilt).mean()
    logits = (game.real_logits, game.fake_logits)
    return {
      "reconstruction_error": parallel.mean(error),
      **measurements.of_logits(self.loss, *logits),
      **measurements.of_generator(self.loss, *logits),
      **measurements.of_images(images, game.drawn),
    }

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns D's logits `[n]` of images as networks see them, one by one."""
    return judge_alone(self, state, images, labels).logits.reshape(-1)

  def _normal(self, key: jax.Array, n: int) -> jax.Array:
    """Draws z `[n, z_dim]` of this device's share of a batch."""
    return jax.vmap(self.sample_one_z)(parallel.example_keys(key, n))


def weights_of(gamma: float) -> dict[str, Terms]:
  """Returns what each network minimises: the weight of each of the terms."""
  return {
    "encoder": Terms(kl=1.0, similarity=1.0, g_loss=0.0, d_loss=0.0),
    "decoder": Terms(kl=0.0, similarity=gamma, g_loss=1.0, d_loss=0.0),
    "discriminator": Terms(kl=0.0, similarity=0.0, g_loss=0.0, d_loss=1.0),
  }
