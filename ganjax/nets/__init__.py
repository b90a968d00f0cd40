"""Networks: each file `nets/<name>.py` has a `Generator`, a `Discriminator`.

generator(z `[N, z_dim]`, labels=None, train=True) -> images `[N, ...]`;
discriminator(images, labels=None, train=True) -> logits `[N]`. Some have an
`Encoder`, too: encoder(images, labels=None, train=True) -> `[N, outputs]`; a
decoder is a generator. A generator
may have `init_from_data(params, images) -> params`, called once at the start;
one whose images depend on labels says so by its attribute `conditional`.
"""

import sys
from collections.abc import Callable

import flax.linen as nn

from ganjax import registry

HELPERS = ("attention", "conv", "judged", "layers", "norms", "patches")


def find(name: str, role: str) -> Callable[..., nn.Module]:
  """Returns the module class of the net `name`, e.g. `dcgan.Generator`.

  Raises:
    UserError: there is no such file, or it has no network for that role.
  """
  role = "generator" if role == "decoder" else role
  module = registry.find_module(sys.modules[__name__], name, "net", HELPERS)
  roles = registry.Registry(f"role of net {name!r}")
  for value in vars(module).values():
    # Not the layers that a file has for itself: a network knows its images.
    if "image_shape" in getattr(value, "__dataclass_fields__", ()):
      roles[value.__name__.lower()] = value
  return roles.find(role)


def names() -> list[str]:
  """Returns the names of the nets that there are."""
  return registry.module_names(sys.modules[__name__], HELPERS)


def get(
  name: str,
  role: str,
  image_shape: tuple[int, ...],
  num_classes: int = 0,
  axis_name: str | None = None,
  **fields,
) -> nn.Module:
  """Returns the network `name` in the part `role`.

  Args:
    name: a file of `ganjax/nets`.
    role: "generator" or "decoder", "discriminator", "encoder": a class of
      that file.
    image_shape: `(H, W, C)`, or `(2,)` for the toy sets.
    num_classes: of the labels; 0 where there are none.
    axis_name: the mapped axis over which batch statistics are shared.
    **fields: the network's own fields.
  """
  return find(name, role)(
    image_shape=tuple(image_shape),
    num_classes=num_classes,
    axis_name=axis_name,
    **fields,
  )
