"""The command line: every mistake is one line that says what to do."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from ganjax import errors, main
from ganjax.runs import configs
from ganjax.runs.configs import flags

ROOT = pathlib.Path(__file__).resolve().parents[2]


def resolved(*overrides):
  return flags.parse(["main", *overrides])[0]


# What is typed -> what the line says.
MISTAKES = {
  "--config.lr=1": "unknown config key 'config.lr'",
  "--config.batchsize=8": "did you mean 'batch_size'",
  "--config.generator.widht=8": "did you mean 'width'",
  "--config.g_opt.learning_rat=1": "did you mean 'learning_rate'",
  "--config.batch_size=x": "config.batch_size='x' must be a whole number",
  "--config.num_steps=1.5": "config.num_steps='1.5' must be a whole number",
  "--config.g_opt=3": "config.g_opt='3' must be given by its keys",
  "--config.batch_size=0": "config.batch_size=0 is out of range: 1 or more",
  "--config.g_opt.learning_rate=-1": "out of range: above 0",
  "--config.g_opt.learning_rate=nan": "must be finite",
  "--config.ema.decay=1.5": "out of range: at least 0 and below 1",
  "--config.loss.name=hinje": "config.loss.name: unknown loss 'hinje'; did "
  "you mean 'hinge'",
  "--config.generator.name=dcgn": "unknown net 'dcgn'; did you mean 'dcgan'",
  "--config.dataset.name=digit": "unknown dataset 'digit'; did you mean",
  "--config.d_opt.name=adamm": "unknown optimizer 'adamm'; did you mean 'adam'",
  "--config.system.name=gann": "unknown system 'gann'; did you mean 'gan'",
  "--config.evals.frechet.evry=1": "did you mean 'every'",
  "--config.checkpoint.best=fid": "is no value of config.evals "
  "(classes_covered, class_kl, frechet)",
  "--config=digits_dcgn": "unknown experiment 'digits_dcgn'; did you mean "
  "'digits_dcgan'",
  "--config=digits_dcgan:smok": "knows no argument 'smok'",
  "--config": "--config needs a value",
  "--wrkdir=x": "Unknown command line flag 'wrkdir'. Did you mean: workdir",
  "extra": "unexpected argument 'extra'",
}
# These need the nets or the data to be seen.
LATE_MISTAKES = {
  "--config.generator.output=sine": "unknown activation 'sine'",
  "--config.system.latent=cauchy": "unknown latent 'cauchy'",
  "--config.dataset.size=18": "net 'dcgan' needs square images",
  "--config.scaling=unti": "unknown scaling 'unti'; did you mean 'unit'",
  "--config.scaling=identity": "is for float32 data and this dataset is uint8",
  "--config.batch_size=9": "config.batch_size=9 is not divisible by the 4 "
  "devices; nearest: 8 or 12",
}


@pytest.mark.parametrize("flag", {**MISTAKES, **LATE_MISTAKES})
def test_mistakes_end_in_one_line(flag, capsys, tmp_path):
  """Exit code 2 and a single line on the standard error; nothing written."""
  workdir = tmp_path / "run"
  argv = ["main", flag]
  if not flag.endswith(("--config", "smok", "dcgn")):
    argv += ["--config=digits_dcgan:smoke", f"--workdir={workdir}"]
  assert main.main(argv) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1, error
  assert {**MISTAKES, **LATE_MISTAKES}[flag] in error
  assert not workdir.exists()


def test_debug_shows_the_traceback():
  with pytest.raises(errors.UserError):
    main.main(["main", "--debug", "--config.lr=1"])


def test_a_workdir_that_cannot_be_written(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  argv = ["main", "--config=digits_dcgan:smoke", "--config.batch_size=8"]
  assert main.main([*argv, f"--workdir={tmp_path / 'file' / 'run'}"]) == 2
  assert "cannot write to" in capsys.readouterr().err


def test_flags_reach_what_the_experiment_does_not_state():
  config = resolved(
    "--config.g_opt.b2=0.9", "--config.loss.d_weight=0.5", "--config.seed=3"
  )
  assert config.g_opt.b2 == 0.9 and config.d_opt.b2 == 0.999
  assert config.loss.d_weight == 0.5 and config.seed == 3


def test_a_flag_exchanges_what_a_section_names():
  """Adam's b1 is dropped; SGD's momentum, absent by default, can be set."""
  config = resolved("--config.g_opt.name=sgd", "--config.g_opt.momentum=0.9")
  assert config.g_opt.to_dict() == {
    "name": "sgd",
    "learning_rate": 5e-4,
    "momentum": 0.9,
    "nesterov": False,
    "clip_gradients": None,
    "clip_weights": None,
    "max_column_norm": None,
  }
  config = resolved(
    "--config.loss.name=least_squares", "--config.loss.real_target=0.9"
  )
  assert config.loss.real_target == 0.9


def test_flags_bring_penalties_and_evals_along():
  config = resolved(
    "--config.penalties.r1.gamma=0.5",
    "--config.penalties.lecam.every=4",
    "--config.evals.classes.every=7",
    "--config.augment.name=ada",
    "--config.augment.target=0.7",
    "--config.loss.relativism=pairing",
  )
  assert config.penalties.to_dict() == {
    "r1": {"every": 1, "gamma": 0.5},
    "lecam": {"every": 4, "weight": 0.3, "decay": 0.99},
  }
  assert config.evals.classes.every == 7 and "frechet" in config.evals
  assert config.augment.target == 0.7 and config.augment.interval == 4


@pytest.mark.parametrize(
  ("flag", "answer"),
  [
    ("--config.penalties.r3.gamma=1", "unknown penalty 'r3'; did you mean"),
    ("--config.penalties.r1.gama=1", "did you mean 'gamma'"),
    ("--config.penalties.r1.gamma=-1", "out of range: 0 or more"),
    ("--config.penalties.gamma=1", "unknown config key"),
    ("--config.loss.relativism=paired", "did you mean 'pairing'"),
    ("--config.loss.unbiased=True", "corrects least_squares"),
    ("--config.augment.name=adaa", "did you mean 'ada'"),
    ("--config.system.generator_real=old", "fresh, same"),
    ("--config.system.label_smoothing=1.0", "below 1"),
    ("--config.stop_when=collapsed", "did you mean 'generator collapsed'"),
    ("--config.discriminator.norm=spektral", "did you mean 'spectral'"),
  ],
)
def test_mistakes_of_the_game_are_named(flag, answer, tmp_path, capsys):
  argv = ["main", "--config=digits_dcgan:smoke", f"--workdir={tmp_path}", flag]
  assert main.main(argv) == 2
  error = capsys.readouterr().err
  assert answer in error and len(error.splitlines()) == 1


def test_points_cannot_be_augmented(tmp_path, capsys):
  argv = ["main", "--config=toy_ring:smoke", f"--workdir={tmp_path}"]
  assert main.main([*argv, "--config.augment.name=diffaugment"]) == 2
  assert "needs images, not [2]" in capsys.readouterr().err


def test_config_and_workdir_in_either_form(tmp_path):
  path = ROOT / "experiments" / "toy_ring.py"
  config, workdir = flags.parse(["main", "--config", str(path)])
  assert config.dataset.name == "toy"
  assert workdir == os.path.join("runs", "toy_ring")
  argv = ["main", f"--config={path}:smoke", "--workdir", str(tmp_path)]
  config, workdir = flags.parse(argv)
  assert config.num_steps == 2 and workdir == str(tmp_path)


def test_a_resolved_config_resolves_to_itself():
  for name in configs.experiments():
    config = configs.resolve(configs.load(name))
    assert configs.resolve(config).to_dict() == config.to_dict()


def test_mistakes_in_a_file_are_named(tmp_path):
  path = tmp_path / "mine.py"
  base = "import ml_collections\ndef get_config(arg=''):\n  return "
  base += "ml_collections.ConfigDict(dict({}))\n"
  cases = {
    "num_steps=1, batch_size=1": "config.dataset is missing",
    "num_steps=1, batch_size=1, system=dict(name='gan')": "is missing",
    "num_step=1": "unknown config key 'config.num_step'; did you mean",
    "num_steps=1, batch_size=1, system=3": "config.system=3 must be a dict",
    "num_steps=1, system=dict(z_dim=2)": "config.system.name is missing",
    "num_steps=1, batch_size=1, system=dict(name='gan'), dataset=3, d_opt=3, "
    "g_opt=3, loss=3, generator=3, discriminator=3": "=3 must be a dict",
  }
  for text, message in cases.items():
    path.write_text(base.format(text))
    with pytest.raises(errors.UserError, match=message.replace(".", r"\.")):
      configs.resolve(configs.load(str(path)))


def test_help_is_quick_and_lists_the_experiments():
  start = time.monotonic()
  done = subprocess.run(
    [sys.executable, "-m", "ganjax.main", "--help"],
    capture_output=True,
    text=True,
    cwd=ROOT,
    check=True,
  )
  assert time.monotonic() - start < 3
  for name in configs.experiments():
    assert name in done.stdout
