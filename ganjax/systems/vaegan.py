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

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ganjax import parallel
from ganjax import state as states
from ganjax.objectives import losses, measurements
from ganjax.systems import System, features, sampling, vae, variational


@flax.struct.dataclass
class VAEGANState(variational.VAEState):
  """A VAE's state and the discriminator's."""

  discriminator: states.NetState


class Parts(NamedTuple):
  """What the system is made of; `vae.opt` is of both its networks."""

  vae: variational.Parts
  discriminator: nn.Module
  loss: losses.Loss
  d_opt: optax.GradientTransformation
  gamma: float


class Terms(NamedTuple):
  """The losses of which each network minimises a sum, or their weights."""

  kl: Any
  similarity: Any
  g_loss: Any
  d_loss: Any


def make(
  encoder: nn.Module,
  decoder: nn.Module,
  discriminator: nn.Module,
  loss: losses.Loss,
  g_opt: optax.GradientTransformation,
  d_opt: optax.GradientTransformation,
  *,
  z_dim: int = 128,
  gamma: float = 0.01,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns the VAE/GAN of an encoder, a decoder and a discriminator.

  Args:
    encoder: see `ganjax.nets`; its outputs become 2 `z_dim`.
    decoder: a net's generator.
    discriminator: see `ganjax.nets`. What its last dense layer sees, the one
      that makes the logit, stands for Dis_l(x). The similarity is a sum over
      these features, as the log of a Gaussian with identity covariance is (its
      constant is left out), and a mean over images. So it grows with the size
      of the features: batch norm in D, as the paper has it, sets that.
    loss: of the decoder and of D. Its fakes are x' and x_p alike, twice as
      many as there are real images. The mean over both has the weight of the
      reals' mean, as in the authors' code; the sum in Algorithm 1 would give
      fakes two votes. Its `minimax` is the paper's.
    g_opt: of the encoder and of the decoder.
    d_opt: of the discriminator.
    z_dim: the size of z.
    gamma: the weight of the similarity for the decoder; 0 for a pure GAN. The
      encoder always has it at 1.
    ema_decay: of the averages of encoder and decoder, see `gan.make`.
    precision: of the networks' arithmetic in training, see `gan.make`.
    axis_name: the mapped axis, or None on one device.
  """
  base = variational.Parts(
    encoder=encoder.clone(outputs=2 * z_dim),  # pyright: ignore
    decoder=decoder,
    opt=g_opt,
    likelihood=variational.get_likelihood("gaussian"),  # The decoder's mean.
    z_dim=z_dim,
    samples_per_image=1,
    kl_weight=1.0,
    binarize=False,
    ema_decay=ema_decay,
    axis_name=axis_name,
    dtype=jnp.dtype(precision),
  )
  parts: Any = Parts(base, discriminator, loss, d_opt, gamma)
  # All but training is on one device.
  alone = base._replace(axis_name=None, dtype=jnp.float32)
  if axis_name:
    alone = alone._replace(
      encoder=base.encoder.clone(axis_name=None),
      decoder=decoder.clone(axis_name=None),
    )
  num_classes = getattr(decoder, "num_classes", 0)
  return System(
    init=functools.partial(init, parts),
    train_step=functools.partial(train_step, parts),
    sample=functools.partial(variational.sample, alone),
    settle=functools.partial(variational.settle, alone),
    latents=functools.partial(variational.latents, alone),
    decode=functools.partial(variational.decode, alone),
    encode=functools.partial(variational.encode, alone),
    reconstruct=functools.partial(variational.reconstruct, alone),
    score=functools.partial(sampling.score, parts),
    networks=dict(
      encoder=base.encoder, decoder=decoder, discriminator=discriminator
    ),
    num_classes=num_classes,
    conditional=bool(num_classes) and getattr(decoder, "conditional", False),
  )


def init(parts: Parts, key: jax.Array, arrays: Any) -> VAEGANState:
  """Initialises all players; `arrays.images [N, ...]` as networks see them."""
  key, d_key = jax.random.split(key)
  first = vae.init(parts.vae, key, arrays)
  some, labels = jax.tree.map(lambda x: x[:2], (arrays.images, arrays.labels))
  rngs = {"params": d_key, "dropout": d_key}
  variables = parts.discriminator.init(rngs, some, labels)
  judge = states.NetState.create(variables, parts.d_opt)
  return VAEGANState(**vars(first), discriminator=judge)


def train_step(
  parts: Parts, state: VAEGANState, batch: Any, key: jax.Array, skip=()
) -> tuple[VAEGANState, dict[str, jax.Array]]:
  """Algorithm 1's iteration: all three networks move at once, on one batch."""
  del skip
  real, base = jax.tree.map(lambda x: x[0], batch), parts.vae
  old = {name: getattr(state, name) for name in weights_of(parts.gamma)}
  play_with = functools.partial(play, parts, old, real, key)
  params = {name: net.params for name, net in old.items()}
  terms, pull, aux = jax.vjp(play_with, params, has_aux=True)
  grads = {
    name: pull(jax.tree.map(jnp.float32, weights))[0][name]
    for name, weights in weights_of(parts.gamma).items()
  }
  grads, terms = parallel.mean((grads, terms), base.axis_name)
  stats, logits, fakes = aux
  metrics = terms._asdict() | measure(parts, real.images, logits, fakes)
  metrics |= measurements.of_stats("d", stats["discriminator"])
  new = {}
  for name, net in old.items():
    opt = parts.d_opt if name == "discriminator" else base.opt
    new[name] = net.update(opt, grads[name], stats[name])
  for letter, grad in zip("egd", grads.values(), strict=True):
    metrics[f"{letter}_grad_norm"] = optax.tree.norm(grad)
  ema = state.ema and {
    name: average.update(new[name], base.ema_decay, state.step)
    for name, average in state.ema.items()
  }
  return VAEGANState(step=state.step + 1, ema=ema, **new), metrics


def weights_of(gamma: float) -> dict[str, Terms]:
  """Returns what each network minimises: the weight of each of the terms."""
  return dict(
    encoder=Terms(kl=1.0, similarity=1.0, g_loss=0.0, d_loss=0.0),
    decoder=Terms(kl=0.0, similarity=gamma, g_loss=1.0, d_loss=0.0),
    discriminator=Terms(kl=0.0, similarity=0.0, g_loss=0.0, d_loss=1.0),
  )


def play(parts: Parts, nets, real: Any, key: jax.Array, params):
  """Passes a batch through all networks in training mode.

  D sees x, x' and x_p one after another, each batch normalised by its own
  statistics. What it drops of x it drops of x', so that equal images have equal
  features.

  Args:
    parts: of the system.
    nets: name -> `NetState`, for what is not trained.
    real: the batch, `images [n, ...]`.
    key: of the step.
    params: name -> parameters.

  Returns:
    The `Terms`, and: the networks' new statistics by their names; the logits
    of reals and fakes, each `[2 N]` of the global batch; x' and x_p.
  """
  base, keys, n = parts.vae, jax.random.split(key, 7), len(real.images)
  stats = {name: net.stats for name, net in nets.items()}

  def apply(name, inputs, key, iterate=False):
    module = getattr(parts if name == "discriminator" else base, name)
    run = functools.partial(states.forward, module, params[name], stats[name])
    output, stats[name] = run(
      inputs, real.labels, key=key, iterate=iterate, dtype=base.dtype
    )
    return output

  judge = functools.partial(features.watch, apply, "discriminator")
  code = apply("encoder", real.images, keys[0], iterate=True)
  mean, log_var = jnp.split(code, 2, axis=1)
  noise, prior = (_normal(base, k, n) for k in keys[1:3])
  z = variational.reparameterize(mean, log_var, noise[:, None])
  fakes = (
    apply("decoder", z, keys[3], iterate=True),
    apply("decoder", prior, keys[4]),
  )
  real_logits, seen = judge(real.images, keys[5], iterate=True)
  rebuilt_logits, seen_again = judge(fakes[0], keys[5])
  prior_logits, _ = judge(fakes[1], keys[6])
  gather = functools.partial(parallel.gather, axis_name=base.axis_name)
  logits = tuple(
    gather(jnp.concatenate(pair))
    for pair in ((real_logits,) * 2, (rebuilt_logits, prior_logits))
  )
  difference = states.cast(seen - seen_again, jnp.float32)
  terms = Terms(
    kl=variational.kl_divergence(mean, log_var).mean(),
    similarity=0.5 * jnp.square(difference).sum() / n,
    g_loss=parts.loss.generator(*logits),
    d_loss=parts.loss.discriminator(*logits),
  )
  return terms, (stats, logits, fakes)


def measure(parts: Parts, images, logits, fakes) -> dict[str, jax.Array]:
  """Returns what a step says of itself; of z as drawn, of networks before it.

  `reconstruction_error` is the mean square of x - x', `spread` that of x_p.
  """
  axis_name = parts.vae.axis_name
  error = jnp.square(images - fakes[0]).mean()
  metrics = dict(reconstruction_error=parallel.mean(error, axis_name))
  metrics |= measurements.of_logits(parts.loss, *logits)
  metrics |= measurements.of_generator(parts.loss, *logits)
  return metrics | measurements.of_images(images, fakes[1])


def _normal(base: variational.Parts, key: jax.Array, n: int) -> jax.Array:
  """Draws N(0, 1) noise `[n, z_dim]`, the same on any number of devices."""
  keys = parallel.example_keys(key, n, base.axis_name)
  return jax.vmap(lambda key: jax.random.normal(key, (base.z_dim,)))(keys)
