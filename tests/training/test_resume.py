"""N steps, a restart and N more are 2N steps bit for bit, whatever is on.

Each case of `CASES` turns on some features that keep something from step to
step. Its run is stopped after every dispatch, so that it goes on from every
phase of its cycles, and must leave what the unbroken one leaves: each leaf of
the state, each row of the log, each file of samples. What `test_train.py` has
of one restart with convolutions is not repeated but for `slow` cases.
"""

import contextlib
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import assert_same_run

from ganjax import systems
from ganjax.objectives import losses, optimizers
from ganjax.runs import checkpoint, configs
from ganjax.training import program, signals, train

# Of points; batches of 8 do not divide it.
NUM_EXAMPLES = 37
DIGITS = "digits_mlp"


def cosine(init_value, end_value, decay_steps=5.0):
  spec = dict(init_value=init_value, end_value=end_value)
  return dict(name="cosine", decay_steps=decay_steps, **spec)


def net(**more):
  return dict(hidden=(4,), init_range=0.5, **more)


CASES: dict[str, dict[str, Any]] = {
  # Three updates of D a step are programs of their own; half a batch of
  # each epoch is in the next one; a decaying noise; the EMA's ramp.
  "a clipped critic": dict(
    d_steps_per_g_step=3,
    loss=dict(name="wasserstein"),
    d_opt=dict(
      name="rmsprop", learning_rate=0.02, momentum=0.9, clip_weights=0.05
    ),
    system=dict(instance_noise=0.5, instance_noise_steps=5),
    ema=dict(decay=0.99),
  ),
  # G draws reals of its own; R1 rests in two steps of three.
  "a lazy penalty of differences": dict(
    num_steps=7,
    loss=dict(name="least_squares", relativism="average", unbiased=True),
    g_opt=dict(name="optimistic_adam_v2", learning_rate=0.01),
    d_opt=dict(name="amsgrad", learning_rate=0.01),
    penalties=dict(r1=dict(gamma=2.0, every=3)),
    ema=dict(decay=0.0, half_life=cosine(0.0, 32.0)),
  ),
  # Rate and momentum follow their own counts; means of logits; dropout.
  "both players at once": dict(
    system=dict(simultaneous=True, label_smoothing=0.1),
    loss=dict(name="minimax"),
    g_opt=dict(
      name="classical_momentum",
      learning_rate=cosine(0.1, 0.01),
      momentum=dict(
        name="linear_staircase",
        init_value=0.5,
        end_value=0.7,
        num_stairs=3,
        stair_length=2,
      ),
    ),
    d_opt=dict(name="optimistic_gradient_descent", learning_rate=0.1),
    discriminator=dict(dropout=0.5),
    penalties=dict(lecam=dict(weight=cosine(0.1, 1.0))),
    ema=dict(decay=dict(name="running_mean", start=2)),
  ),
  # A controller that moves every second step, of images; top-k's share.
  "augmented images": dict(
    experiment=DIGITS,
    leave_out=tuple(range(1, 10)),  # 142 images are left: 2.4 epochs.
    batch_size=56,
    loss=dict(name="hinge"),
    system=dict(top_k=0.5, top_k_steps=4),
    augment=dict(
      name="ada",
      initial_p=0.5,
      interval=2,
      adjust_images=400,
      policy=("xflip", "cutout"),
    ),
    samples=dict(every=2, num=4),
  ),
  # Lazy parts are chosen on the device.
  "two steps a dispatch": dict(
    num_steps=8,
    log_every=2,
    samples=dict(every=4),
    steps_per_dispatch=2,
    loss=dict(name="f_divergence"),
    penalties=dict(orthogonal=dict(weight=0.1, every=3)),
  ),
  # A stream begins in the middle of an epoch.
  "streamed pairs": dict(
    stream=dict(mode="always", workers=0),
    loss=dict(name="non_saturating", relativism="pairing"),
    g_opt=dict(name="sgd", learning_rate=0.1, momentum=0.9, nesterov=True),
    d_opt=dict(name="yogi", learning_rate=0.01),
  ),
}
SLOW: dict[str, dict[str, Any]] = {
  # Spectral vectors and running statistics at every phase of R1.
  "convolutions": dict(
    experiment="digits_dcgan",
    num_steps=5,
    batch_size=24,
    penalties=dict(r1=dict(every=2), path_length=dict(every=2)),
    discriminator=dict(norm="spectral"),
    dataset=dict(size=8),
    samples=dict(every=2, num=4),
    ema=dict(decay=0.9),
  ),
  "batch norm on two devices": dict(
    experiment="digits_dcgan",
    num_devices=2,
    num_steps=4,
    d_steps_per_g_step=2,
    discriminator=dict(norm="batch"),
    dataset=dict(size=8),
    samples=dict(every=2, num=4),
  ),
  "half precision and a step of z": dict(
    experiment=DIGITS,
    precision="bfloat16",
    system=dict(latent_step=0.9),
    penalties=dict(path_length={}, lecam={}),
    d_opt=dict(name="lion", learning_rate=0.01),
    g_opt=dict(name="adabelief", learning_rate=0.01),
    samples=dict(every=2, num=4),
  ),
}


def config_of(experiment="toy_ring", num_devices=1, **changes):
  """Returns the config of a case, and its devices."""
  found = configs.load(f"{experiment}:smoke")
  found.evals, found.checkpoint = {}, dict(every=0)
  found.update(num_steps=6, log_every=1, samples=dict(every=3, num=4))
  if experiment == "toy_ring":
    found.dataset.num_examples, found.system.z_dim = NUM_EXAMPLES, 4
  if experiment in ("toy_ring", DIGITS):
    found.generator.update(net())
    found.discriminator.update(net(pieces=1))
  for player in {"g_opt", "d_opt"} & changes.keys():
    found[player] = changes.pop(player)
  with found.ignore_type():  # A schedule may stand where a number did.
    found.update(changes)
  return found, jax.devices()[:num_devices]


def once(make):
  """Returns a `make` that gives what it made of its first arguments."""
  made = []

  def first(*arguments):
    if not made:
      made.append(make(*arguments))
    return made[0]

  return first


def once_for_each(map_step):
  """Returns a `map_step` that maps each function of a system once."""
  made = {}

  def first(function, prepare, devices, several, **how):
    known = getattr(function, "func", function)
    key = known, str(getattr(function, "keywords", "")), several
    if key not in made:
      made[key] = map_step(function, prepare, devices, several, **how)
    return made[key]

  return first


def stopping(seen):
  """Makes steps ask for a stop, and notes what they saw."""

  def around_step(step_fn):
    def last(state, arrays, places, key, step):
      seen.append((step, None if arrays is None else np.asarray(places)))
      result = step_fn(state, arrays, places, key, step)
      signal.raise_signal(signal.SIGTERM)
      return result

    return last

  return around_step


def broken(folder, config, devices):
  """Trains with a restart after every dispatch.

  Returns:
    The run, and for each dispatch its first step and its examples' places.
  """
  run, seen = None, []
  with pytest.MonkeyPatch.context() as patch:
    # A start traces nothing that another has traced; all else is new.
    patch.setattr(configs, "build", once(configs.build))
    patch.setattr(program, "map_step", once_for_each(program.map_step))
    patch.setattr(train, "Sampler", once(train.Sampler))
    for _ in range(config.num_steps + 1):
      with contextlib.suppress(signals.Interrupted):
        how = dict(report=False, around_step=stopping(seen))
        run = train.train(config, folder, devices, **how)
        break
  assert run is not None
  return run, seen


def rows(run):
  drop = "images_per_sec"
  return [{k: v for k, v in r.items() if k != drop} for r in run.history()]


def samples(run):
  return {p.name: p.read_bytes() for p in (run.workdir / "samples").iterdir()}


def assert_same(run, whole):
  assert_same_run(run, whole)
  assert rows(run) == rows(whole)
  assert samples(run) == samples(whole)


def assert_each_once(seen, num_examples):
  """Of every epoch each example is seen once, whatever stopped in it."""
  stream = [np.moveaxis(places, 0, 2).ravel() for _, places in seen]
  stream = np.concatenate(stream)
  assert len(stream) > num_examples and len(stream) % num_examples
  for start in range(0, len(stream), num_examples):
    epoch = stream[start : start + num_examples]
    assert len(set(epoch)) == len(epoch) <= num_examples
    assert set(epoch) <= set(range(num_examples))


def check(tmp_path, **changes):
  config, devices = config_of(**changes)
  whole = train.train(config, tmp_path / "whole", devices, report=False)
  run, seen = broken(tmp_path / "broken", config, devices)
  many = config.get("steps_per_dispatch", 1)
  assert [step for step, _ in seen] == [*range(0, config.num_steps, many)]
  assert_same(run, whole)
  assert len(rows(run)) == config.num_steps // config.log_every
  return whole, seen


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_from_every_step(tmp_path, case):
  whole, seen = check(tmp_path, **CASES[case])
  if seen[0][1] is not None:
    arrays = configs.load_data(whole.config, "train")
    assert_each_once(seen, len(arrays.images))
  if "augment" in CASES[case]:
    assert whole.state.memory["augment"]["p"] != 0.5  # It moved.


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_it_does_with_larger_ones(tmp_path, case):
  check(tmp_path, **SLOW[case])


def test_every_family_of_losses_has_a_case():
  assert {case["loss"]["name"] for case in CASES.values()} == {*losses.LOSSES}


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", [n for n in systems.SYSTEMS.names() if n != "gan"]
)
def test_every_system_goes_on_from_every_step(tmp_path, name):
  spec = dict(experiment=f"digits_{name}", num_steps=3, batch_size=24)
  found = configs.load(f"digits_{name}:smoke")
  assert found.system.name == name
  check(tmp_path, **spec, dataset=dict(size=8), samples=dict(every=2, num=2))


@pytest.mark.filterwarnings("ignore:.*optimistic_adam:DeprecationWarning")
def test_every_optimizer_comes_back_whole(tmp_path):
  """Its moments, counts and flags, as a checkpoint holds them."""
  made = {
    n: optimizers.get(n, learning_rate=0.1) for n in optimizers.OPTIMIZERS
  }
  for key in "learning_rate", "b1":
    spec: dict[str, Any] = dict(learning_rate=0.1) | {key: cosine(0.5, 0.1)}
    made[f"adam, {key}"] = optimizers.get("adam", **spec)
  params = {"bias": jnp.ones(2), "kernel": jnp.linspace(-1.0, 1.0, 6)}
  params["kernel"] = params["kernel"].reshape(3, 2)
  start = {name: (params, made[name].init(params)) for name in made}

  @jax.jit
  def update(states, scale):
    new = {}
    for name, (params, state) in states.items():
      grads = jax.tree.map(lambda p: scale * jnp.cos(3 * p) + 0.1, params)
      updates, state = made[name].update(grads, state, params)
      new[name] = optax.apply_updates(params, updates), state
    return new

  half = update(update(start, 1.0), -2.0)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(2, half, {})
    step, restored = checkpoints.resume(jax.eval_shape(lambda: start))
  assert step == 2
  ends = [update(update(x, 0.5), 3.0) for x in (half, restored)]
  for name in made:
    a, b = (jax.tree_util.tree_leaves_with_path(end[name]) for end in ends)
    for (path, x), (_, y) in zip(a, b, strict=True):
      where = name + jax.tree_util.keystr(path)
      np.testing.assert_array_equal(x, y, err_msg=where)
    moved = np.abs(ends[0][name][0]["kernel"] - half[name][0]["kernel"]).max()
    assert moved > 0, name
