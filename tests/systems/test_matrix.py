"""Every loss with every penalty on every kind of net: two steps each.

All forms of all losses are branches of one compiled step, so that the matrix
costs one compilation for each penalty and net.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import largest_difference

from ganjax import data, nets
from ganjax.objectives import divergences, losses, penalties, relativism
from ganjax.systems.gan import GAN

SHAPE = (8, 8, 1)
N = 4
SYMMETRIC = ("non_saturating", "least_squares", "hinge")
FORMS = [
  *((name, {}) for name in losses.LOSSES if name != "f_divergence"),
  *(("f_divergence", dict(divergence=d)) for d in divergences.DIVERGENCES),
  *(
    (name, dict(relativism=form))
    for name in SYMMETRIC
    for form in relativism.RELATIVISM
  ),
]
NETS = {
  "mlp": dict(
    generator=dict(hidden=(3,), init_range=0.5),
    discriminator=dict(hidden=(3,), pieces=2, input_dropout=0.0, dropout=0.0),
  ),
  "dcgan": dict(generator=dict(width=2), discriminator=dict(width=2)),
}


def any_loss(index):
  """The loss FORMS[index], where `index` may be traced."""
  forms = [losses.get(name, **hyper) for name, hyper in FORMS]
  choose = lambda player: (
    lambda real, fake: jax.lax.switch(
      index, [getattr(form, player) for form in forms], real, fake
    )
  )
  return losses.Loss(
    choose("discriminator"), choose("generator"), generator_uses_real=True
  )


def make(net, penalty, index, d_rate, g_rate):
  get = lambda role: nets.get(net, role, SHAPE, **NETS[net][role])
  return GAN(
    generator=get("generator"),
    discriminator=get("discriminator"),
    loss=any_loss(index),
    g_opt=optax.sgd(g_rate),
    d_opt=optax.sgd(d_rate),
    penalties={penalty: penalties.get(penalty)} if penalty else {},
    z_dim=3,
  )


KEYS = jax.random.split(jax.random.key(1))
PAIRS = [(net, name) for net in NETS for name in ("", *penalties.PENALTIES)]
# A penalty of D's inputs, one that remembers, one of G.
FAST = (
  ("dcgan", ""),
  ("mlp", ""),
  ("mlp", "gradient_penalty"),
  ("mlp", "lecam"),
  ("mlp", "mode_seeking"),
)


def prepare(net, penalty):
  """Returns a state and a step of state, key, form and rates, and it jitted."""
  images = np.random.RandomState(0).uniform(-1, 1, (2, N, *SHAPE))
  batch = data.Arrays(jnp.asarray(images, jnp.float32))
  system = make(net, penalty, 0, 0.0, 0.0)
  assert system.batches_per_step == 2
  whole = data.Arrays(batch.images.reshape(-1, *SHAPE))
  state = jax.jit(system.init)(jax.random.key(0), whole)

  def step(state, key, *settings):
    return make(net, penalty, *settings).train_step(state, batch, key)

  return state, step, jax.jit(step)


@pytest.mark.parametrize(
  ("net", "penalty"),
  [
    pytest.param(*pair, marks=[pytest.mark.slow] * (pair not in FAST))
    for pair in PAIRS
  ],
)
def test_matrix(net, penalty):
  state, _, jitted = prepare(net, penalty)
  for index, form in enumerate(FORMS):
    once, _ = jitted(state, KEYS[0], index, 1e-3, 1e-3)
    twice, metrics = jitted(once, KEYS[1], index, 1e-3, 1e-3)
    bad = {k: v for k, v in metrics.items() if not np.isfinite(v)}
    assert not bad, (form, bad)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(twice)), form
    assert twice.step == 2
    assert any(k.startswith("penalty_") for k in metrics) == bool(penalty)
    # Each player stands still where the other alone moves.
    d_only, _ = jitted(state, KEYS[0], index, 1e-3, 0.0)
    g_only, _ = jitted(state, KEYS[0], index, 0.0, 1e-3)
    for moved, player, other in (
      (d_only, "discriminator", "generator"),
      (g_only, "generator", "discriminator"),
    ):
      before = [getattr(state, x).params for x in (player, other)]
      after = [getattr(moved, x).params for x in (player, other)]
      assert largest_difference(before[0], after[0]) > 0, (form, player)
      assert largest_difference(before[1], after[1]) == 0, (form, other)


@pytest.mark.slow
@pytest.mark.parametrize(("net", "penalty"), PAIRS)
def test_compilation_changes_nothing(net, penalty):
  state, step, jitted = prepare(net, penalty)
  index = len(penalty) % len(FORMS)
  with jax.disable_jit():
    eager, _ = step(state, KEYS[0], index, 1e-3, 1e-3)
  same, _ = jitted(state, KEYS[0], index, 1e-3, 1e-3)
  for x, y in zip(jax.tree.leaves(eager), jax.tree.leaves(same), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
