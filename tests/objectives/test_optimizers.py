"""What optax's names find; clipping, alone and beside schedules."""

import inspect
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from ganjax import errors, main
from ganjax.objectives import optimizers


def run(optimizer, params, gradients):
  """Returns the parameters after each of the updates."""
  state = optimizer.init(params)
  after = []
  for grads in gradients:
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    after.append(params)
  return after


def close(got, expected):
  np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


def of_optax():
  """Returns the names of all that takes a learning rate in optax."""
  found = {**vars(contrib), **vars(optax)}
  return {
    name
    for name, value in found.items()
    if inspect.isfunction(value) and not name.startswith("_")
    if "learning_rate" in inspect.signature(value).parameters
  }


def test_every_optimizer_of_optax_is_found_or_refused_with_a_reason():
  own = {"classical_momentum"}
  assert (
    optimizers.OPTIMIZERS.keys() == of_optax() - optimizers.UNFIT.keys() | own
  )
  assert optimizers.UNFIT.keys() < of_optax()
  for name in "muon", "schedule_free_adamw", "schedule_free_sgd", "prodigy":
    assert optimizers.find(name) is getattr(contrib, name)
  with pytest.raises(errors.UserError, match="'momo' of optax .* the loss"):
    optimizers.get("momo", learning_rate=1.0)
  with pytest.raises(errors.UserError, match="did you mean 'muon'"):
    optimizers.find("mouon")


# An optimizer with `optimistic` in its name is on its way out of optax.
@pytest.mark.filterwarnings("ignore:.*optimistic_adam:DeprecationWarning")
def test_the_state_of_each_can_be_carried_and_kept():
  """Two steps under jit: structure, shapes and types stay; flax copies it.

  That checkpoints give it back bit for bit is in `training/test_resume.py`.
  """
  made = {
    name: optimizers.get(name, learning_rate=0.1)
    for name in optimizers.OPTIMIZERS
  }
  params = {"bias": jnp.ones(2), "kernel": jnp.linspace(-1.0, 1.0, 12)}
  params["kernel"] = params["kernel"].reshape(2, 3, 2)
  grads = jax.tree.map(lambda p: jnp.cos(3 * p) + 0.1, params)

  @jax.jit
  def step(all_params, states):
    new_params = {}
    new_states = {}
    for name, optimizer in made.items():
      updates, new_states[name] = optimizer.update(
        grads, states[name], all_params[name]
      )
      new_params[name] = optax.apply_updates(all_params[name], updates)
    return new_params, new_states

  def kinds(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

  start = {name: made[name].init(params) for name in made}
  first, states = step(dict.fromkeys(made, params), start)
  second, states = step(first, states)
  for name, state in states.items():
    assert kinds(state) == kinds(start[name]), name
    # No leaf is a typed key, or empty: neither can be written down.
    for leaf in jax.tree.leaves(state):
      assert isinstance(leaf, jax.Array) and leaf.size, name
      assert not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key), name
    copy = flax.serialization.from_state_dict(
      start[name], flax.serialization.to_state_dict(state)
    )
    jax.tree.map(np.testing.assert_array_equal, copy, state)
    # Some, as ADOPT, only measure gradients in their first step.
    kernel = second[name]["kernel"]
    assert np.isfinite(kernel).all(), name
    assert (kernel != params["kernel"]).any(), name


@pytest.mark.parametrize(
  "name", [n for n in optimizers.OPTIMIZERS if hasattr(contrib, n)]
)
def test_a_config_names_those_of_contrib(name):
  argv = ["main", "--config=digits_dcgan:smoke", f"--config.d_opt.name={name}"]
  config, _ = main.parse(argv)
  optimizer = optimizers.get(**config.d_opt.to_dict())
  params = {"kernel": jnp.ones((3, 2))}
  state = optimizer.init(params)
  updates, _ = optimizer.update(params, state, params)
  assert np.isfinite(updates["kernel"]).all()


def test_muon_orthogonalises_matrices():
  """All singular values of its first update are about the rate."""
  muon = optimizers.get("muon", learning_rate=0.1)
  params = {"kernel": jnp.zeros((3, 3))}
  grads = {"kernel": jnp.diag(jnp.array([5.0, 1.0, -0.5]))}
  (after,) = run(muon, params, [grads])
  sizes = np.linalg.svd(after["kernel"], compute_uv=False)
  assert (abs(sizes - 0.1) < 0.035).all()


def test_schedule_free_trains_y():
  """Of z = 1, .5 after one step of SGD, x is their mean and y = .9 x + .1 z.

  Samples are drawn from y, the network's parameters; x is optax's to tell.
  """
  free = optimizers.get("schedule_free_sgd", learning_rate=0.5, b1=0.9)
  params = jnp.float32(1.0)
  state = free.init(params)
  for _ in range(2):
    updates, state = free.update(jnp.float32(1.0), state, params)
    params = optax.apply_updates(params, updates)
  # z is .5, then 0; x is .5, then (.5 + 0) / 2; y = .9 * .25 + .1 * 0.
  close(state.z, 0.0)
  close(contrib.schedule_free_eval_params(state, params), 0.25)
  close(params, 0.225)
  with pytest.raises(errors.UserError, match="needs a b1 above 0"):
    optimizers.get("schedule_free_adamw", learning_rate=0.5, b1=0.0)


def test_one_of_a_users_own(tmp_path, monkeypatch):
  """By a name that is registered, or by where it is."""
  file = tmp_path / "mine.py"
  file.write_text(
    "import optax\n\ndef half(learning_rate: float, factor: float = 0.5):\n"
    "  return optax.sgd(factor * learning_rate)\n"
  )
  found = optimizers.find(f"{file}:half")
  monkeypatch.setitem(optimizers.OPTIMIZERS, "half", found)
  for name in f"{file}:half", "half":
    optimizer = optimizers.get(name, learning_rate=1.0, factor=0.25)
    close(run(optimizer, jnp.float32(0), [jnp.float32(4)]), [-1.0])


def test_weights_stay_within_their_interval():
  """Of any sign and any size of the update, and from outside, too."""
  optimizer = optimizers.get("sgd", learning_rate=1.0, clip_weights=0.01)
  params = {"w": jnp.array([0.0, 0.009, -0.009, 0.5, -3.0, 0.005])}
  grads = {"w": jnp.array([-1.0, -0.5, 0.5, 0.0, 1.0, 0.002])}
  (after,) = run(optimizer, params, [grads])
  close(after["w"], [0.01, 0.01, -0.01, 0.01, -0.01, 0.003])
  rng = np.random.RandomState(0)
  many = [{"w": jnp.asarray(rng.normal(size=6), jnp.float32)} for _ in range(9)]
  for after in run(optimizer, params, many):
    assert np.abs(after["w"]).max() <= 0.01 + 1e-8


def test_inside_the_interval_updates_are_untouched():
  """So are the moments: only the last step of the chain is shortened."""
  params = jnp.array([0.1, -0.2])
  grads = [jnp.array([1.0, -2.0]) * s for s in (1.0, -0.5, 3.0)]
  plain = optimizers.get("adam", learning_rate=1e-3)
  clipped = optimizers.get("adam", learning_rate=1e-3, clip_weights=1.0)
  for a, b in zip(
    run(plain, params, grads), run(clipped, params, grads), strict=True
  ):
    close(a, b)


def test_the_critic_of_wgan():
  """Algorithm 1: w <- clip(w + 5e-5 RMSProp(w, g_w), -.01, .01)."""
  ours = optimizers.get(
    "rmsprop", learning_rate=5e-5, decay=0.9, clip_weights=0.01
  )
  theirs = optax.rmsprop(5e-5, decay=0.9)
  params = jnp.array([0.00995, -0.002])
  state = theirs.init(params)
  expected = params
  grads = jnp.array([-1.0, 1.0])
  for after in run(ours, params, [grads] * 3):
    updates, state = theirs.update(grads, state)
    expected = optax.apply_updates(expected, updates)
    expected = jnp.clip(jnp.asarray(expected), -0.01, 0.01)
    close(after, expected)
  assert abs(expected[0] - 0.01) < 1e-8 < 0.01 + expected[1]


def test_weight_clipping_needs_the_weights():
  clipping = optimizers.weight_clipping(0.01)
  with pytest.raises(ValueError, match="parameters"):
    clipping.update(jnp.ones(2), clipping.init(jnp.ones(2)))


def test_columns_are_not_longer_than_their_limit():
  """Of (3, 4), (0, -1) and (0, 0) after the step, the first is halved."""
  optimizer = optimizers.get("sgd", learning_rate=1.0, max_column_norm=2.5)
  kernel = jnp.array([[1.0, 0.0, 0.0], [1.0, -1.0, 0.0]])
  grads = {"kernel": jnp.array([[-2.0, 0.0, 0.0], [-3.0, 0.0, 0.0]])}
  params = {"a": {"kernel": kernel, "bias": jnp.array([9.0, 9.0, 9.0])}}
  updates = {"a": grads | {"bias": jnp.array([-1.0, 0.0, 1.0])}}
  (after,) = run(optimizer, params, [updates])
  close(after["a"]["kernel"], [[1.5, 0.0, 0.0], [2.0, -1.0, 0.0]])
  close(after["a"]["bias"], [10.0, 9.0, 8.0])


def test_columns_of_convolutions_and_what_is_no_kernel():
  """A column is all that leads into a channel: eight ones, here."""
  clipping = optimizers.column_clipping(2.0)
  ones = jnp.ones((2, 2, 2, 3))
  params = {"kernel": ones, "embedding": ones}
  zeros = {"kernel": 0 * ones, "embedding": 0 * ones}
  updates, _ = clipping.update(zeros, clipping.init(params), params)
  close(1 + updates["kernel"], np.full(ones.shape, 2 / 8**0.5))
  close(updates["embedding"], zeros["embedding"])
  close(clipping.update(ones, clipping.init(ones), ones)[0], ones)
  with pytest.raises(ValueError, match="parameters"):
    clipping.update(ones, clipping.init(ones))


@pytest.mark.parametrize(
  ("limit", "scale"), [(1.0, 0.2), (4.999, 0.9998), (5.001, 1.0), (9.0, 1.0)]
)
def test_gradients_are_clipped_together(limit, scale):
  """The norm of 3 and 4 in different leaves is 5."""
  optimizer = optimizers.get("sgd", learning_rate=2.0, clip_gradients=limit)
  params = {"a": jnp.zeros(1), "b": {"c": jnp.zeros((1, 1))}}
  grads = {"a": jnp.full(1, 3.0), "b": {"c": jnp.full((1, 1), -4.0)}}
  (after,) = run(optimizer, params, [grads])
  close(after["a"], [-6.0 * scale])
  close(after["b"]["c"], [[8.0 * scale]])


def test_gradients_are_clipped_before_the_optimizer_sees_them():
  """Momentum remembers the clipped gradient."""
  optimizer = optimizers.get(
    "sgd", learning_rate=1.0, momentum=0.5, clip_gradients=1.0
  )
  after = run(optimizer, jnp.float32(0), [jnp.float32(8), jnp.float32(0)])
  close(after, [-1.0, -1.5])


def test_schedules_work_beside_clipping():
  """Momentum .5 then 0, rate 1 then .5, gradients to 1, weights to 1.8."""
  stairs = dict(
    name="piecewise_constant_schedule", boundaries_and_scales={1: 0.0}
  )
  rate = dict(name="exponential_decay", init_value=1.0, transition_steps=1)
  hyper: dict[str, Any] = dict(
    learning_rate=rate | dict(decay_rate=0.5),
    momentum=stairs | dict(init_value=0.5),
    clip_gradients=1.0,
  )
  params = jnp.float32(0)
  grads = [jnp.float32(-7)] * 3
  # V = mu V + 1 is 1, 1, 1 and p moves by 1, 1/2, 1/4.
  after = run(optimizers.get("sgd", **hyper), params, grads)
  close(after, [1.0, 1.5, 1.75])
  clipped = optimizers.get("sgd", clip_weights=1.2, **hyper)
  close(run(clipped, params, grads), [1.0, 1.2, 1.2])


def test_flags_reach_both():
  flags = ["clip_weights=0.01", "clip_gradients=1", "learning_rate=1"]
  argv = ["main", "--config=digits_dcgan:smoke", "--config.d_opt.name=sgd"]
  config, _ = main.parse([*argv, *(f"--config.d_opt.{f}" for f in flags)])
  assert config.d_opt.clip_weights == 0.01
  assert config.g_opt.clip_weights is config.g_opt.clip_gradients is None
  zeros = jnp.zeros(2)
  grads = jnp.array([30.0, 40.0])
  spec = config.d_opt.to_dict()
  close(run(optimizers.get(**spec), zeros, [grads])[0], [-0.01, -0.01])
  spec["clip_weights"] = None
  close(run(optimizers.get(**spec), zeros, [grads])[0], [-0.6, -0.8])
  argv[-1] = "--config.d_opt.max_column_norm=1.9365"
  config, _ = main.parse(argv)
  assert config.d_opt.max_column_norm == 1.9365
  with pytest.raises(errors.UserError, match="max_column_norm=0.0 is out of"):
    main.parse([*argv, "--config.d_opt.max_column_norm=0"])
