"""The first steps of every experiment give the numbers that they always gave.

`golden/first_steps.json` was recorded at commit 022e985, before the trunk was
rebuilt, by this file as a script. Record it again only where trained numbers
are meant to change, and say so in CHANGELOG.md under "numerics".
"""

import hashlib
import json
import os
import pathlib
import platform
import sys

if __name__ == "__main__":  # Recorded in the surroundings of the tests.
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"

import flax
import jax
import numpy as np
import optax
import pytest

from ganjax import data
from ganjax.data import scaling
from ganjax.runs import configs

FILE = pathlib.Path(__file__).parents[1] / "golden" / "first_steps.json"
NUM_STEPS = 3
BATCH_SIZE = 8
REAL_DATA = ("digits", "toy")


def versions():
  """Returns what the last bits of the numbers depend on."""
  return dict(
    python=platform.python_version(),
    machine=platform.machine(),
    jax=jax.__version__,
    flax=flax.__version__,
    optax=optax.__version__,
    numpy=np.__version__,
  )


def fake_images(shape, num_classes):
  """Returns 40 random images of a shape, with labels in turn."""
  random = np.random.RandomState(0)
  images = random.randint(0, 256, (40, *shape)).astype(np.uint8)
  labels = np.arange(40, dtype=np.int32) % num_classes
  return data.Arrays(images, labels, num_classes)


def arrays_of(config):
  """Returns the training set of a config, or noise in the shape of it."""
  if config.dataset.name in REAL_DATA:
    return configs.load_data(config, "train")
  spec = config.dataset.to_dict()
  if spec["name"] == "tfds":
    side, channels = {"mnist": (28, 1), "cifar10": (32, 3)}[spec["builder"]]
  else:
    side, channels = {"tfd": (48, 1), "folder": (spec.get("size"), 3)}[
      spec["name"]
    ]
  side = spec.get("size") or side
  return fake_images((side, side, channels), 10)


def build(name):
  """Returns the system of an experiment's smoke form, and its images."""
  config = configs.resolve(configs.load(f"{name}:smoke"))
  arrays = arrays_of(config)
  system = configs.build(config, arrays.images.shape[1:], arrays.num_classes)
  stored = scaling.get(config.scaling, str(arrays.images.dtype))
  images = stored.to_network(np.asarray(arrays.images))
  return system, arrays.replace(images=images)


def batch_of(system, arrays, step):
  """Returns the images and labels `[batches_per_step, n, ...]` of a step."""
  shape = system.batches_per_step, BATCH_SIZE
  first = step * np.prod(shape)
  places = (first + np.arange(np.prod(shape))) % len(arrays.images)
  return jax.tree.map(lambda x: x[places.reshape(shape)], arrays)


def summary(tree):
  """Returns two sums over all numbers of a tree, and a digest of its bits."""
  total, squares, digest = 0.0, 0.0, hashlib.sha256()
  for leaf in jax.tree.leaves(jax.device_get(tree)):
    leaf = np.asarray(leaf)
    digest.update(np.ascontiguousarray(leaf).tobytes())
    total += float(np.abs(leaf.astype(np.float64)).sum())
    squares += float(np.square(leaf.astype(np.float64)).sum())
  return dict(sum=total, squares=squares, digest=digest.hexdigest()[:16])


def networks_of(system, state):
  """Returns name -> parameters and statistics of every live network."""
  nets = {name: state.nets[name] for name in system.networks}
  return {name: (net.params, net.stats) for name, net in nets.items()}


def measure(name):
  """Returns the numbers of an experiment's first steps."""
  system, arrays = build(name)
  state = jax.jit(system.init)(jax.random.key(0), arrays)
  step_fn = jax.jit(system.train_step, static_argnames="skip")
  steps = []
  for step in range(NUM_STEPS):
    key = jax.random.fold_in(jax.random.key(1), step)
    batch = batch_of(system, arrays, step)
    state, metrics = step_fn(state, batch, key, skip=system.skip(step))
    metrics = jax.device_get(metrics)
    steps.append({k: float(v) for k, v in sorted(metrics.items())})
  nets = {k: summary(net) for k, net in networks_of(system, state).items()}
  labels = arrays.labels[:4] if system.conditional else None

  def abilities(state, key):
    found = {"sample": system.sample(state, key, 4, labels)}
    for name, ability in system.abilities().items():
      how = dict(draws=2) if name == "log_likelihood" else {}
      found[name] = ability(state, arrays.images[:4], labels, **how)
    return found

  found = jax.jit(abilities)(state, jax.random.key(2))
  return dict(
    steps=steps,
    networks=nets,
    abilities={k: summary(v) for k, v in found.items()},
  )


# One of each kind; `make slow`, which CI runs, has all others.
FAST = ("digits_bigan", "digits_dcgan", "digits_vae", "toy_r3gan")


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST))
    for name in configs.experiments()
  ],
)
def test_first_steps(name):
  golden = json.loads(FILE.read_text())
  assert name in golden["experiments"], "record the new experiment"
  want, got = golden["experiments"][name], measure(name)
  alike = golden["versions"] == versions()

  def close(now, before, tolerance, what):
    # Other versions order sums otherwise, and Adam enlarges what is tiny.
    rtol = tolerance if alike else 1e-2
    np.testing.assert_allclose(
      now, before, rtol=rtol, atol=1e-5, err_msg=f"{name}: {what}"
    )

  assert len(got["steps"]) == len(want["steps"])
  for before, now in zip(want["steps"], got["steps"], strict=True):
    assert now.keys() == before.keys()
    for key in before:
      close(now[key], before[key], 1e-5, key)
  # Threads share the sums of large convolutions anew each time; samples after
  # three steps of Adam show that most.
  for kind in ("networks", "abilities"):
    assert got[kind].keys() == want[kind].keys()
    for thing, before in want[kind].items():
      for key in ("sum", "squares"):
        close(got[kind][thing][key], before[key], 2e-4, f"{key} of {thing}")


def main():
  """Records the numbers; with `--check` counts which bits are the same."""
  recorded = {name: measure(name) for name in configs.experiments()}
  if "--check" not in sys.argv:
    golden = dict(versions=versions(), experiments=recorded)
    FILE.write_text(json.dumps(golden, indent=1) + "\n")
    return
  golden = json.loads(FILE.read_text())
  for name, before in golden["experiments"].items():
    same = recorded[name] == before
    print(f"{name}: {'same bits' if same else 'other bits'}")


if __name__ == "__main__":
  main()
