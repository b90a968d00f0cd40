"""Steps compiled for TPUs that are not here, by the compiler of real ones.

Needs `pip install -e '.[tpu]'`, and no TPU. `make targets` runs these.
"""

import functools
import importlib.util

import jax
import pytest

from ganjax.runs import configs
from ganjax.tools.bench import estimate, hlo, targets

pytestmark = pytest.mark.targets

# More images than a core of a v5e has room for beside its multipliers: a small
# set is fetched into that room at once, and so read whole.
NUM_IMAGES = 2_000_000
# Updates of `cifar_dcgan` on one v5e, a batch of 64: 1,090,074 were estimated
# by libtpu 0.0.42 when this was written.
MOST_CYCLES = 1_150_000
# On four, by two updates: their gradients, statistics and metrics.
MOST_REDUCTIONS = 20

SYSTEMS = (
  "digits_anogan digits_autoencoder digits_bigan digits_f_anogan "
  "digits_infogan digits_inpainting digits_semi_supervised digits_vae "
  "digits_vaegan".split()
)


@pytest.fixture(scope="module", autouse=True)
def compiler():
  """Fails where there is no compiler: to skip would look like success."""
  if importlib.util.find_spec("libtpu") is None:
    pytest.fail("libtpu is missing: pip install -e '.[tpu]'", pytrace=False)


@functools.cache
def compiled(spec, target="v5e", scan=False):
  """Returns the record and the text of a step, compiled once."""
  config = configs.resolve(configs.load(spec))
  num_images = 0 if spec.startswith(("cifar", "mnist")) else NUM_IMAGES
  arrays = estimate.abstract_arrays(config, num_images=num_images)
  # What conftest says of CPUs would not be a step as it is trained.
  option = "jax_disable_most_optimizations"
  before = jax.config.read(option)
  jax.config.update(option, False)
  try:
    return estimate.estimate(config, arrays, targets.find(target), scan)
  finally:
    jax.config.update(option, before)


def check(record, texts):
  """Asserts what holds of every step on TPUs."""
  assert record["cycles"] > 0 and record["ms"] > 0
  assert 0 < record["share"] < 1
  assert record["fits"]
  memory = record["memory"]
  assert record["needed_bytes"] == memory["total"] < record["memory_limit"]
  assert memory["arguments"] >= record["dataset_bytes"]
  lines = [row["source"] for row in record["dearest"]]
  # What the compiler adds, as a copy, nobody asked for.
  asked_for = list(filter(None, lines))
  assert len(asked_for) >= len(lines) / 2
  for line in asked_for:
    file, _, number = line.partition(":")
    assert file.startswith("ganjax/") and number.isdecimal(), line
    assert not file.startswith("ganjax/tools"), line
  assert sum(row["cycles"] for row in record["dearest"]) <= record["cycles"]
  assert bool(record["collectives"]) == (record["devices"] > 1)
  assert all(hlo.Program(text).cycles for text in texts)


def test_the_default_experiment():
  record, texts = compiled("digits_dcgan")
  check(record, texts)
  assert len(texts) == 1 and record["device"] == "TPU v5 lite"
  assert record["touch_dataset"] == []


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_of_each_kind(name):
  """The GAN stands above."""
  record, texts = compiled(f"{name}:smoke")
  check(record, texts)
  assert record["touch_dataset"] == []


def test_rows_of_no_whole_tiles_are_not_turned():
  """The 784 pixels of MNIST would be."""
  record, texts = compiled("mnist_mlp:smoke")
  check(record, texts)
  assert record["touch_dataset"] == []


def test_steps_of_one_dispatch():
  """Their loop counts: a step of it takes about what a single one does."""
  one, _ = compiled("digits_autoencoder:smoke")
  several, texts = compiled("digits_autoencoder:smoke", scan=True)
  check(several, texts)
  assert several["steps_per_call"] > 1 and several["touch_dataset"] == []
  assert several["cycles"] == pytest.approx(one["cycles"], rel=0.5)


def test_the_step_of_a_cifar_gan_stays_fast():
  record, texts = compiled("cifar_dcgan")
  check(record, texts)
  assert record["touch_dataset"] == []
  assert record["dataset"] == [50_000, 32, 32, 3]
  assert record["cycles"] < MOST_CYCLES


def test_four_devices_speak_seldom():
  """What goes between them is one copy of the gradients, and little else."""
  record, texts = compiled("cifar_dcgan", "v5e:2x2")
  check(record, texts)
  assert record["devices"] == 4 and record["touch_dataset"] == []
  reductions = record["collectives"].pop("all-reduce")
  assert 0 < reductions["count"] <= MOST_REDUCTIONS
  assert reductions["bytes"] < 18e6
  assert record["collectives"] == {}
