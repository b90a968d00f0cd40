"""In-painting: an adversarial model of all conditionals p(x_S | x_not S).

Goodfellow et al. 2014, section 7, extension 3: one family of conditional models
with shared parameters, here G(x * mask, mask, z), whose discriminator and
reconstruction term are those of context encoders (Pathak et al. 2016,
https://arxiv.org/abs/1604.07379).
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
from ganjax.nets.judged import Judged
from ganjax.objectives import latents, losses, measurements
from ganjax.state import State
from ganjax.systems import SYSTEMS, LatentSystem, ability
from ganjax.systems.masks import MASKS, box
from ganjax.systems.system import Metrics, Net, Update, dropout_rngs

BANK = 64  # Images that samples complete: as many as the sampler's chunk.
DISTANCES = {"l1": jnp.abs, "l2": jnp.square}


@SYSTEMS.register(name="inpainting")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Inpainting(LatentSystem):
  """A generator that fills in what is missing of images.

  No network is told the labels. Samples are completions of 64 training images,
  which the state keeps: their known pixels are real, so that a distance to the
  data is no measure beside those of other systems. The state's memory holds
  these `images [64, H, W, C]` and the `masks [64, H, W, 1]` under which
  `sample` completes them.

  Attributes:
    encoder: of the known pixels and of the mask, one more channel.
    decoder: a net's generator, of the code beside z.
    discriminator: of whole images, given or completed.
    loss: what each player minimises.
    g_opt: the encoder's and the decoder's optimizer.
    d_opt: the discriminator's optimizer.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    code_dim: the size of the encoder's code.
    masks: what is missing of a training image: "half" of it (left, right, top
      or bottom), a "block" of half its height and width somewhere, half of its
      "pixels" one by one, or "mixed", one of these for each image.
    reconstruction_weight: of the distance to the missing pixels in G's loss;
      higher for what is likely, lower for what is various.
    distance: of a missing pixel from its true value, "l1" or "l2".
    d_steps_per_g_step: discriminator updates of one step.
    ema_decay: of the averaged networks, or step -> decay; 0 for none.
    precision: of the networks' arithmetic in training, see `System`.

  Raises:
    UserError: a value that there is not, or data that are no images.
  """

  encoder: nn.Module
  decoder: nn.Module
  discriminator: nn.Module
  loss: losses.Loss
  g_opt: optax.GradientTransformation
  d_opt: optax.GradientTransformation
  z_dim: int = 32
  latent: str = "normal"
  code_dim: int = 128
  masks: str = "mixed"
  reconstruction_weight: float = 10.0
  distance: str = "l1"
  d_steps_per_g_step: int = 1
  ema_decay: float | Callable[[Any], Any] = 0.0

  drawn: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

  def __post_init__(self):
    """Checks the settings."""
    if self.distance not in DISTANCES:
      raise errors.unknown("distance", self.distance, DISTANCES)
    if self.reconstruction_weight < 0:
      raise errors.UserError(
        "config.system.reconstruction_weight="
        f"{self.reconstruction_weight} must be at least 0"
      )
    if len(self.image_shape) != 3:
      raise errors.UserError(
        f"system 'inpainting' needs images, not {list(self.image_shape)}: "
        "choose another config.dataset"
      )
    # Both raise where there is no such name.
    MASKS.find(self.masks)
    latents.LATENTS.find(self.latent)

  @property
  def image_shape(self) -> tuple[int, ...]:
    """`(H, W, C)`."""
    return getattr(self.encoder, "image_shape", ())

  @functools.cached_property
  def networks(self) -> dict[str, nn.Module]:
    """The networks, none of which knows of classes.

    The encoder sees the mask as one more channel.
    """
    *size, channels = self.image_shape
    encoder: Any = self.encoder
    decoder: Any = self.decoder
    discriminator: Any = self.discriminator
    return {
      "encoder": encoder.clone(
        num_classes=0,
        image_shape=(*size, channels + 1),
        outputs=self.code_dim,
      ),
      "decoder": decoder.clone(num_classes=0),
      "discriminator": discriminator.clone(num_classes=0),
    }

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises all networks, and keeps a bank of images; see `System`."""
    encoder_key, decoder_key, d_key, bank_key = jax.random.split(key, 4)
    bank = arrays.images[jnp.arange(BANK) % len(arrays.images)]
    masks, _ = self.draw(BANK, bank_key)
    seen = jnp.concatenate([bank, masks], -1)[:2]
    encoder: Any = self.networks["encoder"]
    code_dim = getattr(encoder, "outputs", 0)
    codes = jnp.zeros((2, code_dim + self.z_dim))
    nets = {
      "encoder": self.create(
        "encoder", dropout_rngs(encoder_key), seen, optimizer=self.g_opt
      ),
      "decoder": self.create(
        "decoder",
        dropout_rngs(decoder_key),
        codes,
        optimizer=self.g_opt,
        images=arrays.images,
      ),
      "discriminator": self.create(
        "discriminator", dropout_rngs(d_key), bank[:2], optimizer=self.d_opt
      ),
    }
    averaged = self.drawn if self.ema_decay else ()
    return State.create(nets, averaged, {"images": bank, "masks": masks})

  def updates(self) -> tuple[Update, ...]:
    """Returns k updates of D, and one of the encoder and the decoder."""
    k = self.d_steps_per_g_step
    d_updates = [Update(self.discriminator_step, batch=i) for i in range(k)]
    return (*d_updates, Update(self.generator_step, batch=k - 1))

  def judge_both(
    self,
    net: Net,
    real: jax.Array,
    fake: jax.Array,
    key: jax.Array,
    iterate: bool = False,
  ) -> tuple[jax.Array, jax.Array, Any]:
    """Returns D's logits `[N]` of the global batch, real and fake, new stats.

    Args:
      net: D's parameters and statistics.
      real: images `[n, ...]`.
      fake: completed images `[n, ...]`.
      key: of dropout.
      iterate: whether spectral norms refine their vectors, in the first pass.
    """
    real_key, fake_key = jax.random.split(key)
    output, stats = self.forward(
      "discriminator", net, real, key=real_key, iterate=iterate
    )
    real_logits = Judged.of(output).logits
    net = net.replace(stats=stats)
    output, stats = self.forward("discriminator", net, fake, key=fake_key)
    fake_logits = Judged.of(output).logits
    return parallel.gather(real_logits), parallel.gather(fake_logits), stats

  def discriminator_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves D, which sees whole images and completed ones."""
    del skip  # Nothing here is lazy.
    draw_key, fill_key, d_key = jax.random.split(key, 3)
    player = state.discriminator
    masks, z = self.draw(len(real.images), draw_key)
    nets = self.drawn_nets(state, ema=False)
    fake, _ = self.fill(nets, real.images, masks, z, fill_key)

    def objective(params):
      net = player.replace(params=params)
      real_logits, fake_logits, stats = self.judge_both(
        net, real.images, fake, d_key, iterate=True
      )
      loss = self.loss.discriminator(real_logits, fake_logits)
      return loss, (loss, stats, real_logits, fake_logits)

    grads, aux = jax.grad(objective, has_aux=True)(player.params)
    loss, stats, real_logits, fake_logits = aux
    grads = parallel.mean(grads)
    metrics = {
      "d_loss": loss,
      "d_grad_norm": optax.tree.norm(grads),
      **measurements.of_logits(self.loss, real_logits, fake_logits),
      **measurements.of_images(real.images, fake),
      **measurements.of_stats("d", stats),
    }
    player = player.update(self.d_opt, grads, stats)
    return state.replace_nets(discriminator=player), metrics

  def generator_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves encoder and decoder, to fool D and to find the missing pixels."""
    del skip  # Nothing here is lazy.
    draw_key, fill_key, d_key = jax.random.split(key, 3)
    masks, z = self.draw(len(real.images), draw_key)
    nets = self.drawn_nets(state, ema=False)

    def objective(params):
      moved: Any = {
        name: net.replace(params=params[name]) for name, net in nets.items()
      }
      fake, stats = self.fill(moved, real.images, masks, z, fill_key)
      real_logits, fake_logits, _ = self.judge_both(
        state.discriminator, real.images, fake, d_key
      )
      loss = self.loss.generator(real_logits, fake_logits)
      error = self.missing_error(fake, real.images, masks)
      total = loss + self.reconstruction_weight * error
      return total, (loss, error, stats, (real_logits, fake_logits))

    params = {name: net.params for name, net in nets.items()}
    grads, aux = jax.grad(objective, has_aux=True)(params)
    loss, error, stats, logits = aux
    grads, error = parallel.mean((grads, error))
    metrics = {
      "g_loss": loss,
      "reconstruction_loss": error,
      "g_grad_norm": optax.tree.norm(grads),
      **measurements.of_generator(self.loss, *logits),
    }
    new = {
      name: state.nets[name].update(self.g_opt, grads[name], stats[name])
      for name in self.drawn
    }
    state = state.replace_nets(**new)
    state = state.move_averages(self.ema_decay, *self.drawn)
    return state.count_step(), metrics

  def missing_error(
    self, completed: jax.Array, images: jax.Array, masks: jax.Array
  ) -> jax.Array:
    """Returns the mean distance of missing pixels, a scalar of this device.

    It is taken of each image first, so that all weigh the same; it is 0 where
    nothing is missing.
    """
    axes = (1, 2, 3)
    # Known pixels are the same in both.
    total = DISTANCES[self.distance](completed - images).sum(axes)
    missing = (1.0 - masks).sum(axes) * images.shape[-1]
    return (total / jnp.maximum(missing, 1.0)).mean()

  def fill(
    self,
    nets: Mapping[str, Net],
    images: jax.Array,
    masks: jax.Array,
    z: jax.Array,
    key: jax.Array | None = None,
    dtype: Any = None,
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the completed images and the new stats of both networks.

    Known pixels are kept as they are, bit by bit.

    Args:
      nets: encoder and decoder by name.
      images: `[n, H, W, C]`; what they are where the mask is 0 is not looked
        at.
      masks: `[n, H, W, 1]`.
      z: `[n, z_dim]`.
      key: of dropout, in training mode; None for running statistics.
      dtype: of the arithmetic in training mode; `self.dtype` if None.
    """

    def run(name, inputs):
      net = nets[name]
      if key is None:
        return self.evaluate(name, net, inputs), net.stats
      return self.forward(name, net, inputs, key=key, iterate=True, dtype=dtype)

    known = jnp.where(masks > 0, images, 0.0)
    code, encoder_stats = run("encoder", jnp.concatenate([known, masks], -1))
    new, decoder_stats = run("decoder", jnp.concatenate([code, z], -1))
    stats = {"encoder": encoder_stats, "decoder": decoder_stats}
    return jnp.where(masks > 0, images, new), stats

  def draw(self, n: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws masks `[n, H, W, 1]` and z `[n, z_dim]`, one for each example."""
    mask_key, z_key = jax.random.split(key)
    size = tuple(self.image_shape[:2])
    draw_mask = functools.partial(MASKS.find(self.masks), size=size)
    masks = jax.vmap(draw_mask)(parallel.example_keys(mask_key, n))
    z = jax.vmap(self.sample_one_z)(parallel.example_keys(z_key, n))
    return masks, z

  def sample_one_z(self, key: jax.Array, truncation: Any = None) -> jax.Array:
    """Draws one z `[z_dim]`; `truncation` bounds its components unless None."""
    draw = latents.LATENTS.find(self.latent)
    return draw(key, z_dim=self.z_dim, truncation=truncation)

  def render(
    self,
    state: State,
    nets: Mapping[str, Net],
    z: jax.Array,
    labels: Any,
    key: jax.Array | None = None,
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Returns completions of the bank, row i of image i mod 64."""
    del labels
    places = jnp.arange(len(z)) % BANK
    images = state.memory["images"][places]
    masks = state.memory["masks"][places]
    return self.fill(nets, images, masks, z, key, dtype=jnp.float32)

  def complete(
    self,
    state: State,
    images: jax.Array,
    masks: jax.Array,
    key: jax.Array,
    ema: bool = True,
  ) -> jax.Array:
    """Returns images `[n, H, W, C]` whose missing pixels are drawn anew.

    Args:
      state: of the system.
      images: `[n, H, W, C]` as networks see them.
      masks: `[n, H, W, 1]`, 1 where a pixel is known, 0 elsewhere.
      key: another one gives another completion of the same image.
      ema: by the averaged networks where there are some.

    Raises:
      UserError: the masks are not one for each image.
    """
    expected = (*images.shape[:-1], 1)
    if masks.shape != expected:
      raise errors.UserError(
        f"masks are {list(masks.shape)}, they must be {list(expected)}: one "
        "number for each pixel, 1 where it is known"
      )
    z = self.latents(key, len(images))
    return self.fill(self.drawn_nets(state, ema), images, masks, z)[0]

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns D's logits `[n]` of images as networks see them, one by one."""
    del labels
    output = self.evaluate("discriminator", state.discriminator, images)
    return Judged.of(output).logits

  @ability(returns="images")
  def reconstruct(
    self, state: State, images: jax.Array, labels=None
  ) -> jax.Array:
    """Returns images whose left half is filled in, with the mean z of 0."""
    del labels
    n, h, w, _ = images.shape
    mask = 1.0 - box((h, w), 0, 0, h, w // 2)
    masks = jnp.broadcast_to(mask[None], (n, h, w, 1))
    z = jnp.zeros((n, self.z_dim))
    return self.fill(self.drawn_nets(state, ema=True), images, masks, z)[0]
