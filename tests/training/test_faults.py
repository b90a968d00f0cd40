"""Runs under faults: signals, numbers that are not finite, saves that fail."""

import json
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest
from trees import assert_same_run

import ganjax
from ganjax import errors, main
from ganjax.runs import configs, manifest, report
from ganjax.training import faults, feed, signals, train

ONE = jax.devices()[:1]


def config(**changes):
  found = configs.load("toy_ring:smoke")
  found.update(
    num_steps=12,
    log_every=2,
    samples=dict(every=4, num=8),
    checkpoint=dict(every=4, keep=2),
  )
  found.evals = {}
  found.update(changes)
  return found


def run(folder, around_step=None, **changes):
  how = dict(report=False, around_step=around_step)
  return train.train(config(**changes), folder, ONE, **how)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  return run(tmp_path_factory.mktemp("unbroken"))


def spoiled(is_bad):
  """Steps for which `is_bad(step, key)` say that D's loss is not a number."""

  def around_step(step_fn):
    def spoilt(state, arrays, places, key, step):
      state, metrics = step_fn(state, arrays, places, key, step)
      if is_bad(step, key):
        metrics = {**metrics, "d_loss": np.float32(np.nan)}
      return state, metrics

    return spoilt

  return around_step


def first_try(key):
  training = jax.random.fold_in(jax.random.key(0), faults.TRAINING)
  return bool(jax.random.key_data(key)[-1] == jax.random.key_data(training)[-1])


def test_the_bad_step_is_found_and_kept(tmp_path):
  bad = spoiled(lambda step, key: step >= 6)
  with pytest.raises(FloatingPointError, match="step 7: d_loss is nan") as e:
    run(tmp_path, bad)
  path = tmp_path / "faults" / "00000007.npz"
  assert str(path) in str(e.value) and "config.on_nan" in str(e.value)
  kept = np.load(path, allow_pickle=False)
  arrays = configs.load_data(configs.resolve(config()), "train")
  shape = kept["images"].shape[:1]
  places = feed.places(0, 6, 1, shape, len(arrays.images))[0]
  np.testing.assert_array_equal(kept["images"], arrays.images[places])
  training = jax.random.fold_in(jax.random.key(0), faults.TRAINING)
  key = jax.random.key_data(jax.random.fold_in(training, 6))
  np.testing.assert_array_equal(kept["key"], key)
  assert json.loads(path.with_suffix(".json").read_text())["d_loss"] == "nan"
  assert ganjax.load(tmp_path).step == 4  # The last that is good.


def test_a_rollback_waits_for_the_save_under_way(tmp_path, monkeypatch, capsys):
  """A checkpoint that is being written when a number is bad counts, too."""
  write = manifest.write

  def write_late(*args):
    time.sleep(1.0)
    return write(*args)

  monkeypatch.setattr(manifest, "write", write_late)
  bad = spoiled(lambda step, key: step >= 6 and first_try(key))
  run(tmp_path, bad, on_nan="rollback")
  assert "going on from step 4 with other randomness" in capsys.readouterr().out


def test_a_rollback_goes_on_with_other_randomness(unbroken, tmp_path, capsys):
  bad = spoiled(lambda step, key: step >= 6 and first_try(key))
  found = run(tmp_path, bad, on_nan="rollback")
  assert "going on from step 4 with other randomness" in capsys.readouterr().out
  assert found.step == 12
  steps = [row["step"] for row in found.history() if "d_loss" in row]
  assert steps == [2, 4, 6, 8, 10, 12]
  assert np.isfinite([row["d_loss"] for row in found.history()]).all()
  assert json.loads((tmp_path / "retries.json").read_text()) == {
    "rolled_back_to": [4]
  }
  kernels = [
    jax.tree.leaves(x.state.generator.params)[0] for x in (found, unbroken)
  ]
  assert np.any(kernels[0] != kernels[1])
  # A resumed run knows of it: in one piece or in two it is the same.
  other = tmp_path / "other"
  run(other, bad, on_nan="rollback", num_steps=8)
  assert_same_run(run(other, bad, on_nan="rollback"), found)


def test_what_fails_again_and_again_ends_the_run(tmp_path):
  tried = []

  def is_bad(step, key):
    if step == 6:
      tried.append(tuple(np.asarray(jax.random.key_data(key))))
    return step >= 6

  with pytest.raises(FloatingPointError, match="3 times already"):
    run(tmp_path, spoiled(is_bad), on_nan="rollback")
  assert len(tried) == len(set(tried)) == 1 + faults.MAX_RETRIES
  assert ganjax.load(tmp_path).step == 4


def test_before_the_first_checkpoint_a_rollback_begins_anew(tmp_path):
  bad = spoiled(lambda step, key: step >= 1 and first_try(key))
  assert run(tmp_path, bad, on_nan="rollback").step == 12
  assert faults.Retries(tmp_path).steps == [0]


def test_an_unknown_policy_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match="on_nan 'ignore'"):
    run(tmp_path, on_nan="ignore")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_loses_nothing(
  unbroken, tmp_path, number
):
  def is_bad(step, key):
    if step == 5:
      os.kill(os.getpid(), number)
    return False

  before = signal.getsignal(number)
  with pytest.raises(signals.Interrupted, match="after step 6; the same") as e:
    run(tmp_path, spoiled(is_bad))
  assert e.value.code == 128 + number
  assert signal.getsignal(number) == before
  assert ganjax.load(tmp_path).step == 6
  resumed = run(tmp_path)
  assert_same_run(resumed, unbroken)
  drop = "images_per_sec"
  rows = [
    [{k: v for k, v in row.items() if k != drop} for row in x.history()]
    for x in (resumed, unbroken)
  ]
  assert rows[0] == rows[1]


def test_a_signal_on_a_step_that_is_saved_anyway(tmp_path):
  kill = spoiled(lambda step, key: step == 7 and os.kill(os.getpid(), 15))
  with pytest.raises(signals.Interrupted):
    run(tmp_path, kill)
  assert ganjax.load(tmp_path).step == 8


def test_a_signal_between_two_looks_loses_nothing(tmp_path, monkeypatch):
  """It comes while samples are drawn, after it was asked for: one step more."""
  snapshot = report.snapshot

  def interrupted(workdir, step, images):
    snapshot(workdir, step, images)
    if step == 4:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(report, "snapshot", interrupted)
  with pytest.raises(signals.Interrupted, match="stopped after step 5"):
    run(tmp_path, checkpoint=dict(every=12, keep=2))
  assert ganjax.load(tmp_path).step == 5


def test_the_command_says_how_it_ended(monkeypatch, capsys):
  for error, code, text in (
    (
      signals.Interrupted(signal.SIGTERM, "stopped there"),
      143,
      "stopped there",
    ),
    (signals.Interrupted(signal.SIGINT, "stopped here"), 130, "stopped here"),
    (KeyboardInterrupt(), 130, "the same command resumes"),
    (errors.SaveError("no space"), 1, "error: no space"),
    (FloatingPointError("step 3"), 1, "error: step 3"),
  ):

    def stop(*_, error=error):
      raise error

    monkeypatch.setattr(train, "train", stop)
    assert main.main(["main", "--config=toy_ring:smoke"]) == code
    assert capsys.readouterr().err.strip().endswith(text)


@pytest.fixture
def foreground():
  """Of a process in the background SIGINT may be ignored."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


def test_a_second_signal_has_its_usual_effect(foreground):
  with signals.Watch() as watch:
    os.kill(os.getpid(), signal.SIGINT)
    assert watch.number == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
      signal.sigtimedwait([], 0.1)


def test_other_threads_watch_nothing():
  found = []

  def look():
    with signals.Watch() as watch:
      found.append((watch.number, watch._before))

  thread = threading.Thread(target=look)
  thread.start()
  thread.join()
  assert found == [(0, {})]


def fail_once(monkeypatch, times=1):
  write, calls = manifest.write, []

  def writing(folder, leaves):
    calls.append(folder.name)
    if len(calls) <= times:
      raise OSError(28, "No space left on device")
    write(folder, leaves)

  monkeypatch.setattr(manifest, "write", writing)
  return calls


def test_a_failed_save_stops_the_run(tmp_path, monkeypatch):
  calls = fail_once(monkeypatch)
  with pytest.raises(errors.SaveError, match="step 4 .*No space left"):
    run(tmp_path)
  assert calls == ["4"]


def test_a_failed_save_is_tried_again_if_allowed(
  unbroken, tmp_path, monkeypatch, capsys
):
  fail_once(monkeypatch)
  found = run(tmp_path, checkpoint=dict(every=4, keep=2, retries=1))
  assert "trying again" in capsys.readouterr().out
  assert_same_run(found, unbroken)
  fail_once(monkeypatch, times=2)
  with pytest.raises(errors.SaveError):
    run(tmp_path / "b", checkpoint=dict(every=4, keep=2, retries=1))


def test_a_damaged_checkpoint_costs_an_interval(unbroken, tmp_path, capsys):
  run(tmp_path, num_steps=8)
  path = next((tmp_path / "checkpoints" / "8" / "state" / "d").iterdir())
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  resumed = run(tmp_path)
  assert "it is now 8.damaged" in capsys.readouterr().err
  assert_same_run(resumed, unbroken)
  steps = [row["step"] for row in resumed.history()]
  assert steps == sorted(set(steps))
