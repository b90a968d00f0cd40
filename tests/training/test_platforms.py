"""A step is traced for the platform of its devices, not for this process's."""

import threading
import types
from concurrent import futures

import jax
import numpy as np
import pytest

from ganjax import data, nets, parallel
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.training import program, train

# JAX's name of a platform in lowering -> ganjax's.
PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "tpu": "tpu"}
SHAPE = (16, 16, 1)


def lower(function, platform, *args):
  """Returns the text of what JAX hands to the compiler of a platform."""

  # A new function each time: JAX keeps what it traced of an old one.
  def traced(*args):
    with parallel.traced_for(PLATFORMS[platform]):
      return function(*args)

  lowered = jax.jit(traced).trace(*args).lower(lowering_platforms=(platform,))
  return lowered.as_text()


@pytest.fixture(scope="module")
def steps():
  """Returns platform -> a step of `digits_dcgan`, lowered in this process."""
  config = configs.resolve(configs.load("digits_dcgan:smoke"))
  system = configs.build(config, SHAPE, 10)
  state = runs.abstract_state(system, SHAPE, 10)
  images = jax.ShapeDtypeStruct((1, 8, *SHAPE), np.float32)
  labels = jax.ShapeDtypeStruct((1, 8), np.int32)
  batch = data.Arrays(images, labels, 10)
  key = jax.random.key(0)
  return {p: lower(system.train_step, p, state, batch, key) for p in PLATFORMS}


def test_a_convolution_over_zeros_is_for_accelerators(steps):
  """On a CPU none is left: XLA would multiply with the zeros there."""
  counts = {
    platform: text.count("lhs_dilate = [2, 2]")
    for platform, text in steps.items()
  }
  assert counts["cpu"] == 0 and counts["cuda"] > 0 and counts["tpu"] > 0
  assert len({*steps.values()}) == 3


def test_pooling_is_a_window_on_accelerators():
  """An axis of two is padded to eight on a TPU."""
  net = nets.find("resnet", "discriminator")(SHAPE, 0, width=4)
  x = jax.ShapeDtypeStruct((4, *SHAPE), np.float32)
  variables = jax.eval_shape(net.init, jax.random.key(0), x)

  def count(platform):
    text = lower(net.apply, platform, variables, x)
    return text.count("stablehlo.reduce_window")

  assert count("cpu") == 0 and count("tpu") > 0 and count("cuda") > 0


class Device:
  """A device that is not here."""

  def __init__(self, platform):
    self.platform = platform


def seen_by(platform, wait=lambda: None):
  """Returns what platform a step sees that is mapped for a device."""
  seen = []

  def train_step(state, batch, key):
    del batch, key
    wait()
    seen.append(parallel.platform())
    return state, {}

  mapped = program.map_step(train_step, lambda x: x, [Device(platform)])
  images = np.zeros((3, 4), np.float32)
  places = np.zeros((2,), np.int32)
  mapped(np.zeros(()), data.Arrays(images), places, jax.random.key(0), 0)
  return seen[0]


@pytest.fixture
def unmapped(monkeypatch):
  """Devices that are not here compile nothing: steps are called as they are."""
  monkeypatch.setattr(jax, "pmap", lambda function, **_: function)


@pytest.mark.parametrize("process", ["cpu", "gpu", "tpu"])
def test_a_step_sees_the_platform_of_its_devices(
  process, unmapped, monkeypatch
):
  monkeypatch.setattr(jax, "default_backend", lambda: process)
  assert [seen_by(p) for p in PLATFORMS.values()] == ["cpu", "gpu", "tpu"]
  assert parallel.platform() == process


def test_threads_that_trace_at_once_see_their_own(unmapped):
  """All of them are inside when the first one looks."""
  barrier = threading.Barrier(3, timeout=60)
  with futures.ThreadPoolExecutor(3) as pool:
    names = ["tpu", "gpu", "cpu"]
    found = list(pool.map(lambda name: seen_by(name, barrier.wait), names))
  assert found == names and parallel.platform() == "cpu"


def test_a_mapped_step_on_a_device_that_is_here(monkeypatch):
  """What the process believes does not count."""
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  seen = []

  def train_step(state, batch, key):
    del key
    seen.append(parallel.platform())
    return state, {"mean": batch.images.mean()}

  one = jax.devices()[:1]
  step = program.map_step(train_step, lambda x: x, one)
  arrays = data.Arrays(np.zeros((3, 4), np.float32))
  places = np.zeros((1, 2), np.int32)
  shapes = np.zeros(()), arrays, places, jax.random.key(0), 0
  jax.make_jaxpr(step)(*shapes)
  assert seen == ["cpu"]


def test_what_was_said_ends_with_an_error():
  with pytest.raises(RuntimeError), parallel.traced_for("gpu"):
    with parallel.traced_for("tpu"):
      assert parallel.platform() == "tpu"
    assert parallel.platform() == "gpu"
    raise RuntimeError
  assert parallel.platform() == "cpu"


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_tpu_is_no_faster_in_bfloat16_and_a_run_says_so(platform, precision):
  config = configs.resolve(configs.load("digits_dcgan:smoke"))
  config.precision = precision
  device = types.SimpleNamespace(platform=platform)
  said = train._advice(config, device)
  assert bool(said) == (platform == "tpu" and precision == "bfloat16")
