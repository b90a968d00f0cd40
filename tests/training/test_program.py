"""Programs: many steps in one dispatch, bfloat16, compilations on disk."""

import jax
import numpy as np
import pytest

from ganjax import errors
from ganjax.runs import configs
from ganjax.training import program
from ganjax.training.train import train

ONE = jax.devices()[:1]


def config(name="digits_mlp", **changes):
  result = configs.load(f"{name}:smoke")
  result.evals, result.checkpoint.best = {}, ""
  result.update(num_steps=6, log_every=2)
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


@pytest.mark.parametrize(
  "devices", [1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_steps_in_one_dispatch_are_the_same_steps(tmp_path, devices):
  """Lazy penalties rest in the same ones; logs say the same."""
  runs = [
    train(
      config(penalties=dict(r1=dict(gamma=1.0, every=3)), steps_per_dispatch=n),
      tmp_path / str(n),
      jax.devices()[:devices],
      report=False,
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
  train(config(num_steps=3), tmp_path / "a", ONE, report=False)
  two = config(steps_per_dispatch=2)
  resumed = train(two, tmp_path / "a", ONE, report=False)
  unbroken = train(config(), tmp_path / "b", ONE, report=False)
  assert resumed.step == unbroken.step == 6
  assert_close(resumed.state, unbroken.state, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_updates_apart_are_one_step():
  """Two updates of D and one of G, a program each, as CPU has it."""
  spec = configs.resolve(config("digits_dcgan", d_steps_per_g_step=2))
  arrays = configs.load_data(spec, "train")
  shape, num_classes = arrays.images.shape[1:], arrays.num_classes

  def prepare(batch):
    return batch.replace(images=batch.images / 127.5 - 1.0)

  plain = configs.build(spec, shape, num_classes)
  system = configs.build(spec, shape, num_classes)
  updates = system.updates()
  assert len(updates) == 3 and updates[0].function == updates[1].function
  state = plain.init(jax.random.key(0), prepare(arrays))
  key = jax.random.key(1)
  indices = np.arange(2 * 8).reshape(2, 8)
  batch = jax.tree.map(lambda x: x[indices], arrays)
  folded = jax.random.fold_in(key, 3)
  expected, theirs = jax.jit(plain.train_step)(state, prepare(batch), folded)
  step_fn = program.make_step(system, prepare, ONE)
  mine, on_device = program.replicate((state, arrays), ONE)
  mine, ours = step_fn(mine, on_device, indices[None, None], key, 3)
  assert ours.keys() == theirs.keys()
  for name, value in theirs.items():
    np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-5)
  # Adam's first steps have the size of the rate, whatever the gradient's.
  assert_close(mine.discriminator, expected.discriminator, atol=2e-3)
  assert_close(mine.generator, expected.generator, atol=2e-3)


def test_a_dispatch_ends_where_something_is_due(tmp_path):
  with pytest.raises(errors.UserError, match="does not divide 2"):
    train(config(steps_per_dispatch=4), tmp_path, ONE)

  class Accelerator:
    platform = "gpu"

  choose = program.steps_per_dispatch
  assert choose(0, [100, 1000], ONE) == 1
  assert choose(0, [100, 1000], [Accelerator]) == 100
  assert choose(0, [250, 1000], [Accelerator]) == 50
  assert choose(5, [10], [Accelerator]) == 5


@pytest.mark.slow
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
      report=False,
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


def test_a_second_start_compiles_nothing(tmp_path, compilations, compile_cache):
  settings = dict(batch_size=7)
  compile_cache(tmp_path / "xla")  # Without what others compiled.
  train(config(**settings), tmp_path / "a", ONE, report=False)
  assert compilations["cache_misses"] > 0
  jax.clear_caches()
  compilations.update(cache_misses=0, cache_hits=0)
  train(config(**settings), tmp_path / "b", ONE, report=False)
  assert compilations["cache_misses"] == 0
  assert compilations["cache_hits"] > 0
