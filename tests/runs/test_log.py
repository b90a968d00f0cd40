"""The log of a run: rows, events, the progress line, and full disks."""

import io
import json
import re
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from ganjax import files
from ganjax.runs.history import read_history
from ganjax.runs.log import Log

GAN = dict(
  d_loss=1.3862,
  g_loss=0.6931,
  d_real_accuracy=0.78,
  d_fake_accuracy=1.0,
  images_per_sec=3456.7,
)


class Terminal(io.StringIO):
  def isatty(self):
    return True


def lines(workdir):
  return (workdir / "metrics.jsonl").read_text().splitlines()


def events(workdir):
  found = []
  for path in sorted(workdir.glob("events.out.tfevents.*")):
    content = path.read_bytes()
    at = 0
    while at < len(content):
      # Length, its checksum, the event, its checksum.
      (length,) = struct.unpack_from("<Q", content, at)
      event = content[at + 12 : at + 12 + length]
      found.append(
        event_pb2.Event.FromString(event)  # pyright: ignore
      )
      at += 12 + length + 4
  return found


def test_rows_are_json_lines_that_stand_at_once(tmp_path):
  workdir = tmp_path / "not" / "there"
  with Log(workdir, 10, 64) as log:
    log.write(1, {"d_loss": jnp.float32(0.5), "n": np.int64(3)})
    assert lines(workdir) == ['{"step": 1, "d_loss": 0.5, "n": 3.0}']
    log.write(2, {"d_loss": 0.25})
  rows = [{"step": 1, "d_loss": 0.5, "n": 3.0}, {"step": 2, "d_loss": 0.25}]
  assert read_history(workdir) == rows


def test_what_is_not_finite_stays_valid_json_and_comes_back(tmp_path):
  with Log(tmp_path, 10, 64) as log:
    log.write(1, {"a": np.nan, "b": jnp.inf, "c": -np.inf, "d": 1.0})

  def refuse(constant):
    raise AssertionError(constant)

  row = json.loads(lines(tmp_path)[0], parse_constant=refuse)
  assert row == {"step": 1, "a": "nan", "b": "inf", "c": "-inf", "d": 1.0}
  (row,) = read_history(tmp_path)
  assert np.isnan(row["a"]) and row["b"] == np.inf and row["c"] == -np.inf


def test_a_text_stays_a_text_and_is_no_scalar(tmp_path):
  texts = {"diagnosis": "not finite", "other": "", "third": "infinite"}
  with Log(tmp_path, 10, 64) as log:
    log.write(1, {"a": np.nan, **texts, "b": jnp.float32(2)})
    log.write(2, {"diagnosis": "equilibrium"})
  first, second = read_history(tmp_path)
  assert np.isnan(first.pop("a"))
  assert first == {"step": 1, "b": 2.0, **texts}
  assert second == {"step": 2, "diagnosis": "equilibrium"}
  values = [v for e in events(tmp_path) for v in e.summary.value]
  scalars = {v.tag for v in values if v.HasField("simple_value")}
  assert scalars == {"a", "b"}
  shown = [v.tensor.string_val[0] for v in values if "diagnosis" in v.tag]
  assert shown == [b"not finite", b"equilibrium"]


def test_a_resumed_run_has_no_step_twice(tmp_path):
  with Log(tmp_path, 6, 64) as log:
    for step in range(1, 5):
      log.write(step, {"run": 1})
  with Log(tmp_path, 6, 64, resume_step=2) as log:
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2]
    for step in range(3, 7):
      log.write(step, {"run": 2})
  pairs = [(row["step"], row["run"]) for row in read_history(tmp_path)]
  assert pairs == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 2)]
  assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))


def test_a_run_that_starts_anew_has_an_empty_history(tmp_path):
  with Log(tmp_path, 6, 64) as log:
    log.write(0, {"run": 1})
    log.write(1, {"run": 1})
  with Log(tmp_path, 6, 64):
    assert read_history(tmp_path) == []


@pytest.mark.parametrize(
  "torn", [b'{"step": 3, "d_lo', b"\x00\x00\x00", b'{"st\xff', b"3", b"{}"]
)
def test_a_torn_line_is_left_out_and_repaired(tmp_path, torn):
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(b'{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n' + torn)
  whole = [{"step": 1, "a": 1}, {"step": 2, "a": 2}]
  assert read_history(tmp_path) == whole
  with Log(tmp_path, 6, 64, resume_step=5) as log:
    log.write(6, {"a": 6})
  assert len(lines(tmp_path)) == 3
  assert read_history(tmp_path) == [*whole, {"step": 6, "a": 6.0}]


def test_a_last_line_without_its_end_is_not_joined_to_the_next(tmp_path):
  (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}')
  with Log(tmp_path, 6, 64, resume_step=1) as log:
    log.write(2, {})
  assert [row["step"] for row in read_history(tmp_path)] == [1, 2]


def test_there_may_be_no_history(tmp_path):
  assert read_history(tmp_path) == []


def test_tensorboard_has_scalars_images_and_the_purge_step(tmp_path):
  with Log(tmp_path, 10, 64, resume_step=3) as log:
    log.write(4, {"d_loss": 0.5})
    log.images(4, "samples", np.zeros((8, 9, 1), np.uint8))
  found = events(tmp_path)
  starts = [e.step for e in found if e.HasField("session_log")]
  assert starts[0] == 4  # TensorBoard drops what it knew from there on.
  values = {v.tag: v for e in found for v in e.summary.value}
  assert values["d_loss"].simple_value == 0.5
  image = values["samples"].image
  assert (image.height, image.width) == (8, 9)
  assert {e.step for e in found if e.summary.value} == {4}


def test_neither_tensorflow_nor_matplotlib_is_imported(tmp_path):
  code = f"""
import sys
from ganjax.runs import log, plots
with log.Log({str(tmp_path)!r}, 10, 64) as opened:
  opened.write(1, {{"d_loss": 0.5}})
  opened.progress(1, {{"d_loss": 0.5}})
found = [m for m in ("tensorflow", "matplotlib", "jax") if m in sys.modules]
assert not found, found
"""
  subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_terminal_there_are_few_plain_lines(
  tmp_path, capsys, monkeypatch
):
  clock = [100.0]
  monkeypatch.setattr(time, "monotonic", lambda: clock[0])
  with Log(tmp_path, 300, 64) as log:
    for step in range(1, 251):
      log.progress(step, GAN)
      clock[0] += 0.1
    log.say("saved [to] /tmp")
  out = capsys.readouterr().out
  shown = [int(n) for n in re.findall(r"^step (\d+)/300", out, re.M)]
  assert shown[0] == 1 and shown[-1] == 250
  assert shown[1:-1] in ([101, 201], [101, 202], [102, 203])
  assert "saved [to] /tmp\n" in out
  assert "\r" not in out and "\x1b" not in out
  assert "3457 images/s  0:00:05 left  D loss 1.386  G loss 0.693" in out
  assert "D acc real / fake 78 / 100 %" in out


def test_a_scalar_is_read_only_when_it_is_shown(tmp_path, capsys):
  class Unread:
    def __float__(self):
      raise AssertionError("the loop waited for the device")

  with Log(tmp_path, 9, 64) as log:
    log.progress(1, {"loss": 1.0})
    log.progress(2, {"loss": Unread()})
    log.progress(3, {"loss": 3.0})
  assert "step 3/9" in capsys.readouterr().out


def test_on_a_terminal_one_line_lives_below_what_is_said(tmp_path, monkeypatch):
  for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "100")
  terminal = Terminal()
  monkeypatch.setattr(sys, "stdout", terminal)
  with Log(tmp_path, 3, 64) as log:
    log.progress(1, GAN)
    log.say("a checkpoint")
    print("a stray print")
    log.progress(3, GAN)
  out = terminal.getvalue()
  assert "a checkpoint\n" in out and "a stray print\n" in out
  last = out.rsplit("\x1b[2K", 1)[1]
  assert "3/3" in last and "D loss 1.386" in last
  assert "1/3" in out and "━" in last


def test_the_log_shows_its_note(tmp_path, capsys):
  with Log(tmp_path, 9, 64) as log:
    log.progress(1, {"d_loss": 1.0})
    log.note = "diverged"
    log.progress(9, {"d_loss": 2.0})
  first, last = capsys.readouterr().out.splitlines()
  assert "[" not in first
  assert last.endswith("D loss 2.000  [diverged]")


def test_json_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / "new" / "x.json"
  files.write_json(
    path, {"a": [np.float32(1), float("inf")], "b": tmp_path, 3: jnp.ones(2)}
  )
  assert json.loads(path.read_text()) == {
    "a": [1.0, "inf"],
    "b": str(tmp_path),
    "3": [1.0, 1.0],
  }
  before = path.read_bytes()
  with pytest.raises(TypeError):
    files.write_json(path, {"a": object()})
  assert path.read_bytes() == before
  assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def full(*_, **__):
  raise OSError(28, "No space left on device")


def test_a_full_disk_costs_rows_but_no_run(tmp_path, monkeypatch, capsys):
  with Log(tmp_path, 10, 1) as log:
    log.write(1, {"loss": 1.0})
    with monkeypatch.context() as patch:
      write = log._file.write

      def torn(text):
        write(text[:7])
        full()

      patch.setattr(log, "_file", SimpleNamespace(write=torn))
      for step in (2, 3):
        log.write(step, {"loss": 2.0})
    log.write(4, {"loss": 4.0})
  assert [row["step"] for row in read_history(tmp_path)] == [1, 4]
  assert capsys.readouterr().out.count("could not be written") == 1


@pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)
def test_a_dead_writer_of_events_does_not_block(tmp_path, capsys):
  with Log(tmp_path, 10, 1) as log:
    writer = log._events.file_writer.event_writer
    writer._ev_writer.write_event = full
    log.write(1, {"loss": 1.0})
    writer._worker.join(10)
    assert not writer._worker.is_alive()
    for step in range(2, 40):  # Its queue holds ten.
      log.write(step, {"loss": 1.0, "d_loss": 1.0})
      log.images(step, "samples", np.zeros((2, 2, 1), np.uint8))
  assert len(read_history(tmp_path)) == 39
  assert capsys.readouterr().out.count("TensorBoard's events") == 1
