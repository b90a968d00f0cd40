"""The benchmark of modes: a page of a swept table; its means are by hand."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from verbs import Verb

from ganjax import registry
from ganjax.runs import report
from ganjax.tools.sweep import cell, executors, tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
toy_modes = registry.import_module(str(ROOT / "results/toy_modes.py"))

sweep = Verb("sweep")


DATA = dict(modes_covered=8.0, modes=8.0, high_quality=0.99, mode_kl=0.001)


class Here:
  """Runs cells in this process; is a task, too, of one that ended."""

  state = ""

  def has_room(self):
    return True

  def start(self, one):
    task = Here()
    task.state = cell.run(one)
    return task

  def ended(self):
    return True

  def result(self):
    return self.state, ""

  def close(self):
    pass


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
  folder = tmp_path_factory.mktemp("swept") / "runs"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(executors, "get", lambda *_: Here())
    patch.setattr(report, "figures", lambda *_: {})
    assert sweep.main(["toy_modes:smoke", f"--out={folder}"]) == 0
  return folder


def draw(swept, out):
  code = toy_modes.main([str(swept), f"--out={out}", "--smoke"])
  return code, json.loads((out / "toy_modes.json").read_text())


def test_a_swept_table_gives_a_page(swept, tmp_path, capsys):
  code, document = draw(swept, tmp_path)
  assert code == 0 and capsys.readouterr().out.count("\n") == 1
  text = (tmp_path / "toy_modes.md").read_text()
  words = " ".join(text.split())
  assert f"`{document['sweep']}`" in words
  assert f"`python results/toy_modes.py {swept} --out={tmp_path}" in words
  for title in "non-saturating", "pairing + R1 + R2":  # Of each set, of flags.
    assert text.count(f"\n| {title} | ") == 3
  assert "| *held-out data* | 25 | " in text and "What to see" not in text
  assert 0 < (tmp_path / "toy_modes.png").stat().st_size < 300_000
  assert [run["modes"] for run in document["runs"]] == [8, 8, 25, 25]
  (environment,) = document["environments"]
  assert not {"command", "platform", "time"} & environment.keys()
  for run in document["runs"]:  # What each run says of itself.
    row = tables.folder_of(f"{run['dataset']}: {run['setting']}")
    scores = json.loads((swept / row / "seed_0/evaluation.json").read_text())
    record = scores["last"]["modes"]
    assert record["values"].items() <= run.items()
    assert run["state"] == "none" and record["protocol"]["step"] == 2


def test_the_figure_has_the_last_samples_of_the_first_seed(
  swept, tmp_path, monkeypatch
):
  folder = shutil.copytree(swept, tmp_path / "runs")
  for first in folder.glob("*/seed_0"):
    second = shutil.copytree(first, first.with_name("seed_1"))
    for path in second.glob("samples/*.npy"):
      np.save(path, np.zeros((8, 2)))
    outcome = json.loads((second / cell.OUTCOME).read_text())
    outcome["config"]["seed"] = 1
    (second / cell.OUTCOME).write_text(json.dumps(outcome))
  two = tables.load("toy_modes:smoke") | dict(seeds=(0, 1))
  monkeypatch.setattr(tables, "load", lambda spec: two)
  drawn = []
  monkeypatch.setattr(
    toy_modes, "_panel", lambda *args: drawn.append(args[1:3])
  )
  document = draw(folder, tmp_path)[1]
  assert [run["seed"] for run in document["runs"]] == [0] * 4 + [1] * 4
  assert len(drawn) == 4
  for run, points in drawn:
    row = tables.folder_of(f"{run['dataset']}: {run['setting']}")
    path = swept / row / "seed_0/samples/00000002.npy"
    np.testing.assert_array_equal(points, np.load(path))


def test_a_run_that_diverges_is_a_result(swept, tmp_path):
  path = swept / "ring_non-saturating/seed_0" / cell.OUTCOME
  before = path.read_text()
  outcome = json.loads(before) | dict(state=cell.DIVERGED, note="step 1: nan")
  path.write_text(json.dumps(outcome))
  try:
    code, document = draw(swept, tmp_path)
  finally:
    path.write_text(before)
  run = document["runs"][0]
  assert code == 0 and run["state"] == "diverged" and "modes" not in run
  assert run["note"] == "step 1: nan"
  row = "\n| non-saturating | (–) | – | – | 1 diverged |\n"
  assert row in (tmp_path / "toy_modes.md").read_text()


def test_runs_of_another_config_are_not_the_tables(swept, tmp_path, capsys):
  assert toy_modes.main([str(swept), f"--out={tmp_path}"]) == 2
  assert "84 of 84 runs are missing" in capsys.readouterr().err


def test_what_is_missing_is_named_with_what_makes_it(swept, tmp_path, capsys):
  folder = swept / "grid_pairing_+_r1_+_r2/seed_0"
  for name, words in (
    (cell.OUTCOME, "1 of 4 runs are missing (grid: pairing + R1 + R2, seed 0)"),
    ("evaluation.json", f"ganjax evaluate {folder}"),
    ("samples", f"{folder}/samples holds no samples"),
  ):
    hidden = (folder / name).rename(tmp_path / name)
    try:
      argv = [str(swept), f"--out={tmp_path / 'out'}", "--smoke"]
      assert toy_modes.main(argv) == 2
    finally:
      hidden.rename(folder / name)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "out").exists()


def test_the_page_says_where_runs_ran_and_what_the_whole_table_shows(
  swept, tmp_path
):
  document = draw(swept, tmp_path)[1]
  (cpu,) = document["environments"]
  gpu = cpu | dict(backend="gpu", device_kind="NVIDIA H100")
  versions = cpu["versions"] | dict(jax="9.9.9")
  document |= dict(default=True, seeds=[0, 4])
  document["environments"] = [cpu, gpu, gpu | dict(git_commit="0"), cpu]
  document["environments"].append(cpu | dict(versions=versions))
  words = " ".join(toy_modes.page_text(document).split())
  assert ": seeds 0, 4, on" in words and "**What to see.**" in words
  assert words.count(f"{cpu['cpu_count']} CPU cores, python") == 2
  assert words.count("; NVIDIA H100, python") == 1
  assert words.count(", jax 9.9.9, flax") == 1


def test_both_datasets_have_the_same_settings():
  for arg, count, seeds in ("", 14, (0, 1, 2)), (":smoke", 2, (0,)):
    table = tables.load(f"toy_modes{arg}")
    assert table["seeds"] == seeds
    found = {}
    for row in table["rows"]:
      kind, title = row["label"].split(": ")
      assert row["experiment"] == f"toy_{kind}{arg}"
      found.setdefault(kind, []).append((title, row["overrides"]))
    assert list(found) == ["ring", "grid"] and found["ring"] == found["grid"]
    assert len(found["ring"]) == count


@pytest.mark.parametrize(
  "argv, words",
  [
    (["runs", "--out=x", "--smoek"], "--smoek"),
    (["runs"], "--out"),
    (["--out=x"], "RUNS"),
    (
      ["a b", "--out=x"],
      "84 of 84 runs are missing (ring: minimax, seed 0; ring: non-saturating, "
      "seed 0; ring: non-saturating + mode seeking, seed 0; 81 more); this "
      "trains them: ganjax sweep toy_modes --jobs 2 --out 'a b'",
    ),
    (["a", "--out=x", "--smoke"], "toy_modes:smoke --jobs 2 --out a"),
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
  assert toy_modes.columns(runs) == [*by_hand, "2 equilibrium, 1 none"]
  bad = dict(dataset="ring", setting="a", seed=1, state="diverged", note="")
  assert toy_modes.columns([runs[0], bad, runs[2]]) == [
    "8.0 (8, –, 8)",
    "0.850 ± 0.071",
    "0.350 ± 0.354",
    "2 equilibrium, 1 diverged",
  ]
  assert toy_modes.columns(runs[1:2])[:2] == ["6.0 (6)", "0.700"]


def test_table_takes_each_datasets_own_runs():
  runs = [run(0, 8.0, 0.5, 0.0), run(0, 3.0, 0.25, 1.0, setting="b")]
  runs.append(run(0, 1.0, 1.0, 2.0, kind="grid"))
  document = dict(
    runs=runs, real=dict(ring=DATA), settings=[dict(title="a"), dict(title="b")]
  )
  lines = toy_modes.table_lines(document, "ring")
  assert lines[0].startswith("| setting | ring: modes of 8")
  assert lines[2:] == [
    "| a | 8.0 (8) | 0.500 | 0.000 | 1 none |",
    "| b | 3.0 (3) | 0.250 | 1.000 | 1 none |",
    "| *held-out data* | 8 | 0.990 | 0.001 | |",
  ]
  assert {line.count("|") for line in lines} == {6}
