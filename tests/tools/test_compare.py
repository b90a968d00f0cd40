"""Comparing runs: settings, means and marks of made-up runs, by hand."""

import csv
import json
import math

import numpy as np
import pytest
from verbs import Verb

from ganjax import errors, files
from ganjax.runs import configs
from ganjax.tools.compare import curves, groups, runs, tables

command = Verb("compare")


PROTOCOL = dict(num_real=10, num_fake=10, extractor="none", against="train")
DRAWN = dict(truncation=0.0, weights="ema", statistics="running", labels="none")
STEPS = 4
BATCH = 8  # of the smoke form


def record(values, step, **protocol):
  drawn = {} if step is None else dict(DRAWN, step=step)
  facts = {**PROTOCOL, **drawn, **protocol}
  return dict(values=values, protocol=facts, flags=[])


def write_run(
  workdir,
  seed,
  last=None,
  rows=None,
  best=None,
  evaluation=None,
  protocol=None,
  **changes,
):
  """Writes the files of a run: `last` and `best` are Fréchet distances."""
  config = configs.load("toy_ring:smoke")
  config.update(dict(seed=seed, num_steps=STEPS) | changes)
  config = configs.resolve(config).to_dict()
  dataset = dict(image_shape=[2], num_classes=0, num_examples=10000)
  files.write_json(
    workdir / "config.json", dict(config=config, dataset=dataset)
  )
  environment = dict(
    versions=dict(python="3.11.7", jax="0.7.2"),
    device_kind="cpu",
    git_commit="abc",
    command="/home/me/python main.py",
    platform="my-machine",
  )
  files.write_json(workdir / "environment.json", environment)
  if rows is None:
    rows = [dict(step=s, d_loss=1.0, diagnosis="") for s in (2, STEPS)]
  lines = [json.dumps(files.to_json(row)) for row in rows]
  (workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")
  if last is not None:
    who = dict(last=("frechet", last, STEPS))
    if best is not None:
      who["best"] = ("frechet", best, 2)
    evaluation = {
      name: {m: record({m: v}, step, **(protocol or {}))}
      for name, (m, v, step) in who.items()
    }
    evaluation["held-out real"] = {
      "frechet": record({"frechet": 0.5}, None, **(protocol or {}))
    }
  if evaluation is not None:
    files.write_json(workdir / "evaluation.json", evaluation)
  return workdir


def compare(*paths):
  return groups.compare(*runs.read(list(paths)))


@pytest.fixture
def two_settings(tmp_path):
  """Three seeds of two losses, hinge clearly better; one writes otherwise."""
  for seed in range(3):
    write_run(tmp_path / f"a_{seed}", seed, 5.0 + seed, best=1.0 + seed)
    loss = dict(name="hinge")
    some = dict(log_every=seed + 1, samples=dict(every=7 + seed, num=2))
    write_run(tmp_path / f"b_{seed}", seed, 2.0 + seed / 10, loss=loss, **some)
  return tmp_path


def test_mean_spread_and_mark_by_hand(two_settings):
  comparison = compare(two_settings)
  (ranking,) = comparison.rankings
  assert [g.name for g in ranking.groups] == [
    "loss=hinge",
    "loss=non_saturating",
  ]
  stats = ranking.stats
  worse = stats["loss=non_saturating", "frechet", "last"]
  assert (worse.mean, worse.spread) == (6.0, 1.0)  # 5, 6, 7; n - 1.
  assert not worse.marked
  hinge = stats["loss=hinge", "frechet", "last"]
  assert math.isclose(hinge.mean, 2.1) and math.isclose(hinge.spread, 0.1)
  # t = 3.9 / sqrt(1.01 / 3) = 6.72 with 2.04 degrees of freedom: p = .02.
  assert hinge.marked
  # Best states: 1, 2, 3 against 2.0, 2.1, 2.2, about the same mean.
  assert stats["loss=non_saturating", "frechet", "best"].mean == 2.0
  assert not any(s.marked for k, s in stats.items() if k[2] == "best")
  assert ranking.real == {"frechet": 0.5}


def test_what_is_harmless_is_no_setting_and_a_longer_run_is_one(tmp_path):
  write_run(tmp_path / "a", 0, log_every=1, on_nan="rollback", stop_when="")
  write_run(tmp_path / "b", 1, log_every=2, stop_when="diverged")
  (group,) = compare(tmp_path).groups
  assert [run.seed for run in group.runs] == [0, 1]
  write_run(tmp_path / "c", 2, num_steps=9)
  found = {g.name: len(g.runs) for g in compare(tmp_path).groups}
  assert found == {"num_steps=4": 2, "num_steps=9": 1}


def test_names_are_the_fewest_keys():
  of = groups.names_of
  assert of([{"a": "1", "b": "1"}, {"a": "1", "b": "2"}]) == ["b=1", "b=2"]
  # Either of two that go together: the name is what people look for.
  both = [{"lr": "1", "loss.name": "x"}, {"lr": "2", "loss.name": "y"}]
  assert of(both) == ["loss=x", "loss=y"]
  grid = [{"a": a, "b": b} for a in "12" for b in "12"]
  assert of(grid) == ["a=1, b=1", "a=1, b=2", "a=2, b=1", "a=2, b=2"]
  assert of([{"x": "1"}, {"x": "1", "y": "2"}]) == ["no y", "y=2"]
  assert of([{"x": "1"}]) == [""]
  # Each key halves: four are needed, more than are tried together.
  many = [{k: f"{i:04b}"[int(k)] for k in "0123"} for i in range(16)]
  assert len(set(of(many))) == 16
  long = [{"x": "a" * 90 + c} for c in "12"]
  assert all(len(name) < 50 for name in of(long))


def test_settings_of_one_name_stay_apart(tmp_path):
  for i, end in enumerate("12"):  # Their names are cut before they differ.
    write_run(tmp_path / end, 0, 1.0 + i, start_from="x" * 60 + end)
  (ranking,) = compare(tmp_path).rankings
  assert len({group.name for group in ranking.groups}) == 2
  assert [stat.mean for stat in ranking.stats.values()] == [1, 1, 2, 2]


def test_one_setting_has_the_name_of_its_folders(tmp_path):
  for seed in range(2):
    write_run(tmp_path / f"digits_vae_{seed}", seed)
  assert compare(tmp_path).groups[0].name == "digits_vae"
  assert compare(tmp_path / "digits_vae_1").groups[0].name == "digits_vae_1"
  assert groups.common_start(["a", "b"]) == "a"


def test_one_seed_has_no_spread(tmp_path):
  for name in ("hinge", "wasserstein"):
    write_run(tmp_path / name, 0, 1.0 + len(name), loss=dict(name=name))
  comparison = compare(tmp_path)
  (ranking,) = comparison.rankings
  cells = [tables.score(ranking, g, "frechet") for g in ranking.groups]
  assert cells == [
    "6 (1 seed)\nbest 6 (1 seed)",
    "12 (1 seed)\nbest 12 (1 seed)",
  ]
  assert tables.MARK not in tables.markdown(comparison).partition("##")[2]


def stat(*numbers, runs=None):
  return groups.Stat(numbers, runs or len(numbers))


def test_a_mark_is_more_than_seeds_explain():
  low, high, wide = stat(1.0, 1.1, 1.2), stat(2.0, 2.1, 2.2), stat(0.0, 3.0, 6)
  assert groups.mark(dict(a=low, b=high), "lower") == "a"
  assert groups.mark(dict(a=low, b=high), "higher") == "b"
  assert groups.mark(dict(a=low, b=wide), "lower") is None
  assert groups.mark(dict(a=low, b=high, c=wide), "lower") is None
  assert groups.mark(dict(a=low), "lower") is None
  assert groups.mark(dict(a=low, b=stat(9.0)), "lower") is None
  same = dict(a=stat(1.0, 1.0), b=stat(2.0, 2.0))
  assert groups.mark(same, "lower") is None
  # Of the best a seed is missing; of the other one it does not matter.
  lucky = stat(1.0, 1.1, 1.2, runs=4)
  assert groups.mark(dict(a=lucky, b=high), "lower") is None
  assert groups.mark(dict(a=lucky, b=high), "higher") == "b"


def test_other_protocols_are_not_ranked(tmp_path):
  for seed in range(3):
    write_run(tmp_path / f"a{seed}", seed, 1.0 + seed / 10)
    write_run(
      tmp_path / f"b{seed}",
      seed,
      9.0 + seed / 10,
      protocol=dict(num_fake=99),
      loss=dict(name="hinge"),
    )
  comparison = compare(tmp_path)
  first, second = comparison.rankings
  assert not first.reason
  assert second.reason == (
    "frechet cannot be compared, its protocols differ: num_fake 10 and 99"
  )
  assert not any(s.marked for r in (first, second) for s in r.stats.values())
  text = tables.markdown(comparison)
  assert "num\\_fake 10," in text and "num\\_fake 99," in text


def test_seeds_of_other_protocols_have_no_common_mean(tmp_path):
  write_run(tmp_path / "a", 0, 1.0)
  write_run(tmp_path / "b", 1, 2.0, protocol=dict(num_fake=99))
  comparison = compare(tmp_path)
  assert len(comparison.groups) == len(comparison.rankings) == 2
  assert "not all its seeds have one mean" in comparison.notes[0]
  means = [s.mean for r in comparison.rankings for s in r.stats.values()]
  assert means == [1.0, 1.0, 2.0, 2.0]


def test_without_a_common_metric_nothing_is_ranked(tmp_path):
  write_run(tmp_path / "a", 0, 1.0)
  scores = {"last": {"psnr": {}}}
  scores["last"] = {"reconstruction": record({"psnr": 20.0}, STEPS)}
  write_run(tmp_path / "b", 0, evaluation=scores, loss=dict(name="hinge"))
  write_run(tmp_path / "c", 0, loss=dict(name="wasserstein"))
  reasons = [ranking.reason for ranking in compare(tmp_path).rankings]
  assert reasons == ["", "they have no metric in common", "they have no scores"]


def test_a_seed_counts_once(tmp_path):
  write_run(tmp_path / "short", 0, rows=[dict(step=2, d_loss=1.0)])
  write_run(tmp_path / "whole", 0, 3.0)
  write_run(tmp_path / "other", 1, 5.0)
  comparison = compare(tmp_path)
  assert [run.name for run in comparison.runs] == ["whole", "other"]
  assert comparison.notes == (
    "left out: short has the config and seed 0 of whole",
  )


STATES = {
  "finished": ("", STEPS, "finished", "finished"),
  "equilibrium": ("equilibrium", STEPS, "finished", "finished, equilibrium"),
  "stopped": (
    "generator collapsed",
    2,
    "stopped",
    "stopped at step 2 of 4: generator collapsed",
  ),
  "running": ("", 2, "unfinished", "unfinished: step 2 of 4"),
  "saturated": (
    "discriminator saturated",
    2,
    "unfinished",
    "unfinished: step 2 of 4",
  ),
  "nan": ("not finite", 2, "diverged", "not finite at step 2 of 4"),
  "large": ("diverged", STEPS, "diverged", "diverged at step 4 of 4"),
}


@pytest.mark.parametrize("name", STATES)
def test_states(tmp_path, name):
  diagnosis, step, state, remark = STATES[name]
  rows = [dict(step=1, diagnosis=""), dict(step=step, diagnosis=diagnosis)]
  write_run(tmp_path, 0, rows=rows, stop_when="generator collapsed")
  (run,), _ = runs.read([tmp_path])
  assert (run.state, run.remark) == (state, remark)


def test_an_earlier_state_is_no_result(tmp_path):
  rows = [dict(step=6, d_loss=1.0, diagnosis="")]
  write_run(tmp_path / "a", 0, 1.0, rows=rows, num_steps=8)
  write_run(tmp_path / "b", 1, math.nan)
  for name in "ab":
    (run,), _ = runs.read([tmp_path / name])
    assert run.scores() == {}
  (ranking,) = groups.compare(*runs.read([tmp_path / "a"])).rankings
  assert not ranking.values and not ranking.stats


def test_the_best_is_of_rows_of_the_same_protocol(tmp_path):
  rows = [dict(step=s, frechet=f) for s, f in ((1, 3.0), (2, 0.25), (3, 2.0))]
  rows += [dict(step=STEPS, frechet=1.0)]
  write_run(tmp_path / "same", 0, 1.0, rows=rows)
  # Scored again with other samples: its rows are of another protocol.
  write_run(tmp_path / "again", 1, 1.5, rows=rows)
  write_run(tmp_path / "kept", 2, 1.5, best=0.75, rows=rows)
  found = {
    run.name: run.scores()["frechet"] for run in runs.read([tmp_path])[0]
  }
  assert found["same"] == runs.Score("frechet", 1.0, 0.25, 2)
  assert found["again"] == runs.Score("frechet", 1.5, 1.5, STEPS)
  assert found["kept"] == runs.Score("frechet", 1.5, 0.75, 2)


def test_budget_by_hand(tmp_path):
  # Two real batches of 8 a step (a relativistic G draws its own).
  rows = [dict(step=s, images_per_sec=v) for s, v in ((1, 32.0), (3, 8.0))]
  loss = dict(relativism="pairing")
  write_run(tmp_path, 0, rows=[*rows, dict(step=4, kl=1.0)], loss=loss)
  (run,), _ = runs.read([tmp_path])
  assert (run.steps, run.images) == (4, 4 * 2 * BATCH)
  assert run.seconds == 16 / 32 + 32 / 8
  sheet = tables.sheets(groups.compare([run]))[0]
  assert sheet.rows[0][1:5] == ["1", "4", "64", "0.075"]
  write_run(tmp_path / "x", 0)
  assert runs.read([tmp_path / "x"])[0][0].seconds is None


def test_over_seeds_by_hand():
  one = np.array([0.0, 2, 4]), np.array([0.0, 2, 4])
  two = np.array([0.0, 1, 2]), np.array([2.0, 2, 2])
  curve = curves.over_seeds(0, [one, two], 80)
  assert curve.steps.tolist() == [0, 1, 2, 4]
  assert curve.mean.tolist() == [1, 1.5, 2, 4]  # One is 1 at step 1.
  half = math.sqrt(0.5)
  np.testing.assert_allclose(curve.spread, [2 * half, half, 0, math.nan])
  # Two neighbours make a point, of each run first.
  curve = curves.over_seeds(0, [one, two], 2)
  assert curve.steps.tolist() == [0.5, 3]
  assert curve.mean.tolist() == [1.25, 2.5]
  np.testing.assert_allclose(curve.spread, [1.5 * half, half])
  assert curves.over_seeds(0, [], 80) is None


def test_csv_has_a_line_for_each_run_and_value(two_settings):
  out = two_settings / "out"
  assert command.main([str(two_settings), "--out", str(out)]) == 0
  rows = list(csv.DictReader((out / "compare.csv").open()))
  assert len(rows) == 6
  row = next(row for row in rows if row["run"] == "a_1")
  assert row["setting"] == "loss=non_saturating" and row["better"] == "lower"
  assert [row[k] for k in ("last", "best", "best_step")] == ["6.0", "2.0", "2"]
  text = (out / "compare.md").read_text()
  assert "| loss=hinge | 2.1 ± 0.1 ★<br>best 2.1 ± 0.1 |" in text
  assert "| loss.name | hinge | non\\_saturating |" in text


def test_the_terminal_shows_whole_cells(two_settings, capsys):
  assert command.main([str(two_settings)]) == 0
  text = capsys.readouterr().out
  assert "2.1 ± 0.1 ★" in text and "6 ± 1" in text
  assert "6 runs, 2 settings" in text and "num_fake 10" in text
  assert max(len(line) for line in text.splitlines()[:8]) <= 80


def fails(capsys, *paths):
  assert command.main([str(path) for path in paths]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  return line


def test_errors_are_one_line(tmp_path, capsys):
  gone = tmp_path / "gone"
  assert fails(capsys, gone) == f"error: {gone}: there is no such folder"
  assert "holds no run" in fails(capsys, tmp_path)
  good, bad = tmp_path / "good", tmp_path / "bad"
  write_run(good, 0)
  bad.mkdir()
  (bad / "config.json").write_text("{")
  assert "config.json is damaged" in fails(capsys, good, bad)
  # One that was only found is left out.
  assert command.main([str(tmp_path)]) == 0
  assert f"left out: {bad}/config.json is damaged" in capsys.readouterr().out
  with pytest.raises(SystemExit) as stopped:
    command.main([])
  assert stopped.value.code == 2


def test_torn_files_are_read_as_far_as_they_go(tmp_path):
  write_run(tmp_path, 0, 1.0)
  path = tmp_path / "metrics.jsonl"
  path.write_text(path.read_text() + '{"step": 9, "d_lo')
  (run,), notes = runs.read([tmp_path])
  assert [row["step"] for row in run.rows] == [2, STEPS] and not notes
  (tmp_path / "evaluation.json").write_text('{"last": ')
  (tmp_path / "environment.json").write_text("[]")
  (run,), notes = runs.read([tmp_path])
  assert run.records == {} and run.environment == {}
  assert "its evaluation.json is damaged" in notes[0]


def test_names_of_runs_tell_them_apart(tmp_path):
  for place in ("a/run", "b/run"):
    write_run(tmp_path / place, 0)
  found, _ = runs.read([tmp_path, tmp_path / "a" / "run"])  # Once each.
  assert [run.name for run in found] == ["a/run", "b/run"]


def test_nothing_of_a_checkpoint_is_read(tmp_path, monkeypatch):
  monkeypatch.setattr("ganjax.runs.checkpoint.Checkpoints", None)
  monkeypatch.setattr("jax.jit", None)
  write_run(tmp_path, 0, 1.0)
  assert compare(tmp_path).runs[0].scores()["frechet"].last == 1.0


def test_unknown_metrics_of_another_version_are_left_out(tmp_path):
  scores = dict(last=dict(newer=record(dict(x=1.0), STEPS)))
  write_run(tmp_path, 0, evaluation=scores)
  (run,), notes = runs.read([tmp_path])
  assert run.scores() == {} and not notes
  with pytest.raises(errors.UserError, match="no such folder"):
    runs.read([tmp_path / "gone"])
