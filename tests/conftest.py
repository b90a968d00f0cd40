"""Four fake CPU devices; `[N, 1]` against `[N]` is an error, not `[N, N]`."""

import gc
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
from jax.experimental.compilation_cache import compilation_cache

from ganjax.evaluation.extractors import classifier
from ganjax.runs import report
from ganjax.training import program

jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing allocates much that lives on; to look through it all takes a tenth.
gc.set_threshold(100_000, 50, 50)


def pytest_configure(config):
  """Keeps compiled programs in pytest's cache, for both processes and later."""
  if not hasattr(config, "cache"):  # `-p no:cacheprovider`
    return
  options = {
    "jax_compilation_cache_dir": str(config.cache.mkdir("compilations")),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }
  for name, value in options.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)  # Of the programs that tests start.


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


@pytest.fixture
def compile_cache():
  """Gives `open(folder)`, by which this process keeps compilations there."""
  names = "jax_compilation_cache_dir", "jax_compilation_cache_max_size"
  before = {name: getattr(jax.config, name) for name in names}

  def open_cache(folder):
    jax.config.update("jax_compilation_cache_dir", None)
    jax.clear_caches()
    program.cache_compilations(str(folder))

  yield open_cache
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
