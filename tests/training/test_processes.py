"""Several processes take one run's steps together; the first one keeps it."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest

import ganjax
from ganjax import errors, main, processes
from ganjax.runs import checkpoint, configs, manifest
from ganjax.training import signals, train

CONFIG = """
from ganjax import configs

def get_config(arg=""):
  config = configs.load("digits_dcgan:smoke")
  sgd = dict(name="sgd", learning_rate=0.05)
  config.update(
    num_steps=20, batch_size=8, log_every=5,
    samples=dict(every=10, num=8), checkpoint=dict(every=10, best=""),
  )
  config.generator.update(width=2)
  config.discriminator.update(width=2, norm="batch")
  config.evals = {}
  for player in ("g_opt", "d_opt"):
    del config[player]
    config[player] = sgd
  return config
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
  path = tmp_path_factory.mktemp("processes") / "tiny.py"
  path.write_text(textwrap.dedent(CONFIG))
  return path


class Two:
  """Two processes of one run, each with a folder that is its own."""

  def __init__(self, folder, *arguments):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      port = free.getsockname()[1]
    root = str(pathlib.Path(__file__).resolve().parents[2])
    env = os.environ | dict(PYTHONPATH=root, XLA_FLAGS="")
    self.folders = [folder / str(i) for i in (0, 1)]
    self.logs = [folder / f"{i}.txt" for i in (0, 1)]
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "ganjax.main", *map(str, arguments)]
    command += [f"--coordinator=localhost:{port}", "--num_processes=2"]
    self.children = []
    for i in (0, 1):
      own = [f"--process_id={i}", f"--workdir={self.folders[i]}"]
      with self.logs[i].open("w") as log:
        child = subprocess.Popen(
          [*command, *own], env=env, stdout=log, stderr=subprocess.STDOUT
        )
      self.children.append(child)

  def codes(self, seconds=240):
    """Waits for both; returns how they ended."""
    end = time.monotonic() + seconds
    try:
      return [
        child.wait(max(1, end - time.monotonic())) for child in self.children
      ]
    finally:
      for child in self.children:
        child.kill()

  def text(self, i):
    return self.logs[i].read_text()

  def wait_for(self, pattern, seconds=240):
    """Waits until the first process has written such a file."""
    end = time.monotonic() + seconds
    while not list(self.folders[0].glob(pattern)):
      assert time.monotonic() < end, self.text(0) + self.text(1)
      assert all(c.poll() is None for c in self.children), self.text(0)
      time.sleep(0.05)


def assert_close(a, b, limit):
  differences = [
    np.max(np.abs(np.asarray(x, float) - np.asarray(y, float)))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  ]
  assert max(differences) < limit
  return max(differences)


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["never", "always"])
def test_two_processes_are_two_devices(experiment, tmp_path, stream):
  """Twenty steps of SGD; only the first process writes; both see one run."""
  flags = ["--config", experiment, f"--config.stream.mode={stream}"]
  flags += ["--config.stream.workers=0"]
  two = Two(tmp_path / "two", *flags)
  assert two.codes() == [0, 0], two.text(0) + two.text(1)
  assert "on 2 cpu devices of 2 processes" in two.text(0)
  assert "step" not in two.text(1) and not two.folders[1].exists()
  config = configs.load(str(experiment))
  config.update(stream=dict(mode=stream, workers=0))
  one = train.train(config, tmp_path / "one", jax.devices()[:2], report=False)
  found = ganjax.load(two.folders[0])
  assert found.step == one.step == 20
  print("largest difference", assert_close(found.state, one.state, 1e-5))
  rows, others = found.history(), one.history()
  assert [row["step"] for row in rows] == [5, 10, 15, 20]
  for row, other in zip(rows, others, strict=True):
    np.testing.assert_allclose(row["d_loss"], other["d_loss"], atol=1e-5)
  assert list((two.folders[0] / "samples").glob("*.npy"))


@pytest.mark.slow
def test_a_signal_to_one_stops_both_and_they_resume(experiment, tmp_path):
  """The second's folder stays empty: it is given what the first has read."""
  flags = ["--config", experiment, "--config.checkpoint.every=0"]
  flags += ["--config.samples.every=0"]
  whole = Two(tmp_path / "whole", *flags, "--config.num_steps=150")
  assert whole.codes() == [0, 0], whole.text(0)
  two = Two(tmp_path / "two", *flags, "--config.num_steps=150")
  two.wait_for("metrics.jsonl")
  while "step 1/" not in two.text(0):
    time.sleep(0.01)
  two.children[1].send_signal(signal.SIGTERM)
  assert two.codes() == [143, 143], two.text(0) + two.text(1)
  assert "the same command resumes there" in two.text(0)
  saved = checkpoint.Checkpoints(
    two.folders[0] / "checkpoints", read_only=True
  ).steps()
  assert len(saved) == 1 and 0 < saved[0] < 150
  again = Two(tmp_path / "two", *flags, "--config.num_steps=150")
  assert again.codes() == [0, 0], again.text(0) + again.text(1)
  assert f"resuming at step {saved[0]}" in again.text(0)
  states = [ganjax.load(r.folders[0]).state for r in (whole, again)]
  jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_death_of_one_ends_the_other(experiment, tmp_path, killed):
  flags = ["--config", experiment, "--config.num_steps=1000000"]
  two = Two(tmp_path / "two", *flags)
  two.wait_for(f"checkpoints/*/{manifest.NAME}")
  two.children[killed].kill()
  start = time.monotonic()
  codes = two.codes(150)
  other = 1 - killed
  assert codes[killed] == -signal.SIGKILL and codes[other] not in (0, 143)
  if codes[other] == 1:  # Not ended by JAX itself, which misses a heartbeat.
    last = two.text(other).splitlines()[-1]
    assert last.startswith("error: another process of this run has ended")
  print("the other ended after", round(time.monotonic() - start, 1), "s")
  with checkpoint.Checkpoints(
    two.folders[0] / "checkpoints", read_only=True
  ) as found:
    assert max(found.steps()) >= 10


@pytest.mark.slow
def test_an_error_of_one_ends_both(experiment, tmp_path):
  (tmp_path / "two").mkdir()
  (tmp_path / "two" / "0").write_text("a file in place of the folder")
  two = Two(tmp_path / "two", "--config", experiment)
  assert two.codes(60) == [2, 2], two.text(0) + two.text(1)
  assert two.text(0).splitlines()[-1].startswith("error: ")
  assert "process 0 of this run stopped with an error" in two.text(1)


@pytest.mark.slow
def test_numbers_that_are_not_finite_end_both(experiment, tmp_path):
  flags = ["--config", experiment, "--config.on_nan=rollback"]
  flags += ["--config.d_opt.learning_rate=1e30", "--config.num_steps=40"]
  two = Two(tmp_path / "two", *flags)
  assert two.codes() == [1, 1], two.text(0) + two.text(1)
  for i in (0, 1):
    last = two.text(i).splitlines()[-1]
    assert "went back to an earlier step 3 times" in last
  assert len(list((two.folders[0] / "faults").glob("*.npz"))) == 1


@pytest.mark.parametrize(
  "flags, text",
  [
    (["--coordinator=here"], "HOST:PORT"),
    (["--coordinator=here:1", "--num_processes=2"], "from 0 to N - 1"),
    (["--num_processes=2"], "need --coordinator"),
    (["--process_id=0"], "need --coordinator"),
    (
      ["--coordinator=here:1", "--num_processes=2", "--process_id=2"],
      "from 0 to N - 1",
    ),
    (["--num_processes=two"], "must be an integer"),
  ],
)
def test_flags_that_do_not_fit_are_named(flags, text):
  with pytest.raises(errors.UserError, match=text):
    main.parse(["main", *flags])


@pytest.mark.parametrize(
  "environment, joins",
  [
    ({}, False),
    (dict(SLURM_STEP_NUM_TASKS="1"), False),
    (dict(SLURM_NTASKS="4"), False),  # A job's script, not one of its tasks.
    (dict(SLURM_STEP_NUM_TASKS="2"), True),
    (dict(OMPI_COMM_WORLD_SIZE="8"), True),
    (dict(TPU_WORKER_HOSTNAMES="localhost"), False),
    (dict(TPU_WORKER_HOSTNAMES="a,b"), True),
  ],
)
def test_a_cluster_is_joined_unasked(monkeypatch, environment, joins):
  calls = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda: calls.append(1))
  for name in (*processes.COUNTS, processes.NAMES):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  processes.connect()
  assert bool(calls) == joins


def test_a_stop_is_for_every_run_that_looks(monkeypatch):
  """Members of a population share one watch; JAX says it at one look."""
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  said = iter([False, True, False, False])
  name = "reached_preemption_sync_point"
  monkeypatch.setattr(signals.multihost_utils, name, lambda _: next(said))
  watch = signals.Watch()
  assert [watch.stop() for _ in range(4)] == [0, 15, 15, 15]


def test_a_process_alone_agrees_with_itself():
  value = dict(a=[1, "x", float("inf")])
  assert processes.agree(value) is value and processes.is_first()
  devices = processes.devices()
  assert processes.own(devices) == [*range(len(devices))]
  assert processes.part(devices) == (0, 1)
