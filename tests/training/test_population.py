"""Members of a population are the runs that they would be by themselves."""

import json
import shutil
import threading

import jax
import numpy as np
import pytest

import ganjax
from ganjax import errors, main
from ganjax.runs import configs
from ganjax.training import lockstep, population, train

ONE = jax.devices()[:1]


def single(found, folder):
  return train.train(found, folder, ONE, report=False)


def together(found, folder, devices=ONE):
  return population.train(found, folder, devices, report=False)


def config(seeds=0, mapping="auto", sweep=(), **changes):
  found = configs.load("digits_mlp:smoke")
  sgd = dict(name="sgd", learning_rate=0.1)
  found.update(num_steps=6, log_every=2, samples=dict(every=3, num=4))
  found.checkpoint = dict(every=2, keep=9)
  found.evals, found.g_opt, found.d_opt = {}, sgd, dict(sgd)
  found.update(changes)
  found.population = dict(seeds=seeds, mapping=mapping, sweep=sweep)
  return found


def assert_same(one, other, atol=0.0):
  assert one.step == other.step
  for x, y in zip(
    jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True
  ):
    np.testing.assert_allclose(x, y, rtol=0, atol=atol)


def rows(run):
  return [
    {k: v for k, v in row.items() if k not in ("images_per_sec", "diagnosis")}
    for row in run.history()
  ]


@pytest.fixture(scope="module")
def singles(tmp_path_factory):
  folder = tmp_path_factory.mktemp("singles")
  return [single(config(seed=seed), folder / str(seed)) for seed in (0, 1, 2)]


@pytest.mark.parametrize("mapping", ["vmap", "loop"])
def test_members_are_their_single_runs(singles, tmp_path, mapping):
  found = together(config(3, mapping), tmp_path)
  assert list(found) == ["seed_0", "seed_1", "seed_2"]
  for one, member in zip(singles, found.values(), strict=True):
    assert_same(one, member, atol=1e-5 if mapping == "vmap" else 0.0)
    assert_same(ganjax.load(member.workdir), member)
    assert [*map(str, rows(one)[0])] == [*map(str, rows(member)[0])]
    for a, b in zip(rows(one), rows(member), strict=True):
      np.testing.assert_allclose([*a.values()], [*b.values()], atol=1e-4)
    names = [p.name for p in sorted((member.workdir / "samples").glob("*.npy"))]
    assert names == [f"{step:08d}.npy" for step in (0, 3, 6)]
    assert member.config == one.config
  states = [member.state.generator.params for member in found.values()]
  different = [
    np.any(x != y)
    for x, y in zip(*map(jax.tree.leaves, states[:2]), strict=True)
  ]
  assert any(different)


@pytest.mark.slow
def test_devices_share_a_populations_batches(singles, tmp_path):
  found = together(config(3, "vmap"), tmp_path, jax.devices()[:2])
  for one, member in zip(singles, found.values(), strict=True):
    assert_same(one, member, atol=1e-5)


@pytest.mark.slow
def test_members_stream(singles, tmp_path):
  streamed = config(3, "vmap", stream=dict(mode="always", workers=0))
  for one, member in zip(
    singles, together(streamed, tmp_path).values(), strict=True
  ):
    assert_same(one, member, atol=1e-5)


def test_members_use_all_cores(tmp_path, monkeypatch):
  """With two cores two steps are under way at the same time."""
  both = threading.Barrier(2, timeout=60)
  alone = lockstep.PopulationStepper._step_one

  def meet(self, name, step):
    both.wait()
    return alone(self, name, step)

  monkeypatch.setattr(lockstep, "_cores", lambda: 2)
  monkeypatch.setattr(lockstep.PopulationStepper, "_step_one", meet)
  found = together(config(2, "loop", num_steps=2), tmp_path)
  assert [run.step for run in found.values()] == [2, 2]


@pytest.mark.parametrize(
  "mapping", [pytest.param("vmap", marks=pytest.mark.slow), "loop"]
)
def test_a_member_that_is_behind_catches_up(tmp_path, mapping):
  whole = together(config(2, mapping), tmp_path / "whole")
  together(config(2, mapping, num_steps=4), tmp_path / "a")
  # As if a kill had come before its last save.
  shutil.rmtree(tmp_path / "a" / "seed_1" / "checkpoints" / "4")
  found = together(config(2, mapping), tmp_path / "a")
  for name, member in found.items():
    assert_same(member, whole[name], atol=1e-5)
    assert [row["step"] for row in rows(member)] == [2, 4, 6]


def test_a_member_goes_on_by_itself(tmp_path):
  whole = together(config(2, "loop"), tmp_path / "whole")
  together(config(2, "loop", num_steps=4), tmp_path / "a")
  alone = single(config(seed=1), tmp_path / "a" / "seed_1")
  assert_same(alone, whole["seed_1"])


@pytest.mark.parametrize(
  "mapping", ["vmap", pytest.param("loop", marks=pytest.mark.slow)]
)
def test_a_number_of_each_member(tmp_path, mapping):
  """A rate of an optimizer, a beta and a penalty's weight, by themselves."""
  adam = dict(name="adam", learning_rate=0.01)
  changes = dict(penalties=dict(r1=dict(gamma=1.0)), g_opt=adam)
  sweep = ("d_opt.learning_rate=0.1,0.5", "penalties.r1.gamma=0,2")
  if mapping == "vmap":
    sweep += ("g_opt.b1=0,.5",)
  found = together(
    config(1, mapping, sweep, num_steps=3, **changes), tmp_path / "all"
  )
  assert len(found) == 2 ** len(sweep)
  name = "d_opt.learning_rate=0.5_penalties.r1.gamma=2"
  last = f"{name}_g_opt.b1=0.5_seed_0" if len(sweep) > 2 else f"{name}_seed_0"
  own = config(num_steps=3, **changes)
  own.d_opt.learning_rate = 0.5
  own.penalties.r1.gamma = 2.0
  if len(sweep) > 2:
    own.g_opt.b1 = 0.5
  alone = single(own, tmp_path / "alone")
  for role in ("generator", "discriminator"):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5),
      getattr(alone.state, role).params,
      getattr(found[last].state, role).params,
    )
  assert len({str(rows(member)[-1]["d_loss"]) for member in found.values()}) > 2


@pytest.mark.parametrize("mapping", ["vmap", "loop"])
def test_one_that_diverges_ends_alone(singles, tmp_path, mapping, capsys):
  sweep = ("d_opt.learning_rate=0.1,1e30",)
  found = together(config(1, mapping, sweep), tmp_path)
  assert list(found) == ["d_opt.learning_rate=0.1_seed_0"]
  member = found["d_opt.learning_rate=0.1_seed_0"]
  for role in ("generator", "discriminator"):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5),
      getattr(singles[0].state, role).params,
      getattr(member.state, role).params,
    )
  assert "d_opt.learning_rate=1e+30_seed_0: step" in capsys.readouterr().err


def test_a_signal_stops_all_where_they_are(tmp_path, monkeypatch, capsys):
  argv = ["main", "--config=digits_mlp:smoke", f"--workdir={tmp_path}"]
  argv += ["--config.population.seeds=2", "--config.num_steps=50"]
  monkeypatch.setattr(population.signals.Watch, "stop", lambda _: 15)
  assert main.main(argv) == 143
  monkeypatch.undo()
  assert "stopped after step 1" in capsys.readouterr().err
  for seed in (0, 1):
    assert ganjax.load(tmp_path / f"seed_{seed}").step == 1


@pytest.mark.parametrize(
  "spec, text",
  [
    (dict(mapping="map"), "did you mean 'vmap'"),
    (dict(sweep=("g_opt.rate=1,2",)), "config.g_opt.rate"),
    (dict(sweep=("g_opt.learning_rate=1,x",)), "KEY=NUMBER"),
    (dict(sweep=("g_opt.learning_rate",)), "KEY=NUMBER"),
    (dict(sweep=("batch_size=8,16",)), "config.batch_size"),
    (dict(sweep=("loss.name=1,2",)), "config.loss.name"),
  ],
)
def test_mistakes_are_named(tmp_path, spec, text):
  with pytest.raises(errors.UserError, match=text):
    together(config(**(dict(seeds=2) | spec)), tmp_path)


def test_a_population_is_no_run(tmp_path):
  with pytest.raises(
    errors.UserError, match="for ganjax.training.population.train"
  ):
    train.train(config(2), tmp_path)
  for seed in (0, 1):
    (tmp_path / f"seed_{seed}").mkdir()
    (tmp_path / f"seed_{seed}" / "config.json").write_text(json.dumps({}))
  with pytest.raises(errors.UserError, match="holds 2 runs; take one of them"):
    ganjax.load(tmp_path)
