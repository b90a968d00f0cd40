"""Networks: what they map, where they are found, how others join them.

Each file `nets/<name>.py` has some of the classes `Generator`, `Discriminator`
and `Encoder`, Flax modules that map

- generator: `(z [N, z_dim], labels=None, train=True)` -> images `[N, ...]`;
- discriminator: `(images, labels=None, train=True)` -> `judged.Judged`, or the
  logits `[N]` alone;
- encoder: `(images, labels=None, train=True)` -> codes `[N, outputs]`.

A decoder is a generator. A generator may have the method
`init_from_data(params, images) -> params`, which is called once at the start.
A generator whose images depend on labels says so by its attribute
`conditional`.

A module has the fields `image_shape` and `num_classes` if it wants to know
them; its other fields are keys of its section of the config. A network of the
user's own needs no file in this package. It is registered,

    @nets.register("my_net", role="generator")
    class MyGenerator(nn.Module): ...

or named by where it is: `config.generator.name="my_nets.py:MyGenerator"`, or
`"my_package.my_nets:MyGenerator"`.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import flax.linen as nn

from ganjax import errors, registry

# A Flax class, or a function that returns a module.
Maker: TypeAlias = Callable[..., nn.Module]
M = TypeVar("M", bound=Maker)

ROLES = ("generator", "discriminator", "encoder")
# What Flax gives every module, and no config sets.
FLAX_FIELDS = {"parent", "name"}
# Files of this package that are no networks.
HELPERS = (
  "attention",
  "conv",
  "judged",
  "labels",
  "layers",
  "norms",
  "patches",
  "residual",
  "spectral",
)


class Nets(registry.Registry):
  """The networks by name: each is a dict role -> class.

  It holds those that were registered. A file of the package is looked up anew
  each time, by the names of its classes.
  """

  def __missing__(self, name: str) -> dict[str, Maker]:
    """Returns the classes of the file `name`, none if there is no such file."""
    return _roles_of_file(name)


NETS = Nets("net", __name__, HELPERS)


def register(name: str, role: str) -> Callable[[M], M]:
  """Returns a decorator that registers a class as the net `name` in a role.

  Args:
    name: by which configs call it; none of ganjax's own.
    role: "generator" or "decoder", "discriminator", "encoder".

  Raises:
    UserError: there is no such role, or the name is taken.
  """
  role = _check_role(role)

  def decorate(maker: M) -> M:
    before = NETS[name].get(role)
    if before is not None:  # A net of ganjax's may get another role.
      NETS.check_free(name, maker, before)
    NETS[name] = {**NETS[name], role: maker}
    return maker

  return decorate


def names() -> list[str]:
  """Returns the names of the nets that there are, in any role."""
  return NETS.names()


def find(name: str, role: str) -> Maker:
  """Returns the class of the net `name` in a role, e.g. `dcgan.Generator`.

  Args:
    name: what was registered, a file of this package, or `module:attribute`.
    role: "generator" or "decoder", "discriminator", "encoder".

  Raises:
    UserError: there is no such net, or it has no class for that role.
  """
  role = _check_role(role)
  roles = NETS.find(name)
  if not isinstance(roles, dict):
    return roles  # The attribute of a module is a class, whatever its role.
  if role not in roles:
    raise errors.unknown(f"role of net {name!r}", role, roles)
  return roles[role]


def get(
  name: str,
  role: str,
  image_shape: tuple[int, ...],
  num_classes: int = 0,
  **fields: Any,
) -> nn.Module:
  """Returns the network `name` in a role.

  Args:
    name: see `find`.
    role: "generator" or "decoder", "discriminator", "encoder".
    image_shape: `(H, W, C)`, or `(2,)` for the toy sets.
    num_classes: of the labels; 0 where there are none.
    **fields: the network's own fields.

  Raises:
    UserError: there is no such net, or it cannot be made of these fields.
  """
  maker = find(name, role)
  if not callable(maker):
    raise errors.UserError(f"net {name!r} is {maker!r}: name a Flax class")
  parameters = inspect.signature(maker).parameters
  shape = {"image_shape": tuple(image_shape), "num_classes": num_classes}
  given = {k: v for k, v in shape.items() if k in parameters}
  given.update(fields)
  _check_fields(name, role, given, parameters)
  net = maker(**given)
  if not isinstance(net, nn.Module):
    raise errors.UserError(
      f"net {name!r} makes an object of type {type(net).__name__}: it has to "
      "be a Flax module"
    )
  return net


def _check_fields(
  name: str,
  role: str,
  given: Mapping[str, Any],
  parameters: Mapping[str, inspect.Parameter],
) -> None:
  """Raises a `UserError` if a net cannot be made of the fields given."""
  kinds = {p.kind for p in parameters.values()}
  if inspect.Parameter.VAR_KEYWORD not in kinds:
    for key in given:
      if key not in parameters:
        known = parameters.keys() - FLAX_FIELDS
        raise errors.unknown(f"field of net {name!r}", key, known)
  variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
  for key, parameter in parameters.items():
    needed = parameter.default is inspect.Parameter.empty
    if needed and parameter.kind not in variable and key not in given:
      raise errors.UserError(
        f"net {name!r} needs the field {key!r}: set config.{role}.{key}"
      )


def _check_role(role: str) -> str:
  """Returns the role under which a class is kept, or raises a `UserError`."""
  if role == "decoder":
    return "generator"
  if role not in ROLES:
    raise errors.unknown("role", role, [*ROLES, "decoder"])
  return role


def _roles_of_file(name: str) -> dict[str, Maker]:
  """Returns role -> class of a file of this package; none if it is no file."""
  if name not in {file.name for file in pkgutil.iter_modules(__path__)}:
    return {}
  module = importlib.import_module(f"{__name__}.{name}")
  classes = {role: getattr(module, role.capitalize(), None) for role in ROLES}
  return {role: found for role, found in classes.items() if found is not None}
