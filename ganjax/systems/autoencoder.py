"""Autoencoders (Hinton & Salakhutdinov 2006), denoising ones included.

An encoder makes a code of an image and a decoder an image of the code; both
learn to bring the image back. Vincent et al. 2008 show the encoder a damaged
image and ask for the whole one.

An autoencoder has no prior over codes. Samples are decoded from a Gaussian with
the mean and the standard deviations of the codes of recent training batches;
what codes have in common beyond that is lost, so samples are worse than
reconstructions. z is the standardised code: a standard normal z stands for a
code from this Gaussian, and `decode` of `encode` is `reconstruct`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax import state as states
from ganjax.objectives import latents, per_example
from ganjax.systems import System

RECONSTRUCTIONS = ("mse", "binary_cross_entropy")
# Moments of codes are means over about so many batches, over all at first.
MOMENTS_OF = 100
# The least variance of a code, and the least error in the log relative to the
# squared peak: a PSNR is at most 120 dB, and finite.
LEAST = 1e-12


@flax.struct.dataclass
class AutoencoderState:
  """Everything that training changes.

  Attributes:
    step: int32, updates so far.
    encoder, decoder: the live networks.
    ema: "encoder" and "decoder" -> its average, or None.
    memory: `moments`, mean code and mean squared code, each `[z_dim]`; `low`
      and `width`, the training set's smallest value and its range.
  """

  step: jax.Array
  encoder: states.NetState
  decoder: states.NetState
  ema: dict[str, states.Averaged] | None
  memory: dict[str, Any]


class Parts(NamedTuple):
  """What the functions below are made of: see `make`."""

  encoder: nn.Module
  decoder: nn.Module
  opt: optax.GradientTransformation
  z_dim: int
  reconstruction: str
  corruption: float
  masking: float
  ema_decay: float | Callable[[Any], Any]
  axis_name: str | None = None
  dtype: Any = jnp.float32


def make(
  encoder: nn.Module,
  decoder: nn.Module,
  opt: optax.GradientTransformation,
  *,
  z_dim: int = 32,
  reconstruction: str = "mse",
  corruption: float = 0.0,
  masking: float = 0.0,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns the autoencoder of an encoder and a decoder.

  Args:
    encoder: see `ganjax.nets`; it is told how many `outputs` to have.
    decoder: a generator, see `ganjax.nets`.
    opt: the optimizer of both networks, each with a state of its own.
    z_dim: the size of a code.
    reconstruction: the error that is minimised, its mean over pixels, channels
      and images. "mse": squared. "binary_cross_entropy": a pixel is the
      probability of a one, the decoder's output its logit, and the sigmoid of
      that the image. The training set's smallest value counts as 0, its
      largest as 1; with `config.scaling="unit"` that is what they are.
    corruption: the standard deviation of Gaussian noise on what the encoder
      sees in training (Vincent et al. 2010), in the units of its input.
    masking: with which probability the encoder in training sees the smallest
      value in place of a pixel, all channels of it (Vincent et al. 2008).
    ema_decay: of the averaged networks, or step -> decay; 0 for none.
    precision: of the networks' arithmetic in training, "float32" or
      "bfloat16"; all else is float32.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: an unknown reconstruction, a number out of range, or a decoder
      whose output is no logit where it should be.
  """
  if reconstruction not in RECONSTRUCTIONS:
    raise errors.unknown("reconstruction", reconstruction, RECONSTRUCTIONS)
  output = getattr(decoder, "output", "linear")
  if reconstruction == "binary_cross_entropy" and output != "linear":
    raise errors.UserError(
      "config.system.reconstruction='binary_cross_entropy' takes the decoder's "
      f"output for logits: set config.decoder.output='linear', not {output!r}"
    )
  for name, x, end in ("corruption", corruption, 1e6), ("masking", masking, 1):
    if not 0 <= x < end:
      raise errors.UserError(
        f"config.system.{name}={x} must be at least 0 and below {end:g}"
      )
  encoder = encoder.clone(outputs=z_dim)
  hyper = z_dim, reconstruction, corruption, masking, ema_decay
  parts = Parts(encoder, decoder, opt, *hyper, axis_name, jnp.dtype(precision))
  # Images are coded and decoded on one device.
  nets = encoder.clone(axis_name=None), decoder.clone(axis_name=None)
  alone = Parts(*nets, opt, *hyper)
  num_classes = getattr(decoder, "num_classes", 0)
  return System(
    init=functools.partial(init, parts),
    train_step=functools.partial(train_step, parts),
    sample=functools.partial(sample, alone),
    # Running statistics are those of real codes, as in `reconstruct`.
    settle=lambda state, *_, **__: state,
    networks=dict(encoder=encoder, decoder=decoder),
    latents=functools.partial(draw_latents, alone),
    decode=functools.partial(decode, alone),
    score=functools.partial(score, alone),
    encode=functools.partial(encode, alone),
    reconstruct=functools.partial(reconstruct, alone),
    num_classes=num_classes,
    conditional=bool(num_classes) and getattr(decoder, "conditional", False),
  )


def init(parts: Parts, key: jax.Array, arrays: Any) -> AutoencoderState:
  """Initialises both networks; `arrays.images [N, ...]` as they see them."""
  images, labels = arrays.images, arrays.labels
  labels = None if labels is None else labels[:2]
  keys = [{"params": k, "dropout": k} for k in jax.random.split(key)]
  encoder = parts.encoder.init(keys[0], images[:2], labels)
  decoder = parts.decoder.init(keys[1], jnp.zeros((2, parts.z_dim)), labels)
  if hasattr(parts.decoder, "init_from_data"):
    params = parts.decoder.init_from_data(decoder["params"], images)
    decoder = {**decoder, "params": params}
  create = functools.partial(states.NetState.create, optimizer=parts.opt)
  nets = dict(encoder=create(encoder), decoder=create(decoder))
  ema = None
  if parts.ema_decay:
    ema = {name: states.Averaged.create(net) for name, net in nets.items()}
  width = images.max() - images.min()
  memory = dict(  # Codes start as N(0, I).
    moments=(jnp.zeros(parts.z_dim), jnp.ones(parts.z_dim)),
    low=images.min(),
    width=jnp.where(width > 0, width, 1.0),
  )
  return AutoencoderState(jnp.int32(0), **nets, ema=ema, memory=memory)


def train_step(
  parts: Parts, state: Any, batch: Any, key: jax.Array, skip=()
) -> tuple[AutoencoderState, dict[str, jax.Array]]:
  """One update of both networks; `batch.images [1, n, ...]`."""
  del skip  # Nothing here is lazy.
  images, labels = jax.tree.map(lambda x: x[0], (batch.images, batch.labels))
  *keys, damage_key = jax.random.split(key, 3)
  damaged = damage(parts, images, state.memory["low"], damage_key)
  nets = dict(encoder=state.encoder, decoder=state.decoder)

  def loss_fn(params):
    def run(name, inputs, key):
      net = params[name], nets[name].stats, inputs, labels
      module = getattr(parts, name)
      return states.forward(module, *net, key=key, dtype=parts.dtype)

    codes, encoder_stats = run("encoder", damaged, keys[0])
    output, decoder_stats = run("decoder", codes, keys[1])
    stats = dict(encoder=encoder_stats, decoder=decoder_stats)
    return loss(parts, state, output, images), (codes, output, stats)

  params = {name: net.params for name, net in nets.items()}
  found, grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
  value, (codes, output, stats) = found
  error = jnp.square(to_images(parts, state, output) - images).mean()
  found = value, error, grads, (codes.mean(0), jnp.square(codes).mean(0))
  value, error, grads, moments = parallel.mean(found, parts.axis_name)
  rate = jnp.maximum(1.0 / (1.0 + state.step), 1.0 / MOMENTS_OF)
  moments = optax.incremental_update(moments, state.memory["moments"], rate)
  ema = state.ema and {}
  for name, net in nets.items():
    nets[name] = net = net.update(parts.opt, grads[name], stats[name])
    if state.ema:
      ema[name] = state.ema[name].update(net, parts.ema_decay, state.step)
  relative = jnp.maximum(error / jnp.square(state.memory["width"]), LEAST)
  metrics = dict(loss=value, train_psnr=-10.0 * jnp.log10(relative))
  new = dict(nets, ema=ema, memory=state.memory | dict(moments=moments))
  return state.replace(step=state.step + 1, **new), metrics


def damage(parts: Parts, images, low, key) -> jax.Array:
  """Returns what the encoder sees of images `[n, ...]`; `low` for a mask."""
  keys = parallel.example_keys(key, len(images), parts.axis_name)
  keys = jax.vmap(jax.random.split, out_axes=1)(keys)
  if parts.corruption:
    noise = per_example.draw(jax.random.normal, keys[0], images)
    images += parts.corruption * noise
  if parts.masking:
    pixels = images[..., :1] if images.ndim == 4 else images
    hidden = (
      per_example.draw(jax.random.uniform, keys[1], pixels) < parts.masking
    )
    images = jnp.where(jnp.broadcast_to(hidden, images.shape), low, images)
  return images


def loss(parts: Parts, state: Any, output, images) -> jax.Array:
  """Returns the mean error of the decoder's output `[n, ...]`, a scalar."""
  if parts.reconstruction == "mse":
    return jnp.square(output - images).mean()
  targets = (images - state.memory["low"]) / state.memory["width"]
  return optax.sigmoid_binary_cross_entropy(output, targets).mean()


def to_images(parts: Parts, state: Any, output) -> jax.Array:
  """Returns the images that the decoder's output `[n, ...]` stands for."""
  if parts.reconstruction == "mse":
    return output
  return state.memory["low"] + state.memory["width"] * jax.nn.sigmoid(output)


def draw_latents(parts: Parts, key, n: int, truncation=None) -> jax.Array:
  """Draws z `[n, z_dim]` from N(0, I), within +-`truncation` unless None."""
  keys = parallel.example_keys(key, n, None)
  return jax.vmap(lambda k: latents.normal(k, parts.z_dim, truncation))(keys)


def sample(
  parts, state, key, n, labels=None, ema=True, truncation=None, batch=False
) -> jax.Array:
  """Draws images `[n, ...]`: see `System` and the top of this file."""
  z = draw_latents(parts, key, n, truncation)
  return decode(parts, state, z, labels, ema, key if batch else None)


def encode(parts: Parts, state, images, labels=None, ema=True) -> jax.Array:
  """Returns z `[n, z_dim]` of images `[n, ...]`: their standardised codes."""
  codes = _apply(parts, state, "encoder", images, labels, ema)
  mean, deviation = _gaussian(state, codes)
  return (codes - mean) / deviation


def decode(parts: Parts, state, z, labels=None, ema=True, key=None) -> Any:
  """Returns images `[n, ...]` of z `[n, z_dim]`, as networks see them."""
  mean, deviation = _gaussian(state, z)
  codes = mean + deviation * z
  output = _apply(parts, state, "decoder", codes, labels, ema, key)
  return to_images(parts, state, output)


def reconstruct(parts: Parts, state, images, labels=None) -> jax.Array:
  """Returns images `[n, ...]` as they come back from their codes."""
  return decode(parts, state, encode(parts, state, images, labels), labels)


def score(parts: Parts, state, images, labels=None) -> jax.Array:
  """Returns minus the mean squared error of each reconstruction, `[n]`.

  What is unlike the training images comes back badly and scores low: so
  autoencoders detect anomalies. The error is squared whatever was minimised,
  as cross-entropy is not 0 where grey comes back as it was.
  """
  squares = jnp.square(reconstruct(parts, state, images, labels) - images)
  return -squares.reshape(len(images), -1).mean(1)


def _gaussian(state: Any, like: jax.Array) -> list[jax.Array]:
  """Returns codes' means and standard deviations, as broadcast as `like`."""
  mean, square = state.memory["moments"]
  variance = jnp.maximum(square - jnp.square(mean), LEAST)
  return [jnp.broadcast_to(x, like.shape) for x in (mean, jnp.sqrt(variance))]


def _apply(parts: Parts, state, name, inputs, labels, ema, key=None) -> Any:
  """Applies one network; with a key in training mode."""
  module, net = getattr(parts, name), (state.ema or {}).get(name)
  net = net if ema and net else getattr(state, name)
  if key is not None:
    run = functools.partial(states.forward, key=key)
    return run(module, net.params, net.stats, inputs, labels)[0]
  variables = {"params": net.params, **net.stats}
  return module.apply(variables, inputs, labels, train=False)
