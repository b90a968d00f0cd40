"""What a discriminator makes of an image before its last layer."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from ganjax import errors


def watch(
  function: Callable[..., Any], *args, **kwargs
) -> tuple[Any, jax.Array]:
  """Returns `function(*args, **kwargs)` and the features `[n, d]` in it.

  Features are what enters the last dense layer of one output that the function
  applies: the one that makes the logit. Where the logit is made of labels
  alone, it is the last dense layer. They are differentiable as the output is,
  and come from the same pass.

  Args:
    function: applies one network once, e.g. `adversarial.judge`.
    *args: of the function.
    **kwargs: of the function.

  Raises:
    UserError: there is no dense layer in it.
  """
  seen: dict[bool, jax.Array] = {}

  def remember(layer, inputs, output):
    del output
    seen[layer.features == 1] = inputs

  output = _spy(remember, function, *args, **kwargs)
  if not seen:
    raise errors.UserError(
      "this discriminator has no features: its last layer is not a dense one"
    )
  found = seen[max(seen)]
  return output, found.reshape(len(found), -1)


def watch_classes(
  function: Callable[..., Any], *args, **kwargs
) -> tuple[Any, list[jax.Array]]:
  """Returns `function(*args, **kwargs)` and the class logits `[n, K]` in it.

  Those of an auxiliary head (`nets.layers.head`), of each pass in order.

  Args:
    function: applies a discriminator any number of times.
    *args: of the function.
    **kwargs: of the function.

  Raises:
    UserError: the discriminator has no such head.
  """
  seen: list[jax.Array] = []

  def remember(layer, inputs, output):
    del inputs
    if layer.name == "classes":
      seen.append(output)

  output = _spy(remember, function, *args, **kwargs)
  if not seen:
    raise errors.UserError(
      "config.system.auxiliary_weight needs a discriminator that classifies: "
      "set config.discriminator.head='auxiliary', or the weight to 0"
    )
  return output, seen


def _spy(remember, function, *args, **kwargs):
  """Calls the function; `remember(layer, inputs, output)` of dense layers."""

  def intercept(next_function, args, kwargs, context):
    output = next_function(*args, **kwargs)
    if isinstance(context.module, nn.Dense):
      if context.method_name == "__call__":
        remember(context.module, args[0], output)
    return output

  with nn.intercept_methods(intercept):
    return function(*args, **kwargs)
