"""Tables of runs: lost, stopped, diverged and finished cells; all tables."""

import logging.config
import os
import pathlib
import signal

import pytest

from ganjax import errors
from ganjax.runs import configs
from ganjax.tools.sweep import __main__ as sweep
from ganjax.tools.sweep import cell, clusters, driver, executors, page, tables

# A tiny run. In the process of a cell, not in that of the driver, it does what
# the files beside it ask for once: to die of SIGKILL after step 4, with that
# step's checkpoint whole, or to have the driver stopped at step 2.
EXPERIMENT = """
import os, pathlib, signal, time
from ganjax.runs import checkpoint, configs, report

HERE = pathlib.Path(__file__).parent

def asked(name):
  try:
    (HERE / name).unlink()
  except FileNotFoundError:
    return False
  return True

def get_config(arg=""):
  config = configs.load("toy_ring:smoke")
  config.update(num_steps=6, checkpoint=dict(every=2), samples=dict(every=0))
  driver = int((HERE / "driver").read_text())
  if driver != os.getpid():
    report.figures = lambda *_: {}
    save = checkpoint.Checkpoints.save

    def save_and_more(self, step, *rest):
      save(self, step, *rest)
      if step == 4 and asked("kill"):
        self.wait()
        os.kill(os.getpid(), signal.SIGKILL)
      if step == 2 and asked("stop"):
        before = signal.getsignal(signal.SIGTERM)
        os.kill(driver, signal.SIGTERM)
        while signal.getsignal(signal.SIGTERM) == before:
          time.sleep(0.02)

    checkpoint.Checkpoints.save = save_and_more
  return config
"""
TABLE = """
HUGE = {f"{p}.{k}": v for p in ("g_opt", "d_opt")
        for k, v in (("name", "sgd"), ("learning_rate", 1e30))}

def get_table(arg=""):
  rows = [
    dict(label="plain", experiment=EXPERIMENT, paper={"KL, paper": 0.5}),
    dict(label="too fast", experiment=EXPERIMENT, overrides=HUGE),
  ]
  return dict(
    title="A test", source="A paper", seeds=(0, 1), values=("mode_kl",),
    paper={"KL, paper": "table 7"}, rows={"": rows, "one": rows[:1]}[arg],
  )
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
  # Other processes have to find ganjax, too.
  root = str(pathlib.Path(__file__).resolve().parents[2])
  monkeypatch.setenv("PYTHONPATH", root)
  experiment = tmp_path / "tiny.py"
  experiment.write_text(EXPERIMENT)
  (tmp_path / "driver").write_text(str(os.getpid()))
  (tmp_path / "table.py").write_text(f"EXPERIMENT = {str(experiment)!r}{TABLE}")
  return tmp_path


def log_of(folder, row, seed):
  return (folder / "out" / row / f"seed_{seed}" / cell.LOG).read_text()


@pytest.mark.slow
def test_stopped_killed_diverged_and_finished(folder, monkeypatch, capsys):
  argv = [str(folder / "table.py"), f"--out={folder / 'out'}"]
  handler = signal.getsignal(signal.SIGTERM)
  (folder / "stop").touch()
  assert sweep.main(argv) == 143
  assert signal.getsignal(signal.SIGTERM) is handler
  assert "goes on from here" in capsys.readouterr().err
  assert "stopped after step 3" in log_of(folder, "plain", 0)
  assert not (folder / "out" / "plain" / "seed_1").exists()

  (folder / "kill").touch()
  assert sweep.main([*argv, "--jobs=2"]) == 0
  out, err = capsys.readouterr()
  assert "killed by SIGKILL; try 2 of 3 goes on from its checkpoint" in err
  assert err.count("too fast, seed") == err.count(": diverged") == 2
  logs = [log_of(folder, "plain", seed) for seed in (0, 1)]
  assert "resuming at step 3" in logs[0]
  assert "".join(logs).count("resuming at step 4") == 1
  assert "error: step 1" in log_of(folder, "too_fast", 1)
  text = (folder / "out" / "table.md").read_text()
  row = next(x for x in text.splitlines() if x.startswith("| plain | 2 |"))
  assert row.split(" | ")[2] == "2 finished" and " ± " in row
  assert row.endswith(" | 0.5 |")
  assert "| too fast | 2 | 2 diverged | – | – |" in text
  assert "- KL, paper: table 7." in text and "A test" in out

  # What is over is not run again, and says the same.
  monkeypatch.setattr(executors.Local, "start", None)
  assert sweep.main([*argv, "--jobs=2"]) == 0
  assert (folder / "out" / "table.md").read_text() == text
  assert "2 diverged" in capsys.readouterr().out


def on_cluster(folder, options, capsys):
  """Runs the plain row; a worker is killed once, and the cell goes on."""
  (folder / "kill").touch()
  argv = [f"{folder / 'table.py'}:one", f"--out={folder / 'out'}"]
  assert sweep.main([*argv, *options]) == 0
  assert "try 2 of 3" in capsys.readouterr().err
  logs = [log_of(folder, "plain", seed) for seed in (0, 1)]
  assert "".join(logs).count("resuming at step 4") == 1
  text = (folder / "out" / "table.md").read_text()
  assert "| plain | 2 | 2 finished | " in text


def stopped_on_cluster(folder, options):
  """A signal to the driver stops the cells there, saved."""
  (folder / "stop").touch()
  argv = [f"{folder / 'table.py'}:one", f"--out={folder / 'stopped'}"]
  assert sweep.main([*argv, *options]) == 143
  logs = [p.read_text() for p in (folder / "stopped").glob("plain/*/log.txt")]
  assert "stopped after step 3" in "".join(logs)


@pytest.mark.cluster
def test_ray(folder, capsys):
  import ray

  ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
  try:
    on_cluster(folder, ["--executor=ray"], capsys)
    assert ray.is_initialized()  # It was not the sweep's.
    stopped_on_cluster(folder, ["--executor=ray"])
    with pytest.raises(errors.UserError, match="--option: .*num_gpu"):
      clusters.Ray(dict(num_gpu=1))
  finally:
    ray.shutdown()


@pytest.mark.cluster
def test_submitit(folder, capsys, monkeypatch):
  # At its import it closes what logs so far, and with it pytest's stderr.
  monkeypatch.setattr(logging.config, "dictConfig", lambda config: None)
  options = ["--executor=slurm", "--option=cluster=local"]
  on_cluster(folder, options, capsys)
  with pytest.raises(errors.UserError, match="--option: .*partitoin"):
    clusters.Slurm(dict(cluster="local", slurm_partitoin="x"), folder)


class Task:
  """Ends at the second look with what it was told."""

  def __init__(self, ending):
    self.ending, self.looks, self.calls = ending, 0, []

  def ended(self):
    self.looks += 1
    return self.looks > 1 and (self.ending is not None or bool(self.calls))

  def result(self):
    return self.ending

  def stop(self):
    self.calls.append("stop")

  def kill(self):
    self.calls.append("kill")


class Executor:
  """Starts tasks with the endings given, so many at a time."""

  def __init__(self, endings, room=1):
    self.endings, self.room, self.started, self.tasks = endings, room, [], []

  def has_room(self):
    ready = [t for t in self.tasks if t.looks < 2]
    return len(ready) < self.room

  def start(self, cell):
    self.started.append(cell)
    self.tasks.append(Task(self.endings.pop(0)))
    return self.tasks[-1]


@pytest.fixture
def cells(tmp_path, monkeypatch):
  monkeypatch.setattr(driver, "PAUSE", 0.001)
  found = [cell.Cell("a b", seed, (), tmp_path) for seed in (0, 1)]
  found[1].workdir.mkdir()
  found[1].log.write_text("step 1\nerror: no such net\n\n")
  return found


def test_a_lost_cell_is_tried_so_often_and_no_more(cells, capsys):
  lost = ("", "killed by SIGKILL")
  one = Executor([lost, (cell.FINISHED, ""), lost])
  with driver.Progress(3, 1) as line:
    failed = driver.run(cells, one, 2, line)
  assert one.started == [cells[0], cells[1], cells[0]]  # After the others.
  assert line.done == 3 and list(failed) == [cells[0]]
  text = capsys.readouterr().err
  assert text.count("a b, seed 0") == 2 and "try 2 of 2" in text


@pytest.mark.parametrize("state", [cell.FAILED, cell.DIVERGED])
def test_what_would_go_wrong_again_is_not_tried_again(cells, state, capsys):
  one = Executor([(state, "")])
  with driver.Progress(1, 0) as line:
    failed = driver.run(cells[1:], one, 3, line)
  assert len(one.started) == 1
  expected = {cells[1]: "error: no such net"} if state == cell.FAILED else {}
  assert failed == expected
  assert f"a b, seed 1: {state}" in capsys.readouterr().err


def test_a_signal_stops_all_that_runs_and_a_second_one_kills(
  cells, monkeypatch
):
  one = Executor([None, None], room=2)
  sleeps = []

  def sleep(seconds):
    sleeps.append(seconds)
    raise KeyboardInterrupt

  monkeypatch.setattr(driver.time, "sleep", sleep)
  with driver.Progress(2, 0) as line, pytest.raises(KeyboardInterrupt):
    driver.run(cells, one, 1, line)
  assert [task.calls for task in one.tasks] == [["stop"]] * 2
  monkeypatch.setattr(Task, "ended", lambda self: False)
  one = Executor([None, None], room=2)
  with driver.Progress(2, 0) as line, pytest.raises(KeyboardInterrupt):
    driver.run(cells, one, 1, line)
  assert [task.calls for task in one.tasks] == [["stop", "kill"]] * 2


def test_an_outcome_belongs_to_its_config(cells):
  text = '{"state": "finished", "note": "", "config": {"seed": 1}}'
  (cells[1].workdir / cell.OUTCOME).write_text(text)
  assert cells[1].outcome() == cells[1].outcome({"seed": 1}) == ("finished", "")
  assert cells[1].outcome({"seed": 2}) == cells[0].outcome() == ("", "")


def test_each_of_several_local_cells_has_its_gpu_or_cores(cells, monkeypatch):
  given = []

  def process(cell, environment, cores):
    given.append((environment, cores))
    return Task(None)

  monkeypatch.setattr(executors, "Process", process)
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 6, 7})
  for local in executors.Local(1, ["3", "0"]), executors.Local(2, ()):
    while local.has_room():
      local.start(cells[0])
  gpus = [({"CUDA_VISIBLE_DEVICES": i}, []) for i in "30"]
  assert given == [*gpus, ({}, [5, 7]), ({}, [6])]
  executors.Local(1, ()).start(cells[0])
  assert given[-1] == ({}, [])  # A run alone takes what is there.


SMALL = ["rgan_unstable:small", "stacked_mnist:small", "toy_modes:smoke"]


@pytest.mark.parametrize("name", [*tables.names(), *SMALL])
def test_every_row_of_every_table_resolves(name, tmp_path):
  table = tables.load(name)
  found = tables.check(tables.cells(table, tmp_path))
  assert len(found) == len(table["rows"]) * len(table["seeds"])
  assert len({cell.workdir for cell in found}) == len(found)
  seeds = {config["seed"] for config in found.values()}
  assert seeds == set(table["seeds"])
  for config in found.values():  # It will have what the table shows.
    assert set(table["values"]) <= {
      value
      for metric in config["evals"]
      for value in configs.metrics.values_of(metric)
    }
  headed = page.Page(table, list(found), found, {})
  assert {len(row) for row in headed.rows} == {len(headed.head)}
  assert "not run" in headed.markdown("")


def test_the_small_form_has_every_loss_in_every_condition():
  small, full = (tables.load(f"rgan_unstable{a}") for a in (":small", ""))
  labels = [row["label"] for row in small["rows"]]
  assert labels == [row["label"] for row in full["rows"]]
  assert len(labels) == 8 * 4 and len(small["seeds"]) == 3


@pytest.mark.parametrize(
  "argv, words",
  [
    (["rgan_stabel"], "rgan_stable"),
    (["rgan_unstable:tiny"], "'tiny'"),
    (["TABLE", "--executor=rya"], "unknown executor 'rya'; did you mean 'ray'"),
    (["TABLE", "--option=gpus=1"], "--option"),
    (["TABLE", "--jobs=0"], "--jobs 0"),
    (["TABLE", "--tries=0"], "--tries 0"),
    (["TABLE", "--job=2"], "--job=2"),
    (["TABLE", "--executor=ray", "--option=gpus"], "KEY=VALUE"),
    ([], "FILE"),
    (["TABLE", "--executor=slurm"], "submitit: pip install -e '.[slurm]'"),
    (["TABLE", "--executor=ray"], "Ray: pip install -e '.[ray]'"),
  ],
)
def test_mistakes_are_one_line(argv, words, folder, capsys, monkeypatch):
  for module in "ray", "submitit":  # As if they were not there.
    monkeypatch.setitem(__import__("sys").modules, module, None)
  argv = [str(folder / "table.py") if a == "TABLE" else a for a in argv]
  monkeypatch.chdir(folder)
  try:
    code = sweep.main(argv)
  except SystemExit as stop:
    code = stop.code
  error = capsys.readouterr().err
  assert code == 2 and error.count("\n") == 1 and error.startswith("error: ")
  assert words in error
  assert not (folder / "runs").exists()


def wrong(**changes):
  row = dict(label="x", experiment="toy_ring:smoke")
  table = dict(title="t", source="s", seeds=(0,), values=(), rows=[row])
  return table | changes, row


@pytest.mark.parametrize(
  "changes, words",
  [
    (dict(sedes=1), "'seeds'"),
    (dict(rows=[dict(label="x")]), "'experiment' is missing"),
    (dict(seeds=()), "must have rows, seeds"),
    (dict(rows=[wrong()[1], wrong()[1]]), "twice: x"),
    (dict(rows=[wrong()[1], wrong()[1] | dict(label="y")]), "the same run"),
    (dict(rows=[wrong()[1] | dict(paper={"FID": 1})]), "column of .*FID"),
    (dict(rows=[wrong()[1] | dict(overrides={"los.name": "x"})]), "row 'x'.*l"),
  ],
)
def test_a_wrong_table_says_what_is_wrong(tmp_path, changes, words):
  path = tmp_path / "wrong.py"
  path.write_text(f"def get_table(arg): return {wrong(**changes)[0]!r}")
  with pytest.raises(errors.UserError, match=words):
    tables.check(tables.cells(tables.load(str(path)), tmp_path))


def test_options_keep_their_types():
  texts = ["num_gpus=0.5", "slurm_partition=gpu", "resources={'a': 1}"]
  assert dict(map(sweep._option, texts)) == dict(
    num_gpus=0.5, slurm_partition="gpu", resources={"a": 1}
  )
