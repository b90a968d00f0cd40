"""The benchmark of modes: its cells are plain runs, its means are by hand."""

import json

import numpy as np
import pytest

from ganjax import configs, errors, logs, main
from ganjax.toy_modes import __main__ as toy_modes
from ganjax.toy_modes import cells, page

DATA = dict(modes_covered=8.0, modes=8.0, high_quality=0.99, mode_kl=0.001)


def cell(folder, **changes):
  return cells.Cell("ring", dict(title="a + b", **changes), 1, 0, True, folder)


def test_smoke_end_to_end(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(toy_modes, "KINDS", ("grid",))
  out, workdirs = tmp_path / "out", tmp_path / "runs"
  argv = ["--smoke", f"--out={out}", f"--workdirs={workdirs}", "--jobs=1"]
  assert toy_modes.main(argv) == 0
  assert capsys.readouterr().out.count("\n") == 1  # Runs are quiet.
  names = sorted(f.name for f in workdirs.iterdir())
  assert names == ["grid-non_saturating-0", "grid-pairing_r1_r2-0"]
  assert "curves.png" in (workdirs / names[0] / "log.txt").read_text()
  before = (out / "toy_modes.md").read_text()
  for title in cells.SMOKE:  # A row of results, one of flags.
    assert before.count(f"\n| {title} | ") == 2
  assert "| *held-out data* | 25 | " in before
  assert 0 < (out / "toy_modes.png").stat().st_size < 300_000
  document = json.loads((out / "toy_modes.json").read_text())
  assert [run["modes"] for run in document["runs"]] == [25, 25]
  assert str(tmp_path.parent) not in json.dumps(document["environment"])
  points = np.load(workdirs / names[0] / "samples" / "00000002.npy")
  assert points.shape == (8, 2)  # Those of the last step, for the figure.

  # A second call trains nothing and finds the same; a longer one goes on.
  monkeypatch.setattr(toy_modes, "train", None)
  assert toy_modes.main(argv) == 0
  assert (out / "toy_modes.md").read_text() == before
  setting = dict(title=cells.SMOKE[0])
  one = cells.Cell("grid", setting, 0, 0, True, workdirs)
  assert one.read() == document["runs"][0]
  assert one._replace(steps=3).read() is None


def test_flags_make_the_config_of_a_cell(tmp_path):
  for setting in cells.SETTINGS:
    one = cells.Cell("grid", setting, 2, 7, False, tmp_path)
    argv = ["main", "--config=toy_grid", *cells.flags(setting).split()]
    argv += ["--config.seed=2", "--config.num_steps=7"]
    assert main.parse(argv)[0].to_dict() == one.config().to_dict()


def test_titles_are_different_folders(tmp_path):
  one = cell(tmp_path)
  assert one.workdir == tmp_path / "ring-a_b-1"
  folders = {one._replace(setting=s).workdir for s in cells.SETTINGS}
  assert len(folders) == len(cells.SETTINGS)


def test_a_run_that_diverges_is_a_result(tmp_path):
  huge = dict(name="sgd", learning_rate=1e30)
  one = cell(tmp_path, g_opt=huge, d_opt=huge)
  assert one.read() is None
  cells.train(one)
  run = one.read()
  assert run is not None and run["state"] == "diverged"
  assert "step 1" in run["note"] and "modes" not in run
  assert page.columns([run]) == ["(–)", "–", "–", "1 diverged"]


def test_a_workdir_of_another_config_is_refused(tmp_path):
  one = cell(tmp_path)
  other = configs.resolve(configs.load("toy_ring:smoke")).to_dict()
  other |= dict(batch_size=16, seed=1)
  dataset = dict(image_shape=[2], num_classes=8, num_examples=10_000)
  logs.write_json(
    one.workdir / "config.json", dict(config=other, dataset=dataset)
  )
  with pytest.raises(errors.UserError, match="batch_size=16"):
    cells.train(one)


@pytest.mark.parametrize(
  "argv, words",
  [
    (["--out=x", "--sedes=2"], "--sedes=2"),
    (["--out=x", "--seeds=two"], "two"),
    (["--seeds=2"], "--out"),
    (["--out=x", "--seeds=0"], "--seeds 0"),
    (["--out=x", "--steps=-1"], "--steps -1"),
  ],
)
def test_mistakes_are_one_line(argv, words, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  try:
    code = toy_modes.main(argv)
  except SystemExit as stop:
    code = stop.code
  error = capsys.readouterr().err
  assert code == 2 and error.count("\n") == 1 and error.startswith("error: ")
  assert words in error
  assert not list(tmp_path.iterdir())


def run(seed, covered, quality, kl, state="none", setting="a", kind="ring"):
  found = dict(modes_covered=covered, high_quality=quality, mode_kl=kl)
  place = dict(dataset=kind, setting=setting, seed=seed, state=state)
  return place | found | dict(modes=8.0)


def test_columns_by_hand():
  runs = [
    run(0, 8.0, 0.9, 0.1, "equilibrium"),
    run(1, 6.0, 0.7, 0.2),
    run(2, 8.0, 0.8, 0.6, "equilibrium"),
  ]
  # s.d. with n - 1: of (.9, .7, .8) it is .1, of (.1, .2, .6) sqrt(.07).
  by_hand = ["7.3 (8, 6, 8)", "0.800 ± 0.100", "0.300 ± 0.265"]
  assert page.columns(runs) == [*by_hand, "2 equilibrium, 1 none"]
  bad = dict(dataset="ring", setting="a", seed=1, state="diverged", note="")
  assert page.columns([runs[0], bad, runs[2]]) == [
    "8.0 (8, –, 8)",
    "0.850 ± 0.071",
    "0.350 ± 0.354",
    "2 equilibrium, 1 diverged",
  ]
  assert page.columns(runs[1:2])[:2] == ["6.0 (6)", "0.700"]


def test_table_takes_each_datasets_own_runs():
  runs = [run(0, 8.0, 0.5, 0.0), run(0, 3.0, 0.25, 1.0, setting="b")]
  runs.append(run(0, 1.0, 1.0, 2.0, kind="grid"))
  document = dict(
    runs=runs, real=dict(ring=DATA), settings=[dict(title="a"), dict(title="b")]
  )
  lines = page.table(document, "ring")
  assert lines[0].startswith("| setting | ring: modes of 8")
  assert lines[2:] == [
    "| a | 8.0 (8) | 0.500 | 0.000 | 1 none |",
    "| b | 3.0 (3) | 0.250 | 1.000 | 1 none |",
    "| *held-out data* | 8 | 0.990 | 0.001 | |",
  ]
  assert {line.count("|") for line in lines} == {6}
