"""What systems that look at D's features are given, and ask for."""

import jax
import jax.numpy as jnp
import pytest

from ganjax import errors, nets
from ganjax.nets.judged import Judged
from ganjax.systems.adversarial import features_of


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_a_head_within_a_spectral_norm_has_features(norm):
  net = nets.get("dcgan", "discriminator", (8, 8, 1), width=4, norm=norm)
  x = jnp.ones((2, 8, 8, 1))
  judged = net.apply(net.init(jax.random.key(0), x), x)
  assert judged.logits.shape == (2,)
  assert features_of(judged).shape == (2, 4 * 4 * 4)


@pytest.mark.parametrize("name", nets.names())
def test_every_discriminator_has_some(name):
  net = nets.get(name, "discriminator", (32, 32, 3), 10)
  images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
  labels = jax.ShapeDtypeStruct((4,), jnp.int32)

  def judge(images, labels):
    key = jax.random.key(0)
    rngs = {"params": key, "dropout": key}
    return net.init_with_output(rngs, images, labels)[0]

  judged = jax.eval_shape(judge, images, labels)
  seen = features_of(judged)
  assert judged.logits.shape == (4,)
  assert seen.shape[0] == 4 and seen.shape[1] >= 128


def test_logits_alone_are_a_judgement_without_features():
  logits = jnp.zeros(3)
  judged = Judged.of(logits)
  assert judged.logits is logits
  assert Judged.of(judged) is judged
  with pytest.raises(errors.UserError, match="returns its features"):
    features_of(judged)
