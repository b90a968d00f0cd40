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

  def remember(next_function, args, kwargs, context):
    layer = context.module
    if isinstance(layer, nn.Dense) and context.method_name == "__call__":
      seen[layer.features == 1] = args[0]
    return next_function(*args, **kwargs)

  with nn.intercept_methods(remember):
    output = function(*args, **kwargs)
  if not seen:
    raise errors.UserError(
      "this discriminator has no features: its last layer is not a dense one"
    )
  found = seen[max(seen)]
  return output, found.reshape(len(found), -1)
