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

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax.objectives import latents, per_example
from ganjax.state import State
from ganjax.systems import SYSTEMS, LatentSystem, System, ability
from ganjax.systems.system import (
  Metrics,
  Net,
  Update,
  dropout_rngs,
  first_two,
)

RECONSTRUCTIONS = ("mse", "binary_cross_entropy")
# Moments of codes are means over about so many batches, over all at first.
MOMENTS_OF = 100
# The least variance of a code, and the least error in the log relative to the
# squared peak: a PSNR is at most 120 dB, and finite.
LEAST = 1e-12


@SYSTEMS.register(name="autoencoder")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Autoencoder(LatentSystem):
  """An encoder and a decoder that bring images back.

  The state's memory holds `moments`, the mean code and the mean squared code,
  each `[z_dim]`; `low` and `width`, the training set's smallest value and its
  range.

  Attributes:
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
    precision: of the networks' arithmetic in training, see `System`.

  Raises:
    UserError: an unknown reconstruction, a number out of range, or a decoder
      whose output is no logit where it should be.
  """

  encoder: nn.Module
  decoder: nn.Module
  opt: optax.GradientTransformation
  z_dim: int = 32
  reconstruction: str = "mse"
  corruption: float = 0.0
  masking: float = 0.0
  ema_decay: float | Callable[[Any], Any] = 0.0

  drawn: ClassVar[tuple[str, ...]] = ("decoder",)

  def __post_init__(self):
    """Checks the settings."""
    if self.reconstruction not in RECONSTRUCTIONS:
      raise errors.unknown(
        "reconstruction", self.reconstruction, RECONSTRUCTIONS
      )
    output = getattr(self.decoder, "output", "linear")
    if self.reconstruction == "binary_cross_entropy" and output != "linear":
      raise errors.UserError(
        "config.system.reconstruction='binary_cross_entropy' takes the "
        "decoder's output for logits: set config.decoder.output='linear', not "
        f"{output!r}"
      )
    _check_below("corruption", self.corruption, 1e6)
    _check_below("masking", self.masking, 1)

  @functools.cached_property
  def networks(self) -> dict[str, nn.Module]:
    """The encoder, with as many outputs as a code has numbers; the decoder."""
    return {
      "encoder": self.encoder.clone(outputs=self.z_dim),  # pyright: ignore
      "decoder": self.decoder,
    }

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises both networks; see `System.init`."""
    encoder_key, decoder_key = jax.random.split(key)
    images, labels = first_two(arrays)
    encoder = self.create(
      "encoder", dropout_rngs(encoder_key), images, labels, optimizer=self.opt
    )
    decoder = self.create(
      "decoder",
      dropout_rngs(decoder_key),
      jnp.zeros((2, self.z_dim)),
      labels,
      optimizer=self.opt,
      images=arrays.images,
    )
    nets = {"encoder": encoder, "decoder": decoder}
    width = arrays.images.max() - arrays.images.min()
    memory = {
      # Codes start as N(0, I).
      "moments": (jnp.zeros(self.z_dim), jnp.ones(self.z_dim)),
      "low": arrays.images.min(),
      "width": jnp.where(width > 0, width, 1.0),
    }
    averaged = tuple(nets) if self.ema_decay else ()
    return State.create(nets, averaged, memory)

  def updates(self) -> tuple[Update, ...]:
    """Returns the one update of both networks."""
    return (Update(self.step),)

  def step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves both networks along the gradient of the reconstruction error."""
    del skip  # Nothing here is lazy.
    images = real.images
    labels = real.labels
    encoder_key, decoder_key, damage_key = jax.random.split(key, 3)
    damaged = self.damage(images, state.memory["low"], damage_key)

    def objective(params):
      encoder = state.nets["encoder"].replace(params=params["encoder"])
      decoder = state.nets["decoder"].replace(params=params["decoder"])
      codes, encoder_stats = self.forward(
        "encoder", encoder, damaged, labels, key=encoder_key, iterate=True
      )
      output, decoder_stats = self.forward(
        "decoder", decoder, codes, labels, key=decoder_key, iterate=True
      )
      stats = {"encoder": encoder_stats, "decoder": decoder_stats}
      return self.loss(state, output, images), (codes, output, stats)

    params = {name: net.params for name, net in state.nets.items()}
    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (value, (codes, output, stats)), grads = value_and_grad(params)
    error = jnp.square(self.to_images(state, output) - images).mean()
    moments = (codes.mean(0), jnp.square(codes).mean(0))
    value, error, grads, moments = parallel.mean((value, error, grads, moments))
    rate = jnp.maximum(1.0 / (1.0 + state.step), 1.0 / MOMENTS_OF)
    moments = optax.incremental_update(moments, state.memory["moments"], rate)
    nets = {
      name: net.update(self.opt, grads[name], stats[name])
      for name, net in state.nets.items()
    }
    state = state.replace_nets(**nets).remember(moments=moments)
    state = state.move_averages(self.ema_decay, *nets).count_step()
    relative = jnp.maximum(error / jnp.square(state.memory["width"]), LEAST)
    return state, {"loss": value, "train_psnr": -10.0 * jnp.log10(relative)}

  def damage(
    self, images: jax.Array, low: jax.Array, key: jax.Array
  ) -> jax.Array:
    """Returns what the encoder sees of images `[n, ...]`; `low` for a mask."""
    keys = parallel.example_keys(key, len(images))
    noise_keys, mask_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    if self.corruption:
      noise = per_example.draw(jax.random.normal, noise_keys, images)
      images += self.corruption * noise
    if self.masking:
      pixels = images[..., :1] if images.ndim == 4 else images
      uniform = per_example.draw(jax.random.uniform, mask_keys, pixels)
      hidden = jnp.broadcast_to(uniform < self.masking, images.shape)
      images = jnp.where(hidden, low, images)
    return images

  def loss(
    self, state: State, output: jax.Array, images: jax.Array
  ) -> jax.Array:
    """Returns the mean error of the decoder's output `[n, ...]`, a scalar."""
    if self.reconstruction == "mse":
      return jnp.square(output - images).mean()
    targets = (images - state.memory["low"]) / state.memory["width"]
    return optax.sigmoid_binary_cross_entropy(output, targets).mean()

  def to_images(self, state: State, output: jax.Array) -> jax.Array:
    """Returns the images that the decoder's output `[n, ...]` stands for."""
    if self.reconstruction == "mse":
      return output
    low = state.memory["low"]
    return low + state.memory["width"] * jax.nn.sigmoid(output)

  def sample_one_z(self, key: jax.Array, truncation: Any = None) -> jax.Array:
    """Draws one z `[z_dim]` from N(0, I), within +-`truncation` if given."""
    return latents.normal(key, self.z_dim, truncation)

  def render(
    self,
    state: State,
    nets: Mapping[str, Net],
    z: jax.Array,
    labels: Any,
    key: jax.Array | None = None,
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the images of standardised codes; see `LatentSystem.render`."""
    mean, deviation = _gaussian(state, z)
    codes = mean + deviation * z
    output, stats = self.pass_through(
      "decoder", nets["decoder"], codes, labels, key=key
    )
    return self.to_images(state, output), {"decoder": stats}

  # Running statistics stay those of real codes, as in `reconstruct`.
  settle = System.settle

  @ability
  def encode(
    self, state: State, images: jax.Array, labels=None, ema: bool = True
  ) -> jax.Array:
    """Returns z `[n, z_dim]` of images `[n, ...]`: their standardised codes."""
    net = state.net("encoder", averaged=ema)
    codes = self.evaluate("encoder", net, images, labels)
    mean, deviation = _gaussian(state, codes)
    return (codes - mean) / deviation

  @ability(returns="images")
  def reconstruct(
    self, state: State, images: jax.Array, labels=None
  ) -> jax.Array:
    """Returns images `[n, ...]` as they come back from their codes."""
    z = self.encode(state, images, labels)
    return self.decode(state, z, labels)

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns minus the mean squared error of each reconstruction, `[n]`.

    What is unlike the training images comes back badly and scores low: so
    autoencoders detect anomalies. The error is squared whatever was minimised,
    as cross-entropy is not 0 where grey comes back as it was.
    """
    squares = jnp.square(self.reconstruct(state, images, labels) - images)
    return -squares.reshape(len(images), -1).mean(1)


def _check_below(name: str, value: float, end: float) -> None:
  if not 0 <= value < end:
    raise errors.UserError(
      f"config.system.{name}={value} must be at least 0 and below {end:g}"
    )


def _gaussian(state: State, like: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns codes' means and standard deviations, as broadcast as `like`."""
  mean, square = state.memory["moments"]
  variance = jnp.maximum(square - jnp.square(mean), LEAST)
  deviation = jnp.sqrt(variance)
  return (
    jnp.broadcast_to(mean, like.shape),
    jnp.broadcast_to(deviation, like.shape),
  )
