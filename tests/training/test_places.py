"""Places and moments that are bad: one line if hopeless, else the same run.

The faults of a checkpoint's own files are in `test_checkpoint.py`, those of
signals and numbers in `test_faults.py`, kills in `test_kills.py`.
"""

import dataclasses
import io
import os
import pathlib
import shutil
import signal
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_same_run

import ganjax
from ganjax import data, errors, main
from ganjax.runs import checkpoint, configs, report
from ganjax.runs import scoring as sources
from ganjax.training import faults, program, signals, train

ONE = jax.devices()[:1]


def config(**changes):
  found = configs.load("toy_ring:smoke")
  found.system.z_dim, found.dataset.num_examples = 4, 50
  found.evals, found.checkpoint = {}, dict(every=4, keep=2)
  found.update(num_steps=8, log_every=1, samples=dict(every=2, num=4))
  found.update(changes)
  return found


def run(folder, devices=ONE, **changes):
  return train.train(config(**changes), folder, devices, report=False)


class Programs:
  """Keeps what `make_step` and `Sampler` made first, for runs of one config."""

  def __init__(self):
    self.made = {}

  def use(self, patch):
    for owner, name in (program, "make_step"), (train, "Sampler"):
      patch.setattr(owner, name, self.once(name, getattr(owner, name)))

  def once(self, name, make):
    def first(*arguments):
      if name not in self.made:
        self.made[name] = make(*arguments)
      return self.made[name]

    return first


@pytest.fixture(scope="module")
def programs():
  return Programs()


@pytest.fixture(scope="module")
def unbroken(programs, tmp_path_factory):
  """The run as it should be."""
  with pytest.MonkeyPatch.context() as patch:
    programs.use(patch)
    return run(tmp_path_factory.mktemp("unbroken"))


def files(folder, pattern="*"):
  return {p.name: p.read_bytes() for p in (folder / "samples").glob(pattern)}


def rows(found):
  drop = "images_per_sec"
  return [{k: v for k, v in r.items() if k != drop} for r in found.history()]


def assert_same(found, whole):
  assert_same_run(found, whole)
  assert rows(found) == rows(whole)
  assert files(found.workdir) == files(whole.workdir)


# --- Workdirs ---------------------------------------------------------------


def a_file(folder):
  (folder / "run").write_text("")
  return folder / "run"


def a_link_to_nowhere(folder):
  (folder / "run").symlink_to(folder / "not" / "there")
  return folder / "run"


def another_kind_in_its_place(folder):
  (folder / "run" / "config.json").mkdir(parents=True)
  return folder / "run"


PLACES = {
  "a file": a_file,
  "a link to nowhere": a_link_to_nowhere,
  "a folder in a file's place": another_kind_in_its_place,
  # Permissions do not bind root; these do.
  "a parent that takes no folder": lambda _: pathlib.Path("/proc/nothing"),
  "a folder that takes no file": lambda _: pathlib.Path("/proc/self"),
  "a device": lambda _: pathlib.Path("/dev/null"),
}


@pytest.fixture
def nothing_begins(monkeypatch):
  """What compiles, trains or saves must not be reached."""

  def refuse(*_, **__):
    raise AssertionError("it went on")

  for owner, name in (
    (sources, "evaluator_of"),
    (checkpoint, "Checkpoints"),
    (program, "make_step"),
    (program, "replicate"),
  ):
    monkeypatch.setattr(owner, name, refuse)


def refused(place, capsys):
  """Returns what the command says of a workdir, one line."""
  argv = ["main", "--config=toy_ring:smoke", f"--workdir={place}"]
  assert main.main(argv) == 2
  text = capsys.readouterr().err
  assert text.startswith("error: ") and text.count("\n") == 1, text
  return text


@pytest.mark.usefixtures("nothing_begins")
@pytest.mark.parametrize("kind", PLACES)
def test_a_workdir_that_takes_nothing(kind, tmp_path, capsys):
  place = PLACES[kind](tmp_path)
  assert f"cannot write to {place}: " in refused(place, capsys)


@pytest.mark.usefixtures("nothing_begins")
@pytest.mark.parametrize("name", train.KINDS)
def test_another_kind_of_thing_in_the_workdir(name, tmp_path, capsys):
  if train.KINDS[name] == "file":
    (tmp_path / name).mkdir()
  else:
    (tmp_path / name).write_text("not a folder")
  assert f"cannot write to {tmp_path / name}: it is no" in refused(
    tmp_path, capsys
  )


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_damaged_retries_are_named(text, tmp_path):
  (tmp_path / "retries.json").write_text(text)
  with pytest.raises(errors.UserError, match="retries.json is damaged"):
    faults.Retries(tmp_path)


def test_a_dict_in_two_sections_does_not_stay_one():
  found = configs.load("toy_ring")
  found.g_opt.b1 = 0.75
  assert found.d_opt.b1 != 0.75


def test_a_run_whose_samples_were_lost_draws_the_rest(unbroken, tmp_path):
  shutil.copy(unbroken.workdir / "metrics.jsonl", tmp_path)
  lost = dataclasses.replace(unbroken, workdir=tmp_path)
  real = np.zeros((8, 2), np.float32)
  paths = report.figures(lost, real, data.Arrays(real))
  assert "samples over time" not in paths and "curves" in paths


@pytest.mark.usefixtures("nothing_begins")
@pytest.mark.parametrize("there", [False, True])
def test_a_workdir_that_is_read_only(there, tmp_path, capsys, monkeypatch):
  """No system call that writes below it succeeds, whoever asks."""
  place = tmp_path / "run"
  if there:
    place.mkdir()
  opened, mkdir = io.open, os.mkdir

  def check(path):
    if isinstance(path, (str, os.PathLike)):
      if pathlib.Path(path).is_relative_to(place):
        raise OSError(30, "Read-only file system", str(path))

  def read_only(path, mode="r", *args, **kwargs):
    if set(mode) & set("wax+"):
      check(path)
    return opened(path, mode, *args, **kwargs)

  def no_folder(path, *args, **kwargs):
    check(path)
    return mkdir(path, *args, **kwargs)

  monkeypatch.setattr(io, "open", read_only)
  monkeypatch.setattr(os, "mkdir", no_folder)
  assert "Read-only file system" in refused(place, capsys)
  assert not place.exists() or not [*place.iterdir()]


# Of every key that belongs to a run, another value: old text, new text.
OTHERS = {
  "batch_size": (16, "8", "16"),
  "seed": (3, "0", "3"),
  "d_steps_per_g_step": (2, "1", "2"),
  "scaling": ("symmetric", "identity", "symmetric"),
  "precision": ("bfloat16", "float32", "bfloat16"),
  "start_from": ("elsewhere", "", "elsewhere"),
  "leave_out": ((1,), "()", "(1,)"),
  "ema": (dict(decay=0.5), "0.999", "0.5"),
  "system": (dict(z_dim=5), "system.z_dim=4", "5"),
  "dataset": (dict(std=0.25), "0.01", "0.25"),
  "generator": (dict(hidden=(9,)), "(8,)", "(9,)"),
  "discriminator": (dict(hidden=(9, 9)), "(8,)", "(9, 9)"),
  "loss": (dict(name="hinge"), "loss.name=non_saturating", "hinge"),
  "g_opt": (dict(b1=0.25), "g_opt.b1=0.0", "0.25"),
  "d_opt": (dict(learning_rate=0.5), "0.001", "0.5"),
  "augment": (dict(name="diffaugment"), "augment.name=none", "diffaugment"),
  "penalties": (dict(r1=dict(gamma=7.0)), "r1.every=absent", "7.0"),
}
# What a resume may change.
RESUMABLE = {
  "num_steps": 6,
  "log_every": 2,
  "stop_when": "generator collapsed",
  "evals": dict(modes=dict(every=3)),
  "samples": dict(every=3, num=2),
  "checkpoint": dict(every=1, keep=1, retries=2),
  "steps_per_dispatch": 4,
  "extractor": dict(name="classifier"),
  "imports": ("json",),  # Another path to the same code.
  "on_nan": "rollback",
  "stream": dict(mode="always"),
}


def test_every_key_is_of_one_kind_or_the_other():
  keys = {*configs.resolve(config())} - {"population"}  # A run has none.
  assert keys == {*OTHERS, *RESUMABLE}
  assert configs.RESUMABLE_KEYS == {*RESUMABLE}


@pytest.mark.parametrize("key", OTHERS)
def test_a_workdir_of_another_config_names_the_key(key, unbroken):
  value, old, new = OTHERS[key]
  before = (unbroken.workdir / "config.json").read_bytes()
  changed = config()
  if isinstance(value, dict) and key in changed:
    # Anew: what an experiment says of both players may be one dict.
    value = changed[key].to_dict() | value
  changed[key] = value
  with pytest.raises(errors.UserError) as e:
    train.train(changed, unbroken.workdir, ONE)
  text = str(e.value)
  assert "\n" not in text and f"config.{key}" in text
  first, _, second = text.partition(", not ")
  assert old in first and new in second, text
  assert (unbroken.workdir / "config.json").read_bytes() == before


@pytest.mark.parametrize("key", RESUMABLE)
def test_what_a_resume_may_change(key, unbroken, tmp_path):
  folder = tmp_path / "run"
  shutil.copytree(unbroken.workdir, folder)
  found = run(folder, **{key: RESUMABLE[key]})
  assert found.step == 8 and rows(found) == rows(unbroken)
  jax.tree.map(np.testing.assert_array_equal, found.state, unbroken.state)
  assert configs.resolve(config(**{key: RESUMABLE[key]})) == found.config


# --- Devices ----------------------------------------------------------------

SGD = dict(name="sgd", learning_rate=0.1)  # Adam makes small errors large.


def train_on(folder, count, num_steps):
  found = config(
    num_steps=num_steps,
    samples=dict(every=0, num=4),
    discriminator=dict(dropout=0.5, init_range=0.5),
    generator=dict(init_range=0.5),
    system=dict(instance_noise=0.3),
    penalties=dict(lecam={}),
  )
  found.g_opt, found.d_opt = dict(SGD), dict(SGD)
  return train.train(found, folder, jax.devices()[:count], report=False)


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_devices(tmp_path):
  """Noise, dropout and means belong to the global batch, not to a device."""
  whole = train_on(tmp_path / "one", 1, 6)
  four = train_on(tmp_path / "four", 4, 3)
  loaded = ganjax.load(tmp_path / "four")
  jax.tree.map(np.testing.assert_array_equal, loaded.state, four.state)
  for count in 1, 2:
    folder = tmp_path / str(count)
    shutil.copytree(four.workdir, folder)
    found = train_on(folder, count, 6)
    assert found.step == 6

    def close(a, b):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    jax.tree.map(close, found.state, whole.state)
    for ours, theirs in zip(rows(found), rows(whole), strict=True):
      assert ours.pop("diagnosis") == theirs.pop("diagnosis")
      jax.tree.map(close, ours, theirs)


# --- The cache of compilations ----------------------------------------------


def small_step(state, batch, key):
  noise = jax.random.normal(key, state.shape)
  hidden = jnp.tanh(batch @ state)
  return state + batch.T @ hidden + noise, {"mean": hidden.mean()}


def take_a_step():
  """Returns what a step makes, compiled anew or found on disk."""
  jax.clear_caches()
  step_fn = program.map_step(small_step, lambda batch: batch, ONE)
  state = program.replicate(np.eye(4, dtype=np.float32), ONE)
  rows = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
  places = np.array([[0, 2, 3, 7]])
  state, metrics = step_fn(state, rows, places, jax.random.key(0), 3)
  return np.asarray(state), float(metrics["mean"])


def entries(folder):
  return sorted(folder.glob("*-cache"))


def damage(path, how):
  content = bytearray(path.read_bytes())
  if how == "flipped":
    content[len(content) // 2] ^= 1
  path.write_bytes(content[: len(content) // 2] if how == "cut" else content)
  if how == "emptied":
    path.write_bytes(b"")
  if how == "text":
    path.write_text("nothing of the kind")


def same_with_warnings(want):
  """Takes the step again; returns what was warned of."""
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    state, mean = take_a_step()
  np.testing.assert_array_equal(state, want[0])
  assert mean == want[1]
  texts = [str(warning.message) for warning in caught]
  assert all("compilation cache" in text for text in texts), texts
  return texts


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "text"])
def test_damaged_compilations_are_made_anew(how, tmp_path, compile_cache):
  compile_cache(tmp_path / "xla")
  want = take_a_step()
  assert len(entries(tmp_path / "xla")) >= 2
  assert same_with_warnings(want) == []
  for path in entries(tmp_path / "xla"):
    damage(path, how)
  assert same_with_warnings(want)


@pytest.mark.parametrize("kind", ["under a file", "no such place"])
def test_a_cache_that_cannot_be_written(kind, tmp_path, compile_cache):
  (tmp_path / "file").write_text("")
  places = {"under a file": tmp_path / "file" / "xla"}
  compile_cache(tmp_path / "xla")
  want = take_a_step()
  compile_cache(places.get(kind, "/proc/nothing/xla"))
  assert len(same_with_warnings(want)) <= 1


@pytest.mark.slow
def test_a_run_whose_compilations_are_damaged(tmp_path, compile_cache):
  compile_cache(tmp_path / "xla")
  whole = run(tmp_path / "whole", num_steps=2)
  for path in entries(tmp_path / "xla"):
    damage(path, "flipped")
  jax.clear_caches()
  with pytest.warns(UserWarning, match="compilation cache"):
    assert_same(run(tmp_path / "again", num_steps=2), whole)


# --- Crashes and interrupts -------------------------------------------------


@pytest.fixture
def before_step(programs, monkeypatch):
  """Gives `set(step, act)`: `act()` is called before that step, once."""
  programs.use(monkeypatch)

  def set_act(step, act):
    make_step, left = program.make_step, [act]

    def make(*arguments):
      step_fn = make_step(*arguments)

      def acting(state, arrays, places, key, done):
        if done == step and left:
          left.pop()()
        return step_fn(state, arrays, places, key, done)

      return acting

    monkeypatch.setattr(program, "make_step", make)

  return set_act


class Crash(Exception):
  pass


def crash():
  raise Crash


@pytest.mark.parametrize(
  "torn", [b"", b'{"step": 7, "d_lo', b'{"step": 7, "d_loss": 1}', b"\x00\xff"]
)
def test_after_a_crash_each_step_is_logged_once(
  torn, unbroken, tmp_path, before_step
):
  """The log is ahead of the checkpoint, and so are the samples."""
  before_step(6, crash)
  with pytest.raises(Crash):
    run(tmp_path)
  log = tmp_path / "metrics.jsonl"
  assert log.read_bytes().count(b"\n") == 6
  log.write_bytes(log.read_bytes() + torn)
  found = ganjax.load(tmp_path)
  assert found.step == 4 and len(rows(found)) == 6 + (torn[-1:] == b"}")
  before = files(tmp_path)
  assert {"00000006.npy", "00000006.png"} < {*before}
  resumed = run(tmp_path)
  assert_same(resumed, unbroken)
  assert [row["step"] for row in resumed.history()] == [*range(1, 9)]
  after = files(tmp_path)
  assert {name: after[name] for name in before} == before


def test_a_run_that_begins_anew_draws_the_same(unbroken, tmp_path, before_step):
  """It crashed before the first checkpoint: what it left is made again."""
  before_step(3, crash)
  with pytest.raises(Crash):
    run(tmp_path)
  with pytest.raises(errors.UserError, match="no checkpoint"):
    ganjax.load(tmp_path)
  before = files(tmp_path)
  assert len(before) == 4  # Of steps 0 and 2.
  assert_same(run(tmp_path), unbroken)
  assert before.items() < files(tmp_path).items()


@pytest.fixture
def foreground():
  """Of a process in the background SIGINT may be ignored."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  signal.signal(signal.SIGINT, before)


def interrupt():
  signal.raise_signal(signal.SIGINT)


def twice():
  interrupt()
  interrupt()


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("act, kept", [(interrupt, 6), (twice, 4)])
def test_a_notebook_goes_on_after_an_interrupt(
  act, kept, unbroken, tmp_path, before_step
):
  """Once stops it after the step, saved; twice at once, as a cell does."""
  before_step(5, act)
  with pytest.raises(KeyboardInterrupt) as e:
    run(tmp_path)
  assert isinstance(e.value, signals.Interrupted) == (act is interrupt)
  loaded = ganjax.load(tmp_path)
  assert loaded.step == kept
  assert loaded.sample(4).shape == (4, 2)
  assert_same(run(tmp_path), unbroken)  # In the same process.
  np.testing.assert_array_equal(
    ganjax.load(tmp_path).sample(4), unbroken.sample(4)
  )


@pytest.mark.usefixtures("foreground")
def test_in_another_thread_no_signal_is_taken(unbroken, tmp_path, before_step):
  """The main thread is interrupted while it waits; the run goes on."""
  found, ended, interrupted = [], threading.Event(), False

  def work():
    try:
      found.append(run(tmp_path))
    finally:
      ended.set()

  before_step(5, lambda: os.kill(os.getpid(), signal.SIGINT))
  thread = threading.Thread(target=work)
  thread.start()
  try:
    ended.wait()
  except KeyboardInterrupt:
    interrupted = True
  ended.wait()
  thread.join()
  assert interrupted and len(found) == 1
  assert_same(found[0], unbroken)
