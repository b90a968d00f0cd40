"""What variational autoencoders compute, and what a trained one can do.

Networks are applied in evaluation mode here, their averages where there are
some; `vae` trains them.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax import state as states
from ganjax.objectives import latents as distributions
from ganjax.objectives import per_example
from ganjax.systems import sampling
from ganjax.systems.sampling import BATCH

# Draws of z behind a score.
SCORE_DRAWS = 16


@flax.struct.dataclass
class VAEState:
  """Everything that training changes; `ema` by the names of the networks."""

  step: jax.Array
  encoder: states.NetState
  decoder: states.NetState
  ema: dict[str, states.Averaged] | None


class Likelihood(NamedTuple):
  """What a decoder's output `[n, ...]` says of images.

  Attributes:
    log_prob: `(output, images) -> log p(x|z) [n]`, summed over pixels.
    mean: `output -> images`, the mean of p(x|z).
  """

  log_prob: Callable[[jax.Array, jax.Array], jax.Array]
  mean: Callable[[jax.Array], jax.Array]


class Parts(NamedTuple):
  """What the system is made of; `kl_weight` may be a function of the step."""

  encoder: nn.Module
  decoder: nn.Module
  opt: optax.GradientTransformation
  likelihood: Likelihood
  z_dim: int
  samples_per_image: int
  kl_weight: Any
  binarize: bool
  ema_decay: float | Callable[[Any], Any]
  axis_name: str | None
  dtype: Any


def get_likelihood(name: str, sigma: float = 1.0) -> Likelihood:
  """Returns p(x|z) "bernoulli", or "gaussian" of deviation `sigma`."""

  def total(x):
    return x.sum(tuple(range(1, x.ndim)))

  def gaussian(mean, images):
    squares = jnp.square((images - mean) / sigma)
    return -0.5 * total(squares + math.log(2 * math.pi * sigma**2))

  found = dict(
    bernoulli=Likelihood(
      lambda logits, x: total(x * logits - jax.nn.softplus(logits)),
      jax.nn.sigmoid,
    ),
    gaussian=Likelihood(gaussian, lambda mean: mean),
  )
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


def latents(parts: Parts, key: jax.Array, n: int, truncation=None) -> jax.Array:
  """Draws z `[n, z_dim]` from N(0, I), see `latents.normal`."""
  draw: Any = functools.partial(
    distributions.normal, z_dim=parts.z_dim, truncation=truncation
  )
  return jax.vmap(draw)(parallel.example_keys(key, n, None))


def decode(
  parts: Parts, state: VAEState, z: jax.Array, labels=None, ema: bool = True
) -> jax.Array:
  """Returns the mean images `[n, ...]` of p(x|z), as networks see them."""
  return parts.likelihood.mean(_output(parts, state, z, labels, ema))


def sample(
  parts: Parts,
  state: VAEState,
  key: jax.Array,
  n: int,
  labels=None,
  ema: bool = True,
  truncation=None,
  batch: bool = False,
) -> jax.Array:
  """Draws z from the prior; returns mean images, see `sampling.sample`."""
  z = latents(parts, key, n, truncation)
  if not batch:
    return decode(parts, state, z, labels, ema)
  net = _net(state, "decoder", ema)
  output, _ = states.forward(
    parts.decoder, net.params, net.stats, z, labels, key=key
  )
  return parts.likelihood.mean(output)


def settle(
  parts: Parts,
  state: VAEState,
  key: jax.Array,
  n: int,
  labels,
  ema: bool,
  truncation,
  weight,
) -> VAEState:
  """Moves the decoder's running statistics, see `sampling.settle`.

  Training saw z of posteriors; these are the statistics of z of the prior.
  """
  net = _net(state, "decoder", ema)
  if BATCH not in net.stats:
    return state
  z = latents(parts, key, n, truncation)

  def update(running):
    stats = {**net.stats, BATCH: running}
    apply = functools.partial(states.forward, parts.decoder, key=key)
    return apply(net.params, stats, z, labels)[1][BATCH]

  new = sampling.moved(update, net.stats[BATCH], weight)
  net = dataclasses.replace(net, stats={**net.stats, BATCH: new})
  if ema and state.ema:
    return dataclasses.replace(state, ema={**state.ema, "decoder": net})
  return dataclasses.replace(state, decoder=net)


def posterior(
  parts: Parts, state: VAEState, images: jax.Array, labels=None
) -> tuple[jax.Array, jax.Array]:
  """Returns mean and log variance `[n, z_dim]` of q(z|x)."""
  net = _net(state, "encoder")
  variables = {"params": net.params, **net.stats}
  code: Any = parts.encoder.apply(variables, images, labels, train=False)
  return code[:, : parts.z_dim], code[:, parts.z_dim :]


def encode(
  parts: Parts, state: VAEState, images: jax.Array, labels=None
) -> jax.Array:
  """Returns the mean of q(z|x), `[n, z_dim]`."""
  return posterior(parts, state, images, labels)[0]


def reconstruct(
  parts: Parts, state: VAEState, images: jax.Array, labels=None
) -> jax.Array:
  """Returns the mean images of z at the mean of q(z|x)."""
  return decode(parts, state, encode(parts, state, images, labels), labels)


def score(
  parts: Parts, state: VAEState, images: jax.Array, labels=None
) -> jax.Array:
  """Returns the ELBO of each image in nats, `[n]`, whatever beta was.

  The KL term is exact. The other is the mean over `SCORE_DRAWS` of z, always of
  the same noise, so that a score depends on nothing but the image, and in pairs
  of opposite signs, which takes out what is odd in it.
  """
  shape = SCORE_DRAWS // 2, parts.z_dim
  half = jax.random.normal(jax.random.key(0), shape)
  noise = jnp.concatenate([half, -half])[None]
  noise = jnp.broadcast_to(noise, (len(images), *noise.shape[1:]))
  mean, log_var = posterior(parts, state, images, labels)
  z = reparameterize(mean, log_var, noise)
  log_prob = _log_prob(parts, state, images, z, labels)
  return log_prob.mean(1) - kl_divergence(mean, log_var)


def importance_bound(
  parts: Parts,
  state: VAEState,
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
    parts: of the system.
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
  keys = parallel.example_keys(key, len(images), None)
  noise = jax.vmap(lambda key: jax.random.normal(key, (k, parts.z_dim)))(keys)
  mean, log_var = posterior(parts, state, images, labels)
  z = reparameterize(mean, log_var, noise)
  log_prob = _log_prob(parts, state, images, z, labels)
  # Of log p(z) - log q(z|x), the 2 pi of both cancel.
  log_prior = -0.5 * jnp.square(z).sum(1).reshape(-1, k)
  scale = jnp.broadcast_to(log_var[:, None], noise.shape)
  log_posterior = -0.5 * (jnp.square(noise) + scale).sum(2)
  log_weights = log_prob + log_prior - log_posterior
  return jax.nn.logsumexp(log_weights, axis=1) - math.log(k)


def log_likelihood(
  parts: Parts, state: VAEState, images, labels=None, draws: int = 50
) -> dict[str, jax.Array]:
  """Returns bounds on log p(x) in nats of each image, `[n]`, and the parts.

  `elbo`, of which `kl` is the exact KL term, and `importance_bound` of so many
  draws. All randomness is fixed. If training draws pixels as 0 or 1 these are
  drawn so, too, once.
  """
  if parts.binarize:
    keys = parallel.example_keys(jax.random.key(1), len(images), None)
    images = per_example.draw(jax.random.uniform, keys, images) < images
    images = images.astype(jnp.float32)
  key = jax.random.key(0)
  return dict(
    elbo=score(parts, state, images, labels),
    kl=kl_divergence(*posterior(parts, state, images, labels)),
    importance_bound=importance_bound(parts, state, images, key, draws, labels),
  )


def _net(state: VAEState, name: str, ema: bool = True) -> Any:
  return state.ema[name] if ema and state.ema else getattr(state, name)


def _output(parts: Parts, state: VAEState, z, labels, ema=True) -> Any:
  net = _net(state, "decoder", ema)
  variables = {"params": net.params, **net.stats}
  return parts.decoder.apply(variables, z, labels, train=False)


def _log_prob(parts: Parts, state: VAEState, images, z, labels) -> jax.Array:
  """Returns log p(x|z) `[n, L]` of images `[n, ...]` and z `[n * L, z_dim]`."""
  times = len(z) // len(images)
  output = _output(parts, state, z, repeat(labels, times))
  log_prob = parts.likelihood.log_prob(output, repeat(images, times))
  return log_prob.reshape(-1, times)
