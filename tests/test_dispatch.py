"""Several steps in one dispatch, bfloat16, compilations kept on disk."""

import jax
import numpy as np
import pytest

from ganjax import configs, errors, parallel
from ganjax.train import train

ONE = jax.devices()[:1]


def config(name="digits_mlp", **changes):
  result = configs.load(f"{name}:smoke")
  result.update(dict(num_steps=6, log_every=2, evals=dict()))
  result.samples.every = result.checkpoint.every = 0
  result.update(changes)
  return result


def numbers(run):
  """Returns the log's rows without what the clock says."""
  return [
    {k: v for k, v in row.items() if k != "images_per_sec"}
    for row in run.history()
  ]


def assert_close(a, b, **tolerance):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), **tolerance)


@pytest.mark.parametrize("devices", [1, 2])
def test_steps_in_one_dispatch_are_the_same_steps(tmp_path, devices):
  """Lazy penalties rest in the same ones; logs say the same."""
  runs = [
    train(
      config(penalties=dict(r1=dict(gamma=1.0, every=3)), steps_per_dispatch=n),
      tmp_path / str(n),
      jax.devices()[:devices],
    )
    for n in (1, 2)
  ]
  assert_close(runs[0].state, runs[1].state, rtol=1e-5, atol=1e-6)
  one, two = map(numbers, runs)
  assert [row["step"] for row in one] == [2, 4, 6]
  for a, b in zip(one, two, strict=True):
    assert a.keys() == b.keys() and a["penalty_r1"] > 0
    for key in a.keys() - {"diagnosis"}:
      np.testing.assert_allclose(a[key], b[key], rtol=1e-4, atol=1e-5)


def test_a_resume_between_two_dispatches(tmp_path):
  """From step 3, single steps lead to where dispatches of two begin."""
  train(config(num_steps=3), tmp_path / "a", ONE)
  resumed = train(config(steps_per_dispatch=2), tmp_path / "a", ONE)
  unbroken = train(config(), tmp_path / "b", ONE)
  assert resumed.step == unbroken.step == 6
  assert_close(resumed.state, unbroken.state, rtol=1e-5, atol=1e-6)


def test_a_dispatch_ends_where_something_is_due(tmp_path):
  with pytest.raises(errors.UserError, match="does not divide 2"):
    train(config(steps_per_dispatch=4), tmp_path, ONE)

  class Accelerator:
    platform = "gpu"

  choose = parallel.steps_per_dispatch
  assert choose(0, [100, 1000], ONE) == 1
  assert choose(0, [100, 1000], [Accelerator]) == 100
  assert choose(0, [250, 1000], [Accelerator]) == 50
  assert choose(5, [10], [Accelerator]) == 5


def test_bfloat16_follows_float32(tmp_path):
  """Twenty losses, a gradient penalty's second derivatives among them."""
  rows = {}
  for precision in ("float32", "bfloat16"):
    run = train(
      config(
        "digits_dcgan",
        precision=precision,
        num_steps=20,
        log_every=1,
        penalties=dict(r1=dict(gamma=1.0)),
      ),
      tmp_path / precision,
      ONE,
    )
    rows[precision] = run.history()
    kinds = {x.dtype for x in jax.tree.leaves(run.state)}
    assert {str(kind) for kind in kinds} <= {"float32", "int32", "uint32"}
  pairs = list(zip(rows["float32"], rows["bfloat16"], strict=True))
  assert len(pairs) == 20
  for key in "d_loss", "g_loss", "penalty_r1":
    a, b = np.array([[row[key] for row in pair] for pair in pairs]).T
    assert np.abs(a - b).max() < 0.03 * np.abs(a).max(), key
    assert (a != b).any()  # It was another arithmetic.


def test_precision_is_checked():
  with pytest.raises(errors.UserError, match="float16.*bfloat16"):
    configs.resolve(config(precision="float16"))


@pytest.fixture
def compilations():
  """Counts what XLA compiles and what it finds on disk."""
  counts = {"cache_misses": 0, "cache_hits": 0}
  names = {f"/jax/compilation_cache/{name}": name for name in counts}
  active = True

  def listen(event, **_):
    if active and event in names:
      counts[names[event]] += 1

  jax.monitoring.register_event_listener(listen)
  yield counts
  active = False


def test_a_second_start_compiles_nothing(tmp_path, compilations):
  settings = dict(batch_size=7)  # Which no other test has compiled.
  jax.clear_caches()  # Of what others compiled without a folder.
  train(config(**settings), tmp_path / "a", ONE)
  assert compilations["cache_misses"] > 0
  jax.clear_caches()
  compilations.update(cache_misses=0, cache_hits=0)
  train(config(**settings), tmp_path / "b", ONE)
  assert compilations["cache_misses"] == 0
  assert compilations["cache_hits"] > 0
