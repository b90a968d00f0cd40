"""What networks are made of."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors, parallel, registry
from ganjax.nets import conv

ACTIVATIONS = registry.Registry("activation")
ACTIVATIONS.update(
  linear=lambda x: x,
  relu=jax.nn.relu,
  leaky_relu=lambda x: jax.nn.leaky_relu(x, 0.2),
  sigmoid=jax.nn.sigmoid,
  tanh=jnp.tanh,
)


def uniform_init(bound: float) -> Callable:
  """An initialiser U(-bound, bound)."""

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def scale_init(key, shape, dtype=jnp.float32):
  """N(1, 0.02): the scale of a normalisation (Radford et al. 2016's code)."""
  return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


class Dropout(nn.Module):
  """Drops each unit of each example with `rate`, scaling the rest up.

  Unlike `nn.Dropout` a mask depends on the example's place in the global
  batch, not on the device that draws it.
  """

  rate: float
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[N, ...]` to `[N, ...]`."""
    if not train or self.rate == 0.0:
      return x
    axis_name = None if self.is_initializing() else self.axis_name
    keys = parallel.example_keys(self.make_rng("dropout"), len(x), axis_name)
    keep = 1.0 - self.rate
    draw = lambda key: jax.random.bernoulli(key, keep, x.shape[1:])
    return jnp.where(jax.vmap(draw)(keys), x / keep, 0.0)


class SpectralNorm(nn.Module):
  """A layer whose kernel is divided by its largest singular value.

  Miyato et al. 2018: the kernel `[..., out]`, as a matrix of `out` columns,
  gets the norm u W v, with u and v from power iterations. They are refined in
  a pass in which the collection `spectral` is mutable, once by default, and
  nowhere else: evaluation does not iterate.

  Attributes:
    layer: with a parameter `kernel`, e.g. `nn.Conv(64, (3, 3))`; it keeps its
      own name and parameters.
    iterations: power iterations of such a pass.
  """

  layer: nn.Module
  iterations: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps what `layer` maps."""
    if self.is_initializing():
      self.layer(x)
    params = self.layer.variables["params"]
    matrix = params["kernel"].reshape(-1, params["kernel"].shape[-1])
    fixed = jax.lax.stop_gradient(matrix)

    def refine(_, vectors):
      v = _unit(fixed @ vectors[0])
      return _unit(v @ fixed), v

    def start():
      u = jax.random.normal(self.make_rng("params"), (matrix.shape[1],))
      zeros = jnp.zeros(len(matrix))
      return jax.lax.fori_loop(0, 15, refine, (_unit(u), zeros))

    first = start() if self.is_initializing() else (None, None)
    u = self.variable("spectral", "u", lambda: first[0])
    v = self.variable("spectral", "v", lambda: first[1])
    sigma = self.variable("spectral", "sigma", lambda: jnp.float32(1))
    if self.is_mutable_collection("spectral"):
      for i in range(self.iterations):
        u.value, v.value = refine(i, (u.value, v.value))
      sigma.value = v.value @ fixed @ u.value
    norm = jnp.maximum(v.value @ matrix @ u.value, 1e-12)
    # u, v and the norm are float32 whatever the kernel is cast to.
    kernel = (params["kernel"] / norm).astype(params["kernel"].dtype)
    params = {**params, "kernel": kernel}
    y: Any = self.layer.clone(parent=None).apply({"params": params}, x)
    return y


def spectral(norm: str, skip: tuple[str, ...], known: tuple[str, ...]):
  """Returns `(layer, name="") -> layer`, wrapped where `norm` is "spectral".

  Args:
    norm: "batch", "spectral" or "none".
    skip: names of layers that stay as they are.
    known: names that there are.

  Raises:
    UserError: no such norm or layer.
  """
  norms = ("batch", "spectral", "none")
  if norm not in norms:
    raise errors.unknown("norm", norm, norms)
  for name in skip:
    if name not in known:
      raise errors.unknown("layer of spectral_skip", name, known)

  def wrap(layer: nn.Module, name: str = "") -> nn.Module:
    plain = norm != "spectral" or name in skip
    return layer if plain else SpectralNorm(layer)

  return wrap


def _unit(x: jax.Array) -> jax.Array:
  return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)


class Conv(nn.Module):
  """A convolution with the parameters of `nn.Conv`, in a fast form.

  Attributes:
    features: channels of the output.
    kernel_size: height and width of the kernel.
    stride: in both directions.
    padding: pixels on each side; (kernel_size - 1) // 2 if None.
    resample: "up" for nearest-neighbour upsampling by two before the
      convolution, "down" for 2x2 average pooling after it, both in one
      operation; then the stride is 1 and the kernel's size odd.
    groups: of channels that do not mix.
    use_bias: whether to add a bias.
    kernel_init: of the kernel `[size, size, in / groups, features]`.
    bias_init: of the bias `[features]`.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  padding: int | None = None
  resample: str = ""
  groups: int = 1
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()
  bias_init: Callable = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to `[N, H', W', features]`."""
    size = self.kernel_size
    shape = (size, size, x.shape[-1] // self.groups, self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    if self.resample:
      fused = {"up": conv.upsample_conv, "down": conv.conv_pool}
      y = fused[self.resample](x, kernel)
    else:
      same = (size - 1) // 2
      padding = same if self.padding is None else self.padding
      y = conv.conv(x, kernel, self.stride, padding, self.groups)
    return add_bias(self, y) if self.use_bias else y


def add_bias(module: nn.Module, y: jax.Array) -> jax.Array:
  """Adds a parameter `bias` of `module` to `y [..., features]`."""
  init = getattr(module, "bias_init", nn.initializers.zeros_init())
  bias = module.param("bias", init, y.shape[-1:])
  return y + jnp.broadcast_to(bias, y.shape)


class ConvTranspose(nn.Module):
  """A 4x4 transposed convolution of stride 2, as `nn.ConvTranspose`'s."""

  features: int
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to `[N, 2H, 2W, features]`."""
    shape = (4, 4, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    y = conv.conv_transpose_4x4(x, kernel)
    return add_bias(self, y) if self.use_bias else y


def flatten(x: jax.Array) -> jax.Array:
  """Maps `[N, ...]` to `[N, d]`."""
  return x.reshape(len(x), math.prod(x.shape[1:]))


def condition(net: Any, labels: jax.Array | None) -> jax.Array | None:
  """Returns the labels `[N]` that a net goes by; None if it goes by none.

  Args:
    net: with the fields `conditional` and `num_classes`.
    labels: `[N]`, or None.

  Raises:
    UserError: it goes by labels and has none.
  """
  if not net.conditional:
    return None
  if labels is None or not net.num_classes:
    name = type(net).__module__.rpartition(".")[2]
    raise errors.UserError(
      f"net {name!r} with conditional=True needs labels: give them, choose a "
      "dataset that has some, or set conditional=False"
    )
  return labels


def beside_classes(
  net: Any, x: jax.Array, labels: jax.Array | None
) -> jax.Array:
  """Returns `x [N, ..., C]` and beside it the label as a one-hot vector.

  Mirza & Osindero 2014. Beside an image it is as many channels as there are
  classes, of which one is 1 everywhere and the others are 0.

  Args:
    net: see `condition`, as for the errors.
    x: `[N, ..., C]`.
    labels: `[N]`, or None.

  Returns:
    `[N, ..., C + num_classes]`, or x if the net goes by no labels.
  """
  labels = condition(net, labels)
  if labels is None:
    return x
  classes = jax.nn.one_hot(labels, net.num_classes, dtype=x.dtype)
  classes = classes.reshape(len(x), *(1,) * (x.ndim - 2), -1)
  classes = jnp.broadcast_to(classes, (*x.shape[:-1], net.num_classes))
  return jnp.concatenate([x, classes], -1)


def head(
  net: Any, linear: Callable, x: jax.Array, labels: jax.Array | None
) -> jax.Array:
  """A discriminator's last layer by the name `net.head`: features -> logits.

  "linear"; "projection", which adds the inner product of the features and the
  label's embedding (Miyato & Koyama 2018); or "auxiliary", which sows
  `class_logits [N, num_classes]`, too, for a loss that reads them (Odena et
  al. 2017).

  Args:
    net: with the fields `head` and `num_classes`; to be called within it.
    linear: `(features, **fields)` -> a dense layer.
    x: the features `[N, d]`.
    labels: `[N]`, or `[N * k]` where a row of x is made of k images; or None.

  Returns:
    Logits `[N]`.

  Raises:
    UserError: no such head, or one that needs labels without them.
  """
  heads = dict(  # Whether there is what each of them needs.
    linear=True,
    projection=net.num_classes > 0 and labels is not None,
    auxiliary=net.num_classes > 0,
  )
  if net.head not in heads:
    raise errors.unknown("head", net.head, heads)
  if not heads[net.head]:
    raise errors.UserError(
      f"config.discriminator.head={net.head!r} needs labels: give them, "
      "take a dataset that has some, or set it to 'linear'"
    )
  logits = linear(1)(x)[:, 0]
  if net.head == "projection":
    classes = jax.nn.one_hot(labels, net.num_classes, dtype=x.dtype)
    embed = linear(x.shape[-1], use_bias=False, name="embed")
    logits += (embed(classes.reshape(len(x), -1)) * x).sum(-1)
  if net.head == "auxiliary":
    class_logits = linear(net.num_classes, name="classes")(x)
    net.sow("intermediates", "class_logits", class_logits)
  return logits
