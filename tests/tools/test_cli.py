"""The command `ganjax`: its verbs, its help, and how every verb fails."""

import os
import pathlib
import signal
import subprocess
import sys
import time
import types
import warnings

import pytest

import ganjax
from ganjax import __main__ as command
from ganjax import cli, errors, tools

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = [verb for verb in tools.VERBS if verb != "train"]
# Imports that cost more than all of a help text.
HEAVY = ("jax", "flax", "numpy", "matplotlib")
LOOK = f"""
import sys
from ganjax import __main__ as command
try:
  code = command.main(sys.argv[1:])
except SystemExit as stop:
  code = stop.code
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def run_elsewhere(code, *argv, cwd):
  """Runs Python in a folder that is no checkout."""
  return subprocess.run(
    [sys.executable, *code, *argv],
    cwd=cwd,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )


def test_help_is_quick_and_names_every_verb(tmp_path):
  start = time.monotonic()
  done = run_elsewhere(["-m", "ganjax"], "--help", cwd=tmp_path)
  # It takes a tenth of a second on an idle machine.
  assert time.monotonic() - start < 3
  assert done.returncode == 0
  for verb, tool in tools.VERBS.items():
    assert f"  {verb} " in done.stdout and tool.summary in done.stdout


# `ganjax.tools.theory` is itself a module of JAX functions.
@pytest.mark.parametrize(
  "argv",
  [("--help",), ("--version",), *((v, "--help") for v in tools.VERBS)],
  ids=" ".join,
)
def test_no_help_waits_for_jax(argv, tmp_path):
  done = run_elsewhere(["-c", LOOK], *argv, cwd=tmp_path)
  assert done.returncode == 0 and done.stdout
  if argv[0] != "theory":
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("verb", TOOLS)
def test_a_verb_says_what_it_takes(verb, capsys):
  with pytest.raises(SystemExit, match="0"):
    command.main([verb, "--help"])
  text = capsys.readouterr().out
  assert text.startswith(f"usage: ganjax {verb} ") and "--debug" in text
  assert "python -m" not in text


def test_the_version(capsys):
  assert command.main(["--version"]) == 0
  assert capsys.readouterr().out == f"ganjax {ganjax.__version__}\n"


def test_no_verb_is_answered_with_the_help(capsys):
  assert command.main([]) == 2
  assert "usage: ganjax VERB" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("line", "words"),
  [
    ("smaple runs/x", "unknown verb 'smaple'; did you mean 'sample'"),
    ("--verbose", "unknown verb '--verbose'"),
    ("train --config=digits_dcgn", "did you mean 'digits_dcgan'"),
    ("sample", "the following arguments are required: workdir; see --help"),
    ("sample x --nmu=3", "unrecognized arguments: --nmu=3; see --help"),
    ("sample x --num=a", "invalid int value: 'a'; see --help"),
    ("bench --steps=3 --stpes=4", "unexpected argument '--stpes=4'"),
    ("evaluate x --trunc=1", "unrecognized arguments: --trunc=1"),
  ],
)
def test_mistakes_are_one_line(line, words, capsys):
  try:
    code = command.main(line.split())
  except SystemExit as stop:
    code = stop.code
  out, error = capsys.readouterr()
  assert code == 2 and out == ""
  assert error.startswith("error: ") and error.count("\n") == 1
  assert words in error


class Interrupted(KeyboardInterrupt):
  code = 128 + signal.SIGTERM


FAILURES = [
  (errors.UserError("wrong"), 2, "error: wrong\n"),
  (FileNotFoundError("gone"), 2, "error: gone\n"),
  (FloatingPointError("nan"), 1, "error: nan\n"),
  (errors.SaveError("full"), 1, "error: full\n"),
  (KeyboardInterrupt(), 130, "interrupted\n"),
  (Interrupted("saved"), 143, "saved\n"),
]


@pytest.fixture
def failing(monkeypatch):
  """Gives `fail(error)`, which makes the verb `sample` raise it."""

  def fail(error):
    def run(args):
      warnings.warn("soon", stacklevel=1)
      raise error

    tool = types.SimpleNamespace(add_arguments=lambda _: None, run=run)
    monkeypatch.setattr(command, "find", lambda _: tool)

  return fail


@pytest.mark.parametrize(("error", "code", "text"), FAILURES)
def test_exit_codes(error, code, text, failing, capsys):
  failing(error)
  shown = warnings.showwarning
  assert command.main(["sample"]) == code
  assert capsys.readouterr().err == f"warning: soon\n{text}"
  assert warnings.showwarning is shown


@pytest.mark.parametrize("error", [case[0] for case in FAILURES[:4]])
def test_debug_raises(error, failing):
  failing(error)
  with pytest.raises(type(error)):
    command.main(["sample", "--debug"])


def test_a_fault_of_ganjax_is_raised():
  def broken():
    raise RuntimeError("bug")

  with pytest.raises(RuntimeError, match="bug"):
    cli.guard(broken)


def test_a_tool_is_told_its_command_and_its_flags():
  args = command.parse("bench", ["--steps=2", "--config.seed=1"])
  assert args.command == "ganjax bench --steps=2 --config.seed=1"
  assert args.flags == ["--config.seed=1"]
  assert command.parse("sample", ["a b"]).command == "ganjax sample 'a b'"
