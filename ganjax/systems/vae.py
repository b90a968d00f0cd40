"""Variational autoencoders (Kingma & Welling 2014).

An encoder gives the mean and the log variance of q(z|x), a decoder p(x|z), and
the prior of z is N(0, I). Training maximises the evidence lower bound

    ELBO = E_q [log p(x|z)] - KL(q(z|x) || p(z)) <= log p(x),

in nats per image. What a trained one can do is in `variational`, closer bounds
on log p(x) (`variational.log_likelihood`) included.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax import state as states
from ganjax.systems import System, variational
from ganjax.systems.variational import Parts, VAEState

# A unit of z is active where its posterior mean has a variance above this
# over the images (Burda et al. 2016, section 5.2).
ACTIVE = 0.01


def make(
  encoder: nn.Module,
  decoder: nn.Module,
  opt: optax.GradientTransformation,
  *,
  z_dim: int = 20,
  likelihood: str = "bernoulli",
  sigma: float = 1.0,
  binarize: bool = False,
  samples_per_image: int = 1,
  beta: float = 1.0,
  warm_up_steps: int = 0,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  scaling: str = "unit",
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns the VAE of an encoder and a decoder.

  Args:
    encoder: see `ganjax.nets`; its outputs become 2 `z_dim`.
    decoder: a net's generator.
    opt: the optimizer of each.
    z_dim: the size of z.
    likelihood: p(x|z). "bernoulli": the decoder gives the logits of pixels;
      those between 0 and 1 count as shares of both, as in the authors' code,
      which is no density of such pixels, but the mean of the term over images
      whose pixels are drawn with these probabilities. "gaussian": the decoder
      gives the mean.
    sigma: the standard deviation of "gaussian".
    binarize: draw each pixel in training as 0 or 1, anew at every step, with
      its value as the probability of 1 (Salakhutdinov & Murray 2008).
    samples_per_image: draws of z for each image, the L of equation 7.
    beta: the weight of the KL term (Higgins et al. 2017).
    warm_up_steps: over which that weight rises from 0 in a line (Bowman et
      al. 2016; Sonderby et al. 2016); 0 for none.
    ema_decay: of the averages of both networks, or step -> decay; 0 for none.
    scaling: of the images.
    precision: of the networks' arithmetic in training, see `gan.make`.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: a value out of range, or parts that do not fit the likelihood.
  """
  limits = [("sigma", sigma, 1e-6), ("samples_per_image", samples_per_image, 1)]
  limits += [("beta", beta, 0), ("warm_up_steps", warm_up_steps, 0)]
  for name, value, least in limits:
    if value < least:
      raise errors.UserError(
        f"config.system.{name}={value} is out of range: {least} or more"
      )
  output = getattr(decoder, "output", "linear")
  if likelihood == "bernoulli" and scaling != "unit":
    raise errors.UserError(
      "config.system.likelihood='bernoulli' needs pixels from 0 to 1: set "
      f"config.scaling='unit', not {scaling!r}, or take likelihood='gaussian'"
    )
  if likelihood == "bernoulli" and output != "linear":
    raise errors.UserError(
      "config.system.likelihood='bernoulli' takes the decoder's output as "
      f"logits: set config.decoder.output='linear', not {output!r}"
    )
  if binarize and likelihood != "bernoulli":
    raise errors.UserError(
      "config.system.binarize=True needs likelihood='bernoulli', not "
      f"{likelihood!r}"
    )
  warm_up: Any = optax.linear_schedule(0.0, beta, warm_up_steps)
  parts = Parts(
    encoder.clone(outputs=2 * z_dim),
    decoder,
    opt,
    variational.get_likelihood(likelihood, sigma),
    z_dim,
    samples_per_image,
    warm_up if warm_up_steps else beta,
    binarize,
    ema_decay,
    axis_name,
    jnp.dtype(precision),
  )
  # All but training is on one device.
  alone = parts._replace(axis_name=None, dtype=jnp.float32)
  if axis_name:
    alone = alone._replace(
      encoder=parts.encoder.clone(axis_name=None),
      decoder=decoder.clone(axis_name=None),
    )
  num_classes = getattr(decoder, "num_classes", 0)
  return System(
    init=functools.partial(init, parts),
    train_step=functools.partial(train_step, parts),
    sample=functools.partial(variational.sample, alone),
    settle=functools.partial(variational.settle, alone),
    networks=dict(encoder=parts.encoder, decoder=decoder),
    latents=functools.partial(variational.latents, alone),
    decode=functools.partial(variational.decode, alone),
    score=functools.partial(variational.score, alone),
    encode=functools.partial(variational.encode, alone),
    reconstruct=functools.partial(variational.reconstruct, alone),
    log_likelihood=functools.partial(variational.log_likelihood, alone),
    num_classes=num_classes,
    conditional=bool(num_classes) and getattr(decoder, "conditional", False),
  )


def init(parts: Parts, key: jax.Array, arrays: Any) -> VAEState:
  """Initialises both networks; `arrays.images [N, ...]` as they see them."""
  keys = jax.random.split(key, 3)
  labels = None if arrays.labels is None else arrays.labels[:2]
  rngs = {"params": keys[0], "dropout": keys[0]}
  variables = parts.encoder.init(rngs, arrays.images[:2], labels)
  encoder = states.NetState.create(variables, parts.opt)
  z = jax.random.normal(keys[1], (2, parts.z_dim))
  variables = parts.decoder.init(keys[2], z, labels)
  if hasattr(parts.decoder, "init_from_data"):
    fitted: Any = parts.decoder.init_from_data
    params = fitted(variables["params"], arrays.images)
    variables = {**variables, "params": params}
  decoder = states.NetState.create(variables, parts.opt)
  ema = None
  if parts.ema_decay:
    pairs = [("encoder", encoder), ("decoder", decoder)]
    ema = {name: states.Averaged.create(net) for name, net in pairs}
  return VAEState(jnp.int32(0), encoder, decoder, ema)


def train_step(
  parts: Parts, state: VAEState, batch: Any, key: jax.Array, skip=()
) -> tuple[VAEState, dict[str, jax.Array]]:
  """One step along the gradient of the ELBO; `batch.images [1, n, ...]`."""
  del skip
  real = jax.tree.map(lambda x: x[0], batch)
  old = dict(encoder=state.encoder, decoder=state.decoder)
  mean_over = functools.partial(parallel.mean, axis_name=parts.axis_name)
  weight, metrics = _kl_weight(parts, state.step)

  def loss_fn(params):
    nets = {k: (params[k], net.stats) for k, net in old.items()}
    log_prob, mean, log_var, stats = forward(parts, nets, real, key)
    terms = log_prob.mean(), variational.kl_divergence(mean, log_var).mean()
    return weight * terms[1] - terms[0], (terms, mean, stats)

  params = {k: net.params for k, net in old.items()}
  (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
  terms, mean, stats = aux
  grads, loss, terms = mean_over((grads, loss, terms))
  moments = mean_over((mean.mean(0), jnp.square(mean).mean(0)))
  metrics |= dict(loss=loss, train_elbo=terms[0] - terms[1], train_kl=terms[1])
  metrics |= dict(train_log_likelihood=terms[0])
  metrics["grad_norm"] = optax.tree.norm(grads)
  spread = moments[1] - jnp.square(moments[0])
  metrics["active_units"] = (spread > ACTIVE).sum()
  new = {k: net.update(parts.opt, grads[k], stats[k]) for k, net in old.items()}
  ema = state.ema and {
    k: average.update(new[k], parts.ema_decay, state.step)
    for k, average in state.ema.items()
  }
  return VAEState(state.step + 1, ema=ema, **new), metrics


def _kl_weight(parts: Parts, step) -> tuple[Any, dict[str, Any]]:
  """Returns the KL term's weight now, and it as a metric if it changes."""
  if not callable(parts.kl_weight):
    return parts.kl_weight, {}
  weight = parts.kl_weight(step)
  return weight, {"kl_weight": weight}


def forward(parts: Parts, nets, real: Any, key: jax.Array):
  """Passes images through both networks in training mode.

  Args:
    parts: of the system.
    nets: name -> `(params, stats)`.
    real: the batch, `images [n, ...]`.
    key: of the step.

  Returns:
    log p(x|z) `[n * L]`, the posterior's mean and log variance `[n, z_dim]`,
    and the networks' new statistics by their names.
  """
  keys, images = jax.random.split(key, 4), real.images
  noise_keys, pixel_keys = (
    parallel.example_keys(k, len(images), parts.axis_name) for k in keys[:2]
  )
  if parts.binarize:
    images = jax.vmap(jax.random.bernoulli)(pixel_keys, images)
    images = images.astype(jnp.float32)
  apply = functools.partial(states.forward, dtype=parts.dtype)
  stats = {}
  code, stats["encoder"] = apply(
    parts.encoder, *nets["encoder"], images, real.labels, key=keys[2]
  )
  mean, log_var = jnp.split(code, 2, axis=1)
  times = parts.samples_per_image
  shape = times, parts.z_dim
  noise = jax.vmap(lambda k: jax.random.normal(k, shape))(noise_keys)
  images, labels = (variational.repeat(x, times) for x in (images, real.labels))
  output, stats["decoder"] = apply(
    parts.decoder,
    *nets["decoder"],
    variational.reparameterize(mean, log_var, noise),
    labels,
    key=keys[3],
  )
  return parts.likelihood.log_prob(output, images), mean, log_var, stats
