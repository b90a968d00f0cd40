"""Variational autoencoders (Kingma & Welling 2014).

An encoder gives the mean and the log variance of q(z|x), a decoder p(x|z), and
the prior of z is N(0, I). Training maximises the evidence lower bound

    ELBO = E_q [log p(x|z)] - KL(q(z|x) || p(z)) <= log p(x),

in nats per image. Closer bounds on log p(x) are in `VAE.log_likelihood`.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax.objectives import latents, per_example
from ganjax.state import State
from ganjax.systems import SYSTEMS, LatentSystem, ability
from ganjax.systems.system import (
  Metrics,
  Net,
  Update,
  dropout_rngs,
  first_two,
)

# A unit of z is active where its posterior mean has a variance above this
# over the images (Burda et al. 2016, section 5.2).
ACTIVE = 0.01

# Draws of z behind a score.
SCORE_DRAWS = 16


class Likelihood(NamedTuple):
  """What a decoder's output `[n, ...]` says of images.

  Attributes:
    log_prob: `(output, images) -> log p(x|z) [n]`, summed over pixels.
    mean: `output -> images`, the mean of p(x|z).
  """

  log_prob: Callable[[jax.Array, jax.Array], jax.Array]
  mean: Callable[[jax.Array], jax.Array]


def get_likelihood(name: str, sigma: float = 1.0) -> Likelihood:
  """Returns p(x|z) "bernoulli", or "gaussian" of deviation `sigma`."""

  def total(x):
    return x.sum(tuple(range(1, x.ndim)))

  def bernoulli(logits, images):
    return total(images * logits - jax.nn.softplus(logits))

  def gaussian(mean, images):
    squares = jnp.square((images - mean) / sigma)
    return -0.5 * total(squares + math.log(2 * math.pi * sigma**2))

  def identity(mean):
    return mean

  found = {
    "bernoulli": Likelihood(log_prob=bernoulli, mean=jax.nn.sigmoid),
    "gaussian": Likelihood(log_prob=gaussian, mean=identity),
  }
  if name not in found:
    raise errors.unknown("likelihood", name, found)
  return found[name]


def kl_divergence(mean: jax.Array, log_var: jax.Array) -> jax.Array:
  """Returns KL(N(mean, diag exp log_var) || N(0, I)) `[n]` of `[n, z_dim]`.

  Kingma & Welling 2014, appendix B.
  """
  return 0.5 * (jnp.exp(log_var) + jnp.square(mean) - 1.0 - log_var).sum(1)


def reparameterize(
  mean: jax.Array, log_var: jax.Array, noise: jax.Array
) -> jax.Array:
  """Returns z `[n * L, z_dim]` of N(0, 1) noise `[n, L, z_dim]`, eq. 10."""
  z = mean[:, None] + jnp.exp(0.5 * log_var)[:, None] * noise
  return z.reshape(-1, z.shape[-1])


def repeat(x: Any, times: int) -> Any:
  """Returns `[n * times, ...]`, each row so often, of `[n, ...]` or None."""
  return x if x is None or times == 1 else jnp.repeat(x, times, axis=0)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class VariationalSystem(LatentSystem):
  """An encoder of posteriors and a decoder of z: what VAEs have in common.

  Attributes:
    encoder: see `ganjax.nets`; its outputs become 2 `z_dim`.
    decoder: a net's generator.
    ema_decay: of the averages of both, or step -> decay; 0 for none.
  """

  encoder: nn.Module
  decoder: nn.Module
  ema_decay: float | Callable[[Any], Any] = 0.0

  drawn: ClassVar[tuple[str, ...]] = ("decoder",)

  @property
  @abc.abstractmethod
  def p_of_x(self) -> Likelihood:
    """The likelihood p(x|z)."""

  @functools.cached_property
  def networks(self) -> dict[str, nn.Module]:
    """The encoder, which gives a mean and a log variance; the decoder."""
    outputs = 2 * self.z_dim
    return {
      "encoder": self.encoder.clone(outputs=outputs),  # pyright: ignore
      "decoder": self.decoder,
    }

  def init_autoencoder(
    self, key: jax.Array, arrays: Any, optimizer: optax.GradientTransformation
  ) -> State:
    """Initialises encoder and decoder; see `System.init`."""
    encoder_key, z_key, decoder_key = jax.random.split(key, 3)
    images, labels = first_two(arrays)
    encoder = self.create(
      "encoder", dropout_rngs(encoder_key), images, labels, optimizer=optimizer
    )
    z = jax.random.normal(z_key, (2, self.z_dim))
    decoder = self.create(
      "decoder",
      decoder_key,
      z,
      labels,
      optimizer=optimizer,
      images=arrays.images,
    )
    nets = {"encoder": encoder, "decoder": decoder}
    return State.create(nets, averaged=tuple(nets) if self.ema_decay else ())

  def sample_one_z(self, key: jax.Array, truncation: Any = None) -> jax.Array:
    """Draws one z `[z_dim]` from N(0, I), see `latents.normal`."""
    return latents.normal(key, self.z_dim, truncation)

  def render(
    self,
    state: State,
    nets: Mapping[str, Net],
    z: jax.Array,
    labels: Any,
    key: jax.Array | None = None,
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the mean images of p(x|z); see `LatentSystem.render`.

    Training saw z of posteriors; statistics of samples are those of z of the
    prior.
    """
    del state
    output, stats = self.pass_through(
      "decoder", nets["decoder"], z, labels, key=key
    )
    return self.p_of_x.mean(output), {"decoder": stats}

  def posterior(
    self, state: State, images: jax.Array, labels=None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns mean and log variance `[n, z_dim]` of q(z|x)."""
    code = self.evaluate("encoder", state.net("encoder"), images, labels)
    return code[:, : self.z_dim], code[:, self.z_dim :]

  @ability
  def encode(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns the mean of q(z|x), `[n, z_dim]`."""
    return self.posterior(state, images, labels)[0]

  @ability(returns="images")
  def reconstruct(
    self, state: State, images: jax.Array, labels=None
  ) -> jax.Array:
    """Returns the mean images of z at the mean of q(z|x)."""
    z = self.encode(state, images, labels)
    return self.decode(state, z, labels)


@SYSTEMS.register(name="vae")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class VAE(VariationalSystem):
  """A variational autoencoder.

  Attributes:
    encoder: see `ganjax.nets`; its outputs become 2 `z_dim`.
    decoder: a net's generator.
    opt: the optimizer of each.
    z_dim: the size of z.
    likelihood: p(x|z). "bernoulli": the decoder gives the logits of pixels.
      Grey pixels are taken as Bernoulli probabilities, as in the authors' code:
      this is the expected log-likelihood of binarised images, not a density of
      grey ones. "gaussian": the decoder gives the mean.
    sigma: the standard deviation of "gaussian".
    binarize: draw each pixel in training as 0 or 1, anew at every step, with
      its value as the probability of 1 (Salakhutdinov & Murray 2008).
    samples_per_image: draws of z for each image, the L of equation 7.
    beta: the weight of the KL term (Higgins et al. 2017).
    warm_up_steps: over which that weight rises from 0 in a line (Bowman et
      al. 2016; Sonderby et al. 2016); 0 for none.
    ema_decay: of the averages of both networks, or step -> decay; 0 for none.
    scaling: of the images.
    precision: of the networks' arithmetic in training, see `System`.

  Raises:
    UserError: a value out of range, or parts that do not fit the likelihood.
  """

  opt: optax.GradientTransformation
  z_dim: int = 20
  likelihood: str = "bernoulli"
  sigma: float = 1.0
  binarize: bool = False
  samples_per_image: int = 1
  beta: float = 1.0
  warm_up_steps: int = 0
  scaling: str = "unit"

  def __post_init__(self):
    """Checks the settings."""
    _check_least("sigma", self.sigma, 1e-6)
    _check_least("samples_per_image", self.samples_per_image, 1)
    _check_least("beta", self.beta, 0)
    _check_least("warm_up_steps", self.warm_up_steps, 0)
    output = getattr(self.decoder, "output", "linear")
    bernoulli = self.likelihood == "bernoulli"
    if bernoulli and self.scaling != "unit":
      raise errors.UserError(
        "config.system.likelihood='bernoulli' needs pixels from 0 to 1: set "
        f"config.scaling='unit', not {self.scaling!r}, or take "
        "likelihood='gaussian'"
      )
    if bernoulli and output != "linear":
      raise errors.UserError(
        "config.system.likelihood='bernoulli' takes the decoder's output as "
        f"logits: set config.decoder.output='linear', not {output!r}"
      )
    if self.binarize and not bernoulli:
      raise errors.UserError(
        "config.system.binarize=True needs likelihood='bernoulli', not "
        f"{self.likelihood!r}"
      )
    _ = self.p_of_x  # It raises where there is no such likelihood.

  @functools.cached_property
  def p_of_x(self) -> Likelihood:
    """The likelihood p(x|z)."""
    return get_likelihood(self.likelihood, self.sigma)

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises both networks; see `System.init`."""
    return self.init_autoencoder(key, arrays, self.opt)

  def updates(self) -> tuple[Update, ...]:
    """Returns the one update of both networks."""
    return (Update(self.step),)

  def step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves both networks along the gradient of the ELBO."""
    del skip  # Nothing here is lazy.
    weight = self.kl_weight(state.step)

    def objective(params):
      log_prob, mean, log_var, stats = self.pass_batch(state, params, real, key)
      log_prob = log_prob.mean()
      kl = kl_divergence(mean, log_var).mean()
      return weight * kl - log_prob, ((log_prob, kl), mean, stats)

    params = {name: net.params for name, net in state.nets.items()}
    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, (terms, mean, stats)), grads = value_and_grad(params)
    grads, loss, (log_prob, kl) = parallel.mean((grads, loss, terms))
    moments = (mean.mean(0), jnp.square(mean).mean(0))
    mean, square = parallel.mean(moments)
    spread = square - jnp.square(mean)
    metrics = {
      "loss": loss,
      "train_elbo": log_prob - kl,
      "train_kl": kl,
      "train_log_likelihood": log_prob,
      "grad_norm": optax.tree.norm(grads),
      "active_units": (spread > ACTIVE).sum(),
    }
    if self.warm_up_steps:
      metrics["kl_weight"] = weight
    nets = {
      name: net.update(self.opt, grads[name], stats[name])
      for name, net in state.nets.items()
    }
    state = state.replace_nets(**nets)
    state = state.move_averages(self.ema_decay, *nets)
    return state.count_step(), metrics

  def kl_weight(self, step: Any) -> Any:
    """Returns the weight of the KL term at a step."""
    if not self.warm_up_steps:
      return self.beta
    warm_up: Any = optax.linear_schedule(0.0, self.beta, self.warm_up_steps)
    return warm_up(step)

  def pass_batch(
    self, state: State, params: Mapping[str, Any], real: Any, key: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array, dict[str, Any]]:
    """Passes images through both networks in training mode.

    Args:
      state: for the networks' statistics.
      params: of the networks, by name.
      real: the batch, `images [n, ...]`.
      key: of the step.

    Returns:
      log p(x|z) `[n * L]`, the posterior's mean and log variance `[n, z_dim]`,
      and the networks' new statistics by their names.
    """
    noise_key, pixel_key, encoder_key, decoder_key = jax.random.split(key, 4)
    images = real.images
    if self.binarize:
      pixel_keys = parallel.example_keys(pixel_key, len(images))
      images = jax.vmap(jax.random.bernoulli)(pixel_keys, images)
      images = images.astype(jnp.float32)
    encoder = state.nets["encoder"].replace(params=params["encoder"])
    code, encoder_stats = self.forward(
      "encoder", encoder, images, real.labels, key=encoder_key, iterate=True
    )
    mean, log_var = jnp.split(code, 2, axis=1)
    times = self.samples_per_image
    noise = _normal(noise_key, len(images), (times, self.z_dim))
    decoder = state.nets["decoder"].replace(params=params["decoder"])
    output, decoder_stats = self.forward(
      "decoder",
      decoder,
      reparameterize(mean, log_var, noise),
      repeat(real.labels, times),
      key=decoder_key,
      iterate=True,
    )
    log_prob = self.p_of_x.log_prob(output, repeat(images, times))
    stats = {"encoder": encoder_stats, "decoder": decoder_stats}
    return log_prob, mean, log_var, stats

  # What a trained one can do. Networks are as they are in evaluation, their
  # averages where there are some. ---------------------------------------------

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns the ELBO of each image in nats, `[n]`, whatever beta was.

    The KL term is exact. The other is the mean over `SCORE_DRAWS` of z, always
    of the same noise, so that a score depends on nothing but the image, and in
    pairs of opposite signs, which takes out what is odd in it.
    """
    shape = (SCORE_DRAWS // 2, self.z_dim)
    half = jax.random.normal(jax.random.key(0), shape)
    noise = jnp.concatenate([half, -half])[None]
    noise = jnp.broadcast_to(noise, (len(images), *noise.shape[1:]))
    mean, log_var = self.posterior(state, images, labels)
    z = reparameterize(mean, log_var, noise)
    log_prob = self.log_prob(state, images, z, labels)
    return log_prob.mean(1) - kl_divergence(mean, log_var)

  def importance_bound(
    self,
    state: State,
    images: jax.Array,
    key: jax.Array,
    k: int,
    labels=None,
  ) -> jax.Array:
    """Returns the importance-weighted bound on log p(x) in nats, `[n]`.

    log 1/k sum_i p(x, z_i) / q(z_i|x) with k draws of each posterior (Burda et
    al. 2016, equation 8): in the mean the ELBO at k = 1, it rises with k to
    log p(x).

    Args:
      state: of the system.
      images: `[n, ...]` as networks see them; n k of them are decoded at once.
      key: the noise is a function of it.
      k: draws of z for each image.
      labels: int32 `[n]`, or None.

    Raises:
      UserError: k is not positive.
    """
    if k < 1:
      raise errors.UserError(
        f"an importance bound of k={k} draws needs 1 or more"
      )
    noise = _normal(key, len(images), (k, self.z_dim))
    mean, log_var = self.posterior(state, images, labels)
    z = reparameterize(mean, log_var, noise)
    log_prob = self.log_prob(state, images, z, labels)
    # Of log p(z) - log q(z|x), the 2 pi of both cancel.
    log_prior = -0.5 * jnp.square(z).sum(1).reshape(-1, k)
    scale = jnp.broadcast_to(log_var[:, None], noise.shape)
    log_posterior = -0.5 * (jnp.square(noise) + scale).sum(2)
    log_weights = log_prob + log_prior - log_posterior
    return jax.nn.logsumexp(log_weights, axis=1) - math.log(k)

  @ability
  def log_likelihood(
    self, state: State, images: jax.Array, labels=None, draws: int = 50
  ) -> dict[str, jax.Array]:
    """Returns bounds on log p(x) in nats of each image, `[n]`, and the parts.

    `elbo`, of which `kl` is the exact KL term, and `importance_bound` of so
    many draws. All randomness is fixed. If training draws pixels as 0 or 1
    these are drawn so, too, once.
    """
    if self.binarize:
      keys = parallel.example_keys(jax.random.key(1), len(images))
      uniform = per_example.draw(jax.random.uniform, keys, images)
      images = (uniform < images).astype(jnp.float32)
    key = jax.random.key(0)
    return {
      "elbo": self.score(state, images, labels),
      "kl": kl_divergence(*self.posterior(state, images, labels)),
      "importance_bound": self.importance_bound(
        state, images, key, draws, labels
      ),
    }

  def log_prob(
    self, state: State, images: jax.Array, z: jax.Array, labels: Any
  ) -> jax.Array:
    """Returns log p(x|z) `[n, L]` of images `[n, ...]`, z `[n * L, z_dim]`."""
    times = len(z) // len(images)
    net = state.net("decoder")
    output = self.evaluate("decoder", net, z, repeat(labels, times))
    log_prob = self.p_of_x.log_prob(output, repeat(images, times))
    return log_prob.reshape(-1, times)


def _normal(key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
  """Draws N(0, 1) noise `[n, *shape]`, each example's by its own key."""

  def draw(key):
    return jax.random.normal(key, shape)

  return jax.vmap(draw)(parallel.example_keys(key, n))


def _check_least(name: str, value: float, least: float) -> None:
  if value < least:
    raise errors.UserError(
      f"config.system.{name}={value} is out of range: {least} or more"
    )
