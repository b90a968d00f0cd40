"""What a measurement says, and the page of many."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest
from verbs import Verb

from ganjax import main as train_main
from ganjax.nets import conv
from ganjax.runs import configs
from ganjax.tools.bench import command, loop, measure, page, trace
from ganjax.training import program, recorder

bench = Verb("bench")


def test_flops_of_the_dcgan_step():
  """Each layer of the 32-pixel nets once by hand, then who passes which."""
  batch = 64
  first = 2 * batch * 128 * (4 * 4 * 512)  # z -> 4x4
  ups = ((4, 512, 256), (8, 256, 128), (16, 128, 3))
  g = first + sum(2 * batch * s * s * 16 * m * n for s, m, n in ups)
  downs = ((16, 3, 64), (8, 64, 128), (4, 128, 256))
  d_layers = [2 * batch * s * s * 16 * m * n for s, m, n in downs]
  d = sum(d_layers) + 2 * batch * 4 * 4 * 256
  # G draws; D judges two batches, and each layer takes the gradients of its
  # weights and its inputs, but those of the images.
  d_step = g + 3 * 2 * d - 2 * d_layers[0]
  # D judges fakes, the gradient passes it, and then G, but not to z.
  g_step = g + 2 * d + (2 * g - first)
  config = configs.resolve(configs.load("cifar_dcgan"))
  arrays = measure.load_arrays(config)
  count = measure.count_flops(config, arrays)
  assert count == (d_step + g_step, 0)
  assert count.flops == 53_355_741_184


def test_flops_of_a_lazy_penalty_are_a_mean():
  def count(penalties):
    config = configs.load("digits_mlp:smoke")
    config.penalties = penalties
    config = configs.resolve(config)
    return measure.count_flops(config, measure.load_arrays(config)).flops

  never, always = count({}), count(dict(r1=dict(every=1)))
  assert always > never
  expected = (3 * never + always) / 4
  assert count(dict(r1=dict(every=4))) == round(expected)


@pytest.fixture(scope="module")
def small():
  """Small matrices for the dense rate."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(measure.PRODUCT_SIZE, "cpu", 256)
    yield


SPEC, FLAGS = "digits_mlp:smoke", ["--config.d_steps_per_g_step=2"]


@pytest.fixture(scope="module")
def printed(small, tmp_path_factory):
  """What the command says of a tiny experiment, and what is in its trace."""
  folder = tmp_path_factory.mktemp("bench")
  output = io.StringIO()
  with contextlib.chdir(folder), contextlib.redirect_stdout(output):
    argv = [f"--config={SPEC}", "--steps=4", "--profile=trace", *FLAGS]
    assert bench.main(argv) == 0
  # Nothing but the trace is left behind.
  assert [path.name for path in folder.iterdir()] == ["trace"]
  return output.getvalue(), trace.read(str(folder / "trace"), 3)


def test_the_record(printed):
  record = json.loads(printed[0].splitlines()[-1])
  assert record["config"] == SPEC and record["overrides"] == FLAGS
  assert (record["form"], record["precision"]) == ("fast", "float32")
  assert (record["batch_size"], record["d_steps"]) == (8, 2)
  assert (record["device"], record["devices"]) == ("cpu", 4)
  low, high = record["ms_quartiles"]
  assert 0 < record["ms_min"] <= low <= record["ms"] <= high
  assert record["steps"] == 4
  seconds = record["ms"] / 1e3
  # Two updates of D, of 8 real images each.
  assert record["images_per_sec"] == pytest.approx(16 / seconds)
  assert record["compile_s"] > seconds
  assert 1e8 < record["peak_bytes"] < 1e11
  config = configs.load(SPEC)
  config.d_steps_per_g_step = 2
  config = configs.resolve(config)
  count = measure.count_flops(config, configs.load_data(config, "train"))
  assert record["flops"] == count.flops and record["open_loops"] == 0
  rate = record["dense_gflops_per_s"]
  assert 0.01 < rate < 1e6
  share = count.flops / 1e9 / seconds / rate
  assert record["share"] == pytest.approx(share) and 0 < share < 1.5
  versions = record["versions"]
  assert versions["jax"] == jax.__version__ and all(versions.values())


def test_what_people_see(printed):
  text, ops = printed
  *lines, _ = text.splitlines()
  words = " ".join(" ".join(lines).split())
  for text in (SPEC, "the median of 4", "GFLOP a step", "with compilation"):
    assert text in words
  assert any("dot" in name or "fusion" in name for name in ops)
  # The longest stand in the table, the number of all below it.
  names = list(ops)
  assert all(name in words for name in names[: command.NUM_OPS])
  assert f"{len(ops)} operations," in words


def stub(monkeypatch, lazy, call, per_call=1):
  """Replaces the step of `digits_mlp:smoke`, of 2 batches of 8 real images."""
  config = configs.resolve(configs.load("digits_mlp:smoke"))
  arrays = measure.load_arrays(config)
  system = configs.build(config, (8, 8, 1), 10)
  kind = type(system)
  monkeypatch.setattr(kind, "batches_per_step", 2)
  monkeypatch.setattr(kind, "lazy", lazy)
  built = system, None, call, per_call
  monkeypatch.setattr(measure, "build_step", lambda *_: built)
  return config, arrays


class Clock:
  """Each look at it takes a second, and each step what it is told to."""

  def __init__(self, seconds):
    self.now, self.seconds = 0.0, iter(seconds)

  def perf_counter(self):
    self.now += 1.0
    return self.now

  def step(self, state, i):
    del state, i
    self.now += next(self.seconds)
    return None, {}


def test_times(small, monkeypatch):
  """The first call takes longer: that is compilation, in no step."""
  clock = Clock([100, 3, 3, 2, 4, 9, 3])
  monkeypatch.setattr(measure, "time", clock)
  seen = []
  show = lambda *args: seen.append(args)
  config, arrays = stub(monkeypatch, {}, clock.step)
  record, ops = measure.measure(config, arrays, 5, show=show)
  assert record["ms"] == 4000 and record["ms_min"] == 3000
  assert record["ms_quartiles"] == [4000, 5000]
  assert record["compile_s"] == 104 - 2 * 4
  assert record["images_per_sec"] == 2 * 8 / 4
  assert record["dense_gflops_per_s"] == 2 * 256**3 / 1e9
  assert record["share"] == record["flops"] / 4 / (2 * 256**3)
  assert seen == [(i, 5) for i in range(6)] and ops == {}


def test_a_lazy_penalty_counts_for_its_share_of_the_steps(small, monkeypatch):
  """Every other step takes 4 s more, so a step 2: no median would see it."""
  clock = Clock([50, 60, 9, *[0, 4] * 3])
  monkeypatch.setattr(measure, "time", clock)
  config, arrays = stub(monkeypatch, {"r1": 2}, clock.step)
  record, _ = measure.measure(config, arrays, 1)
  assert record["steps"] == 6 and record["ms"] == 3000
  assert record["compile_s"] == 120 - 3 * 3


def test_many_steps_a_call(small, monkeypatch):
  """The time of a call is that of the steps that it makes."""
  clock = Clock([99, 9, 9, 7, 19])
  monkeypatch.setattr(measure, "time", clock)
  config, arrays = stub(monkeypatch, {}, clock.step, 10)
  record, _ = measure.measure(config, arrays, 1)
  assert record["steps"] == 30 and record["ms"] == 1000
  assert record["images_per_sec"] == 2 * 8
  assert record["compile_s"] == 109 - 20


def test_plain_convolutions_are_asked_for(small, monkeypatch):
  inside = []

  @contextlib.contextmanager
  def plain():
    inside.append("plain")
    yield
    inside.clear()

  seen = []
  step = lambda state, i: (seen.append((i, *inside)), {})
  monkeypatch.setattr(conv, "plain", plain, raising=False)
  config, arrays = stub(monkeypatch, {}, step)
  assert measure.measure(config, arrays, 1)[0]["form"] == "fast"
  assert seen == [(0,), (1,), (2,)]
  assert measure.measure(config, arrays, 1, plain=True)[0]["form"] == "plain"
  assert seen[3:] == [(i, "plain") for i in range(3)]


def test_nothing_is_loaded_where_the_shape_is_known():
  def load(spec, *args, **options):
    config = configs.load(spec)
    config.dataset.update(options)
    return measure.load_arrays(configs.resolve(config), *args)

  cifar = load("cifar_dcgan")
  assert cifar.images.shape[1:] == (32, 32, 3)
  assert cifar.images.dtype == np.uint8 and cifar.images.std() > 70
  assert cifar.num_classes == 10 and set(cifar.labels) == set(range(10))
  assert load("mnist_mlp").images.shape[1:] == (28, 28, 1)
  assert load("cifar_dcgan", size=64).images.shape[1:] == (64, 64, 3)
  faces = load("cifar_dcgan", (48, 48, 3), builder="faces")
  assert faces.images.shape[1:] == (48, 48, 3) and faces.labels is None
  assert load("toy_ring").images.shape[1:] == (2,)


MISTAKES = {
  "--config=digits_dcgn": "unknown experiment 'digits_dcgn'; did you mean",
  "--config.generator.widht=8": "did you mean 'width'",
  "--config.batch_size=9": "not divisible by the 4 devices",
  "--steps=0": "--steps 0 must be 1 or more",
  "--workdir=x": "unexpected argument '--workdir=x'",
  "--all --plain": "--all has its own experiments",
  "--pipeline --loop=toy_ring": "--pipeline makes no step: leave out --loop",
  "--loop=toy_ring --plain --image-shape=2,2,1": "--loop trains as it is: l",
  "--target=v5e --plain": "--target runs nothing: leave out --plain",
  "--target=v5e --loop=toy_ring": "--target runs nothing: leave out --loop",
  "--target=v5e --pipeline": "--target runs nothing: leave out --pipeline",
  "--scan": "--scan is for --target: give both",
  "--hlo=x": "--hlo is for --target: give both",
  "--out=x": "--out is for --target or --all: give both",
  "--target=v5e --steps=3": "--target runs nothing: leave out --steps",
  "--num-images=-1": "--num-images -1 must be 0 or more",
  "--num-classes=-1": "--num-classes -1 must be 0 or more",
  "--num-images=9": "--num-images is for --target: give both",
  "--target=v5": "unknown --target 'v5'; did you mean 'v5p' or 'v5e'?",
  "--target=v5e:4": "--target v5e:4 must be like v5e or v5e:2x2",
  "--loop=toy_ring --steps=99": "--steps 99 are too few: --loop needs 10 rows",
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_mistakes_end_in_one_line(flags, capsys):
  assert bench.main(flags.split()) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert MISTAKES[flags] in error


def test_precision_is_short_for_a_flag_of_the_config(monkeypatch):
  """One that is given in full counts more."""
  given = []
  monkeypatch.setattr(
    command, "measure_one", lambda _, flags: given.append(flags)
  )
  whole = "--config.precision=float32"
  for more in ([], [whole]):
    assert bench.main(["--precision", "bfloat16", *more]) == 0
  assert given[0] == ["--config.precision=bfloat16"]
  assert given[1] == ["--config.precision=bfloat16", whole]


def test_a_shape_that_is_none(capsys):
  with pytest.raises(SystemExit, match="2"):
    bench.main(["--image-shape=32,x"])
  error = capsys.readouterr().err
  assert "'32,x' must be like 32,32,3" in error and error.count("\n") == 1


def event(name, start, length, thread=1, **args):
  place = dict(pid=1, tid=thread, ph="X", name=name)
  return place | dict(ts=start, dur=length, args=args)


def test_self_times():
  """An operation's own time is without those that run inside it."""
  ops = [
    event("call", 0, 100, hlo_op="call"),
    event("dot", 10, 30, hlo_op="dot"),
    event("while", 50, 40, hlo_op="while"),
    event("dot", 60, 20, hlo_op="dot"),
    event("dot", 100, 5, hlo_op="dot"),
    event("conv", 20, 60, thread=2, hlo_op="conv"),
    event("Execute", 0, 500),
  ]
  own = trace.self_times(ops)
  assert own == {"conv": 60, "dot": 55, "call": 30, "while": 20}
  assert list(own) == ["conv", "dot", "call", "while"]
  # A line of operations, where there is one, is all that is looked at.
  name = dict(name="XLA Ops")
  line = dict(pid=1, tid=3, ph="M", name="thread_name", args=name)
  assert trace.self_times([line, *ops, event("fusion", 0, 7, thread=3)]) == {
    "fusion": 7
  }


def fake_run(flags):
  """A record as of `measure_one`; plain takes twice as long."""
  fast, name = "--plain" not in flags, flags[1]
  fake_run.calls.append((name, fast))
  ms = (100 if fast else 200) + len(fake_run.calls)
  return dict(
    config=name,
    form="fast" if fast else "plain",
    steps=20,
    ms=ms,
    ms_quartiles=[ms - 1, ms + 1],
    images_per_sec=640.0,
    flops=53_355_741_184,
    share=0.58,
    compile_s=12.34,
    peak_bytes=2_500_000_000,
    peak_of="device",
    dense_gflops_per_s=400.0,
    device="cpu",
    devices=1,
    cores=2,
    versions=dict(jax="0.10.2"),
    commit="0123456789abcdef+",
    time="2026-01-02T03:04:05+00:00",
  )


def test_all(tmp_path, monkeypatch, capsys):
  """Both forms in turn, the faster run of each on the page; prose stays."""
  fake_run.calls = []
  monkeypatch.setattr(command, "_run", fake_run)
  argv = ["--all", f"--out={tmp_path}"]
  assert bench.main(argv) == 0
  assert fake_run.calls[:4] == [("cifar_dcgan", fast) for fast in [1, 0, 1, 0]]
  names = command.CONFIGS.split()
  assert len(fake_run.calls) == 4 * len(names)
  text = (tmp_path / "speed.md").read_text()
  assert text.count("\n| ") == 1 + 2 * len(names) and page.MARKER in text
  assert "commit 0123456789ab+" in " ".join(text.split())
  row = "| cifar_dcgan | fast | 101 (100-102) | 640 | 53.4 | 58 % | 12.3 | "
  assert row + "2.50 | 2.00 |" in text
  runs = json.loads((tmp_path / "speed.json").read_text())["runs"]
  assert len(runs) == len(fake_run.calls)

  # Written by hand, and then measured anew.
  prose = "\n\nWhat it means: **much**.\n"
  before, _, _ = text.partition(page.MARKER)
  old = before.replace("640", "639") + page.MARKER + prose
  (tmp_path / "speed.md").write_text(old)
  fake_run.calls = []
  assert bench.main(argv) == 0
  assert (tmp_path / "speed.md").read_text() == before + page.MARKER + prose
  assert "20 measurements" in capsys.readouterr().out


def test_the_names_of_all_are_experiments():
  assert set(command.CONFIGS.split()) <= configs.experiments().keys()


LOOP = ["--config.log_every=2", "--config.samples.every=20"]
LOOP += ["--config.checkpoint.every=8", "--config.evals.modes.every=0"]


@pytest.fixture(scope="module")
def watched():
  """What the command says of forty steps of a tiny toy."""
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    argv = ["--loop=toy_ring:smoke", "--steps=40", *LOOP]
    assert bench.main(argv) == 0
  *lines, record = output.getvalue().splitlines()
  return " ".join(lines), json.loads(record)


def test_the_loop(watched):
  text, record = watched
  assert (record["config"], record["overrides"]) == ("toy_ring:smoke", LOOP)
  assert record["steps"] == 40 and record["batch_size"] == 8
  assert record["intervals"] == dict(log=2, samples=20, checkpoint=8)
  assert (record["device"], record["devices"]) == ("cpu", 4)
  # A tenth, and more than the twenty after which all was due, on a log row.
  memory = record["memory"]
  first, last = memory["first"], memory["last"]
  assert (first["step"], last["step"], memory["looks"]) == (22, 40, 10)
  assert first["live_arrays"] == last["live_arrays"] > 30
  assert min(first["python_blocks"], last["python_blocks"]) > 1e5
  assert 1e5 < first["resident_kb"] <= memory["most_kb"] < 1e8
  assert memory["resident_of"] == "process"
  assert abs(memory["kb_per_1000_steps"]) < 1e8
  median, between, everything = record["rows"]
  for row in record["rows"]:
    share = 1 - row["inside_ms"] / row["loop_ms"]
    assert row["host_share"] == pytest.approx(share) and 0 < share < 1
  # The odd ones from 21 to 39, and all from 21 to 40.
  assert median["steps"] == between["steps"] == 10
  assert everything["steps"] == 20
  # It draws and saves.
  assert everything["loop_ms"] > between["loop_ms"]
  for part in ("after step 22:", "after step 40:", "in 10 looks", "in all"):
    assert part in text


def test_a_leak_is_seen(monkeypatch):
  """A list that keeps each step's metrics: so many arrays more a step."""
  kept = []
  make_step = program.make_step

  def leaky(*args):
    step_fn = make_step(*args)

    def step(*args):
      state, metrics = step_fn(*args)
      kept.append(metrics)
      return state, metrics

    return step

  monkeypatch.setattr(program, "make_step", leaky)
  config = train_main.parse(["bench", "--config=toy_ring:smoke", *LOOP])[0]
  memory = loop.run(config, 40)["memory"]
  grown = memory["last"]["live_arrays"] - memory["first"]["live_arrays"]
  # 18 steps lie between the two looks. What was read, every other step's,
  # holds another array each, up to jax 0.10; newer ones hold none.
  assert len(kept) == 41
  assert grown in (18 * len(kept[0]), (18 + 9) * len(kept[0])) and grown > 200


def test_a_loss_that_is_not_finite_ends_it_in_one_line(monkeypatch, capsys):
  monkeypatch.setattr(recorder, "not_finite", lambda row: "D loss is nan")
  assert bench.main(["--loop=toy_ring:smoke", "--steps=40", *LOOP]) == 2
  error = capsys.readouterr().err
  assert error == "error: nothing is measured: step 1: D loss is nan\n"


def test_the_slope_of_memory(monkeypatch):
  """From 1,000 kB 3 kB in every 100 steps, but for one look of 5 kB more."""
  watch = loop.Watch(2000, dict(log=100, checkpoint=500))
  assert watch.warm == 500 and list(watch.looks) == [*range(600, 2001, 100)]
  sizes = 1000.0 + 3 * np.arange(15)
  sizes[7] += 5  # In the middle, so no slope.
  left = iter(1024 * sizes)
  monkeypatch.setattr(loop, "resident", lambda: (next(left), "process"))
  for done in range(1, 2001):
    watch.look(done)
  monkeypatch.setattr(loop, "resident", lambda: (0, "process"))
  memory = watch.memory()
  assert memory["kb_per_1000_steps"] == pytest.approx(30)
  assert memory["first"]["resident_kb"] == 1000
  assert memory["last"]["resident_kb"] == memory["most_kb"] == 1042


def test_looks_are_few_and_after_rows_of_the_log():
  watch = loop.Watch(100_000, dict(log=70, samples=60_000))
  assert watch.warm == 10_000 and len(watch.looks) <= loop.NUM_LOOKS
  assert not (watch.looks % 70).any() and 10_000 < watch.looks[0] < 10_560
  assert 99_440 < watch.looks[-1] <= 100_000


def test_the_host_s_share_by_hand():
  """Calls of 8 ms and 2 between them; 40 more each third, looks not counted.

  The first takes 900 ms, but nothing counts before two are done.
  """
  times, now = np.full((9, 3), np.nan), 5.0
  for step in range(9):
    inside = 0.9 if step == 0 else 0.012 if step == 3 else 0.008
    looked = 0.5 if step in (3, 5) else 0.0
    times[step] = now, now + inside, looked
    now += inside + looked + (0.042 if step % 3 == 2 else 0.002)
  median, mean, everything = loop.rows(times, [3], 2)
  expected = dict(of="between", how="median", steps=4, inside_ms=8, loop_ms=10)
  assert median == pytest.approx(expected | dict(host_share=0.2))
  expected |= dict(how="mean", inside_ms=9, loop_ms=11)
  assert mean == pytest.approx(expected | dict(host_share=2 / 11))
  # Six steps from the third on, two of which are due.
  inside, whole = (5 * 8 + 12) / 6, (5 * 8 + 12 + 6 * 2 + 2 * 40) / 6
  expected = dict(of="everything", how="mean", steps=6, inside_ms=inside)
  expected |= dict(loop_ms=whole, host_share=1 - inside / whole)
  assert everything == pytest.approx(expected)


def test_the_host_s_share_of_long_dispatches():
  """Four steps a call, and a log after every second call, or after each."""
  times = np.full((17, 3), np.nan)
  for i in range(5):
    times[4 * i] = i, i + 0.8, 0.0
  median, _, everything = loop.rows(times, [8], 0)
  assert median["steps"] == 8 and everything["steps"] == 16
  assert median["inside_ms"] == pytest.approx(200)
  assert median["loop_ms"] == everything["loop_ms"] == pytest.approx(250)
  assert [row["of"] for row in loop.rows(times, [4], 0)] == ["everything"]


def test_each_step_is_awaited(monkeypatch):
  """Or its time would be that of its dispatch."""
  seen = []
  monkeypatch.setattr(jax, "block_until_ready", seen.append)
  watch = loop.Watch(20, dict(log=2))
  step_fn = watch.timed(lambda *args: ("state", "metrics"))
  assert step_fn(None, None, None, None, 3) == ("state", "metrics")
  assert seen == ["metrics"] and watch.times[3, 0] <= watch.times[3, 1]
