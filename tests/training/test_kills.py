"""Runs that are killed at random times end as the unbroken run does.

`make soak` kills 200 times; here a few. Children are forked before JAX looks
for devices: a start then costs a second, not the imports.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

PROGRAM = """
import os, random, signal, sys, time
from ganjax import configs, train

config = configs.load("toy_ring")
config.update(
  num_steps={num_steps}, log_every=20, samples=dict(every=100, num=8),
  checkpoint=dict(every=20, keep=2),
)
config.checkpoint.best = ""
workdir, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def child():
  sys.stdout = open(os.path.join(workdir, "..", "log.txt"), "a")
  train.train(config, workdir, report=False)


rng, killed, ended = random.Random(seed), 0, False
while killed < kills or not ended:
  pid = os.fork()
  if not pid:
    try:
      child()
      os._exit(0)
    except BaseException as error:
      print(repr(error), file=sys.stderr)
      os._exit(1)
  if killed < kills:
    time.sleep(rng.uniform({least}, {most}))
    os.kill(pid, signal.SIGKILL)
  _, status = os.waitpid(pid, 0)
  if os.WIFSIGNALED(status):
    killed += 1
  else:
    assert os.WEXITSTATUS(status) == 0, "a run ended with an error"
    ended = True
    if killed < kills:
      break
print("killed", killed)
"""


def run(folder, kills, num_steps, least=0.8, most=4.0, seed=0):
  """Trains in `folder/run`, killed so often; returns what was printed."""
  folder.mkdir()
  (folder / "run").mkdir()
  text = textwrap.dedent(PROGRAM).format(
    num_steps=num_steps, least=least, most=most
  )
  program = folder / "program.py"
  program.write_text(text)
  root = str(pathlib.Path(__file__).resolve().parents[2])
  return subprocess.run(
    [sys.executable, program, folder / "run", str(kills), str(seed)],
    env=os.environ | {"PYTHONPATH": root},
    capture_output=True,
    text=True,
    check=True,
  ).stdout


def state_of(folder):
  """Returns the last checkpoint's leaves, and the log without the speeds."""
  import ganjax

  loaded = ganjax.load(folder / "run")
  rows = [
    {k: v for k, v in row.items() if k != "images_per_sec"}
    for row in loaded.history()
  ]
  return loaded, rows


def check(whole, broken, num_steps):
  """Holds a run that was killed against the unbroken one."""
  import jax

  (one, rows), (other, others) = state_of(whole), state_of(broken)
  assert one.step == other.step == num_steps
  jax.tree.map(np.testing.assert_array_equal, one.state, other.state)
  assert rows == others
  for path in sorted((whole / "run" / "samples").glob("*.npy")):
    same = broken / "run" / "samples" / path.name
    assert path.read_bytes() == same.read_bytes()
  left = [p.name for p in (broken / "run" / "checkpoints").iterdir()]
  assert not [name for name in left if "tmp" in name or name.startswith(".")]
  assert len([name for name in left if name.isdigit()]) == 2
  assert len(left) <= 3  # And at most one that was not finished.


def kill_many(folder, kills, num_steps, **lives):
  """Kills so often, in as many runs as it takes; returns how many those are."""
  run(folder / "whole", 0, num_steps)
  killed, count = 0, 0
  while killed < kills:
    broken = folder / f"killed_{count}"
    before = killed
    text = run(broken, kills - killed, num_steps, seed=count, **lives)
    killed += int(text.split()[-1])
    assert killed > before, "a run was too short to be killed"
    check(folder / "whole", broken, num_steps)
    shutil.rmtree(broken)
    count += 1
    print("killed", killed, "times in", count, "runs", flush=True)
  return count


@pytest.mark.slow
def test_a_few_kills(tmp_path):
  assert kill_many(tmp_path, 3, 800) >= 1


@pytest.mark.soak
def test_two_hundred_kills(tmp_path):
  kill_many(tmp_path, 200, 5000, least=0.6, most=3.0)
