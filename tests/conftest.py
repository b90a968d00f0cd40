"""Four fake CPU devices; `[N, 1]` against `[N]` is an error, not `[N, N]`."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
# Tests compile much and run little: unoptimised code is ready sooner.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
# Two test processes share two cores; helpers of theirs would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import pytest

from ganjax import report
from ganjax.extractors import classifier

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
  """Gives every test process an empty cache of its own."""
  folder = tmp_path_factory.mktemp("cache")
  os.environ["GANJAX_CACHE"] = str(folder)
  return folder


@pytest.fixture(scope="session", autouse=True)
def optimised_classifiers():
  """Compiles in full what runs for long: the training of classifiers."""
  option = "jax_disable_most_optimizations"

  train = classifier._train

  def optimised(*args):
    before = jax.config.read(option)
    jax.config.update(option, False)
    try:
      return train(*args)
    finally:
      jax.config.update(option, before)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(classifier, "_train", optimised)
    yield


@pytest.fixture
def without_figures(monkeypatch):
  """Runs draw nothing at their end: it takes longer than a small run."""
  monkeypatch.setattr(report, "figures", lambda *_: {})
