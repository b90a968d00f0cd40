"""What is missing of images, and what a conditional generator makes of it.

Masks are `[H, W, 1]` or `[n, H, W, 1]`, 1 where a pixel is known, 0 where it is
missing. The generator is an encoder of what is known, and a decoder.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel, registry
from ganjax import state as states
from ganjax.objectives import losses
from ganjax.systems import sampling
from ganjax.systems.sampling import BATCH

BANK = 64  # Images that samples complete: as many as the sampler's chunk.
MASKS = registry.Registry("kind of masks")


@flax.struct.dataclass
class InpaintingState:
  """Everything that training changes, and the bank of images for samples.

  Attributes:
    step: int32, generator updates so far.
    encoder: of what is known.
    decoder: of that code and z.
    discriminator: of completed images.
    ema: the averaged encoder and decoder by name, or None.
    memory: `images [64, H, W, C]` of the training set and the
      `masks [64, H, W, 1]` under which `sample` completes them.
  """

  step: jax.Array
  encoder: states.NetState
  decoder: states.NetState
  discriminator: states.NetState
  ema: dict[str, states.Averaged] | None
  memory: dict[str, jax.Array]


class Parts(NamedTuple):
  """What the steps are made of."""

  encoder: nn.Module
  decoder: nn.Module
  discriminator: nn.Module
  loss: losses.Loss
  g_opt: optax.GradientTransformation
  d_opt: optax.GradientTransformation
  draw_mask: Callable[[jax.Array], jax.Array]
  draw_z: Callable[..., jax.Array]
  z_dim: int
  distance: Callable[[jax.Array], jax.Array]
  reconstruction_weight: float
  ema_decay: float | Callable[[Any], Any]
  axis_name: str | None
  dtype: Any = jnp.float32


@MASKS.register
def half(key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """One mask `[H, W, 1]` without its left, right, upper or lower half."""
  h, w = size
  missing = [_box(size, 0, 0, h, w // 2), _box(size, 0, w // 2, h, w)]
  missing += [_box(size, 0, 0, h // 2, w), _box(size, h // 2, 0, h, w)]
  return 1.0 - jnp.stack(missing)[jax.random.randint(key, (), 0, 4)]


@MASKS.register
def block(key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """One mask `[H, W, 1]` without a block of half its height and width."""
  h, w = -(-size[0] // 2), -(-size[1] // 2)
  room = jnp.array([size[0] - h, size[1] - w]) + 1
  top, left = jax.random.randint(key, (2,), 0, room)
  return 1.0 - _box(size, top, left, h, w)


@MASKS.register
def pixels(key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """One mask `[H, W, 1]` whose pixels are known with probability 1/2."""
  return jax.random.bernoulli(key, 0.5, (*size, 1)).astype(jnp.float32)


@MASKS.register
def mixed(key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """One mask `[H, W, 1]` of one of the other kinds."""
  which, own = jax.random.split(key)
  kinds = jnp.stack([kind(own, size) for kind in (half, block, pixels)])
  return kinds[jax.random.randint(which, (), 0, 3)]


def _box(size: tuple[int, int], top: Any, left: Any, h, w) -> jax.Array:
  """Returns `[H, W, 1]`: 1 in h rows from `top`, w columns from `left`."""
  rows = jnp.arange(size[0])[:, None, None] - top
  columns = jnp.arange(size[1])[None, :, None] - left
  inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
  return inside.astype(jnp.float32)


def fill(
  parts: Parts, nets: dict[str, Any], images, masks, z, key=None
) -> tuple[jax.Array, dict[str, Any]]:
  """Returns the completed images and the new stats of both networks.

  Known pixels are kept as they are, bit by bit.

  Args:
    parts: of the system.
    nets: name -> `(params, stats)` of encoder and decoder.
    images: `[n, H, W, C]`; what they are where the mask is 0 is not looked at.
    masks: `[n, H, W, 1]`.
    z: `[n, z_dim]`.
    key: of dropout, in training mode; None for running statistics.
  """

  def run(module, net, x) -> Any:
    params, stats = net
    if key is None:
      return module.apply({"params": params, **stats}, x, train=False), stats
    return states.forward(module, params, stats, x, key=key, dtype=parts.dtype)

  known = jnp.where(masks > 0, images, 0.0)
  seen = jnp.concatenate([known, masks], -1)
  code, encoder = run(parts.encoder, nets["encoder"], seen)
  code = jnp.concatenate([code, z], -1)
  new, decoder = run(parts.decoder, nets["decoder"], code)
  stats = dict(encoder=encoder, decoder=decoder)
  return jnp.where(masks > 0, images, new), stats


def draw(parts: Parts, n: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns masks `[n, H, W, 1]` and z `[n, z_dim]`, one of each an example."""
  mask_keys, z_keys = (
    parallel.example_keys(k, n, parts.axis_name) for k in jax.random.split(key)
  )
  return jax.vmap(parts.draw_mask)(mask_keys), jax.vmap(parts.draw_z)(z_keys)


def nets_of(state: InpaintingState, ema: bool) -> dict[str, Any]:
  """Returns name -> `(params, stats)`, averaged where there is an average."""
  names = ("encoder", "decoder")
  live = {name: getattr(state, name) for name in names}
  nets = state.ema if ema and state.ema is not None else live
  return {name: (nets[name].params, nets[name].stats) for name in names}


def complete(
  parts: Parts, state: InpaintingState, images, masks, key, ema: bool = True
) -> jax.Array:
  """Returns images `[n, H, W, C]` whose missing pixels are drawn anew.

  Args:
    parts: of the system, on one device.
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
  z = draw_latents(parts, key, len(images))
  return fill(parts, nets_of(state, ema), images, masks, z)[0]


def draw_latents(parts: Parts, key, n: int, truncation=None) -> jax.Array:
  """Draws z `[n, z_dim]`; `truncation` bounds its components unless None."""
  draw_z: Any = functools.partial(parts.draw_z, truncation=truncation)
  return jax.vmap(draw_z)(parallel.example_keys(key, n, None))


def decode(
  parts: Parts, state: InpaintingState, z, labels=None, ema=True, key=None
) -> jax.Array:
  """Returns completions `[n, H, W, C]` of the bank, row i of image i mod 64.

  With a `key` in training mode, by the statistics of these n.
  """
  del labels
  places = jnp.arange(len(z)) % BANK
  images, masks = (state.memory[k][places] for k in ("images", "masks"))
  return fill(parts, nets_of(state, ema), images, masks, z, key)[0]


def sample(
  parts: Parts,
  state: InpaintingState,
  key: jax.Array,
  n: int,
  labels=None,
  ema: bool = True,
  truncation=None,
  batch: bool = False,
) -> jax.Array:
  """Draws completions of the bank: `decode` of n latents, see `System`."""
  z = draw_latents(parts, key, n, truncation)
  return decode(parts, state, z, labels, ema, key if batch else None)


def settle(
  parts: Parts, state, key, n: int, labels, ema: bool, truncation, weight
) -> InpaintingState:
  """Moves running statistics by `weight` to fresh ones, see `System`."""
  del labels
  before = nets_of(state, ema)
  running = {k: stats.get(BATCH, {}) for k, (_, stats) in before.items()}
  z = draw_latents(parts, key, n, truncation)
  places = jnp.arange(n) % BANK
  images, masks = (state.memory[k][places] for k in ("images", "masks"))

  def update(running):
    nets = {k: (p, _with(s, running[k])) for k, (p, s) in before.items()}
    _, stats = fill(parts, nets, images, masks, z, key)
    return {k: v.get(BATCH, {}) for k, v in stats.items()}

  new: Any = sampling.moved(update, running, weight)
  drawn = state.ema if ema and state.ema is not None else None
  nets = drawn or {k: getattr(state, k) for k in before}
  nets = {
    k: net.replace(stats=_with(net.stats, new[k])) for k, net in nets.items()
  }
  return state.replace(ema=nets) if drawn else state.replace(**nets)


def _with(stats: Any, running: Any) -> Any:
  """Returns `stats` with other running statistics, if it has any."""
  return {**stats, BATCH: running} if BATCH in stats else stats


def score(parts: Parts, state: InpaintingState, images, labels=None) -> Any:
  """Returns D's logits `[n]` of images as networks see them, one by one."""
  del labels
  net = state.discriminator
  variables = {"params": net.params, **net.stats}
  return parts.discriminator.apply(variables, images, train=False)


def reconstruct(parts: Parts, state: InpaintingState, images, labels=None):
  """Returns images whose left half is filled in, with the mean z of 0."""
  del labels
  n, h, w, _ = images.shape
  mask = 1.0 - _box((h, w), 0, 0, h, w // 2)
  masks = jnp.broadcast_to(mask[None], (n, h, w, 1))
  z = jnp.zeros((n, parts.z_dim))
  return fill(parts, nets_of(state, True), images, masks, z)[0]
