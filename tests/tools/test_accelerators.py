"""The names of accelerators, and what is said of a step for one of them."""

import importlib.util

import jax
import pytest

from ganjax import errors, files
from ganjax.nets import conv
from ganjax.runs import configs
from ganjax.tools.bench import accelerators, estimate, hlo, report, targets


@pytest.mark.parametrize(
  ("name", "text"),
  [
    ("v5", "unknown --target 'v5'; did you mean"),
    ("", "unknown --target ''"),
    ("V5E", "known: a100, h100, l4, t4, v3, v4, v5e, v5p, v6e"),
    ("v5e:4", "--target v5e:4 must be like v5e or v5e:2x2"),
    ("v5e:2x", "must be like v5e or v5e:2x2"),
    ("v4:2x2x", "must be like v4 or v4:2x2x1"),
    ("h100:2x2", "--target h100:2x2 must be like h100 or h100:4"),
    ("h100:0", "must be like h100 or h100:4"),
    ("h100:1", "--target h100:1 must be h100, for one of them"),
    ("v5e:", "--target v5e: must be v5e, for one of them"),
    ("h100:-1", "must be like h100 or h100:4"),
  ],
)
def test_a_name_that_is_none(name, text):
  with pytest.raises(errors.UserError) as error:
    targets.find(name)
  assert text in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("name", "extra"),
  [("v5e", "tpu"), ("v5e:2x2", "tpu"), ("h100", "cuda"), ("t4:4", "cuda")],
)
def test_a_compiler_that_is_not_installed(name, extra, monkeypatch):
  """One line says what to install."""
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(errors.UserError) as error:
    targets.find(name)
  text = str(error.value)
  assert f"pip install 'ganjax[{extra}]'" in text and "\n" not in text
  assert f"pip install -e '.[{extra}]'" in text

  def no_package(name):
    raise ModuleNotFoundError(name)

  monkeypatch.setattr(importlib.util, "find_spec", no_package)
  with pytest.raises(errors.UserError, match="is not installed"):
    targets.find(name)


def test_chips():
  """Each has what the record needs: a clock, or a data sheet."""
  for name, chip in targets.CHIPS.items():
    assert bool(chip.clock) == (name in targets.TPUS) == (not chip.sheet)
    assert chip.memory > 10 * targets.GIB and chip.flops > 1e13
  assert targets._NAMES.keys() == targets.GPUS.keys()
  sheet = targets.GPUS["h100"].sheet
  assert sheet["shared_memory_per_core"] == 233_472
  assert sheet["shared_memory_per_block_optin"] == 232_448


def test_bytes_that_a_compiler_refuses():
  """In its own words, shortened."""
  text = "Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm."
  assert estimate._needed(text) == int(20.5 * 2**30)
  assert estimate._needed(text.replace("20.50G", "512.0M")) == 2**29
  assert estimate._needed("INTERNAL: something else") is None


def test_whose_lines_count():
  """The user's and ganjax's own, but not those that asked for all of a step."""
  assert estimate._is_ours(conv.__file__) and estimate._is_ours(__file__)
  assert not estimate._is_ours(estimate.__file__)
  assert not estimate._is_ours(jax.__file__)
  assert estimate._relative(conv.__file__) == "ganjax/nets/conv.py"


COMMON = dict(
  config="cifar_dcgan",
  precision="float32",
  batch_size=64,
  d_steps=1,
  steps_per_call=1,
  population=0,
  dataset=[50_000, 32, 32, 3],
  dataset_bytes=153_600_000,
  touch_dataset=[],
  collectives={},
  flops=53_355_741_184,
  operations=1234,
  open_loops=0,
  compile_s=12.34,
  compile_cpu_s=23.4,
  lower_s=1.5,
  devices=1,
)
MEMORY = dict(
  total=258e6, arguments=200e6, temporary=50e6, results=1e6, code=7e6
)
TPU = dict(
  **COMMON,
  device="TPU v5 lite",
  target="v5e",
  cycles=1_500_000,
  ms=1.0,
  steps_per_sec=1000.0,
  images_per_sec=64_000.0,
  share=0.271,
  peak_flops=197e12,
  compiled_flops=60e9,
  bytes=300e6,
  memory=MEMORY,
  memory_limit=16_911_433_728,
  fits=True,
)
GPU = dict(
  **COMMON,
  device="NVIDIA H100 80GB HBM3",
  target="h100",
  kernels=321,
  library_calls={"__cudnn$convForward": 6, "__cublas$gemm": 2},
  layout_changes=17,
  layout_change_bytes=42e6,
  memory=MEMORY,
  memory_limit=84_932_990_566,
  peak_flops=989e12,
  fits=True,
)


def test_what_is_said_of_a_tpu():
  rows = report.rows(TPU)
  assert rows == {
    "experiment": "cifar_dcgan, float32, batch 64, 1 D to 1 G",
    "target": "1 TPU v5 lite; nothing was run",
    "step, estimated": "1,500,000 cycles, 1 ms: 1,000 steps/s, 64,000 real "
    "images/s",
    "share of the peak": "27.1 % of 197 TFLOP/s in bfloat16, of each device",
    "work": "53.4 GFLOP a step of products; as compiled, 60 GFLOP and 300 MB "
    "read or written on each device; 1,234 operations",
    "memory, MB": "258 (arguments 200, temporary 50, results 1, code "
    "7): 1.5 % of the device's 16.9 GB",
    "dataset": "154 MB at rest: the gather alone reads them",
    "compilation": "12.3 s (23.4 s of all cores), and 1.5 s of tracing before",
  }


def test_what_is_said_of_a_gpu():
  rows = report.rows(GPU)
  assert "step, estimated" not in rows and "share of the peak" not in rows
  assert rows["kernels"] == "321 a step"
  assert rows["library calls"] == "6 __cudnn$convForward, 2 __cublas$gemm"
  assert rows["layout changes"] == "17 a step, 42 MB"
  assert rows["work"].endswith("GFLOP a step of products; 1,234 operations")
  assert report.rows({**GPU, "library_calls": {}})["library calls"] == "none"


def test_what_is_said_of_a_step_that_does_not_fit():
  """The compiler made nothing: there is nothing else to say."""
  left_out = "cycles ms steps_per_sec images_per_sec share memory".split()
  refused = {k: v for k, v in TPU.items() if k not in left_out}
  rows = report.rows(refused | dict(fits=False, needed_bytes=20_500_000_000))
  assert [*rows] == ["experiment", "target", "memory"]
  assert rows["memory"] == (
    "20.5 GB are needed, and there are 16.9: the compiler refuses it"
  )


def test_what_is_said_where_there_is_more():
  more = dict(
    steps_per_call=100,
    population=4,
    touch_dataset=["copy u8[50000,3072]{1,0}"],
    collectives={"all-reduce": dict(count=20.0, bytes=17.4e6)},
  )
  rows = report.rows(TPU | more)
  assert rows["program"] == "100 steps in one dispatch"
  assert rows["population"] == "4 members in one program"
  moved = "all of its 154 MB are moved by copy u8[50000,3072]{1,0}"
  assert rows["dataset"] == moved
  assert rows["collectives"] == "20 all-reduce of 17.4 MB in all"
  streamed = report.rows(TPU | dict(dataset="streamed"))
  assert streamed["dataset"] == "streamed, a step at a time"


def test_the_table_of_what_takes_most(capsys):
  row = dict(
    cycles=150_000,
    operation="fusion",
    name="fusion.1",
    result="f32[64,8,8,256]{3,0,2,1:T(8,128)}",
    asked_by="jit(_fun)/conv",
    source="ganjax/nets/conv.py:325",
  )
  report.show(TPU | dict(dearest=[row]))
  words = " ".join(capsys.readouterr().out.split())
  assert "150,000 10 fusion f32[64,8,8,256] ganjax/nets/conv.py:325" in words


DEAREST = dict(
  cycles=700_000,
  operation="copy",
  name="copy.1",
  result="u8[50000,3072]{1,0}",
  asked_by="jit(_fun)/shard_map/conv/dot",
  source="ganjax/nets/conv.py:1",
)
ASKED = dict(
  needed_bytes=258_000_000,
  overrides=[],
  dearest=[DEAREST],
  versions={"jax": "1.2"},
  compilers={"libtpu": "3.4"},
  commit="0123456789abcdef",
  time="2026-01-01T00:00:00",
)


def table_rows(page, title):
  """Returns the cells of a page's table, by their first ones."""
  lines = page.split(f"## {title}")[1].split("\n## ")[0].splitlines()
  rows = [line.strip("| ").split(" | ") for line in lines if line[:2] == "| "]
  return {row[0]: row for row in rows[1:]}


def test_the_page_has_what_was_before_and_is_now(tmp_path):
  slow = TPU | ASKED | dict(cycles=3_000_000)
  large = {k: v for k, v in (TPU | ASKED).items() if k not in ("cycles", "ms")}
  large |= dict(config="cifar_r3gan", fits=False, needed_bytes=90_000_000_000)
  half = TPU | ASKED | dict(cycles=1_800_000, precision="bfloat16")
  half["overrides"] = ["--config.precision=bfloat16"]
  more = TPU | ASKED | dict(target="v5e:2x2", devices=4, batch_size=256)
  more["overrides"] = ["--config.batch_size=256"]
  more["collectives"] = {"all-reduce": dict(count=2.0, bytes=40e6)}
  files.write_json(tmp_path / "accelerators_before.json", dict(runs=[slow]))
  accelerators.add(tmp_path, "bench one", [TPU | ASKED, large])
  path = accelerators.add(tmp_path, "bench two", [half, more, GPU | ASKED])
  page = path.read_text()
  assert page.splitlines()[2].startswith("These are estimates of compilers")
  assert "`bench one`" in page and "`bench two`" in page
  assert "jax 1.2, libtpu 3.4, commit 0123456789ab, 2026-01-01" in page
  rows = table_rows(page, "One v5e")
  assert rows["cifar_dcgan"][2:5] == ["3.00", "1.50", "0.50"]
  assert "does not fit: 90.0 GB" in " ".join(rows["cifar_r3gan"])
  assert table_rows(page, "bfloat16")["cifar_dcgan"][1:4] == [
    *("1.50", "1.80", "1.20")
  ]
  assert table_rows(page, "One h100")["cifar_dcgan"][2:4] == ["321", "8"]
  grown = table_rows(page, "How it grows")["cifar_dcgan"]
  # Of four chips each sees as many images in as many cycles; 40 MB go round.
  assert grown[1:9] == [
    *("4", "256", "64", "1.50", "100 %", "40", "0.3", "258")
  ]
  fits = table_rows(page, "Where it fits")
  assert fits["cifar_dcgan"][1:] == ["0.26", "v5e", "0.26", "t4"]
  assert fits["cifar_r3gan"][1:3] == ["90.00", "v5p"]
  assert (tmp_path / "accelerators.png").stat().st_size > 5000


def test_an_error_takes_no_good_record_away(tmp_path):
  good = TPU | ASKED
  wrong = dict(config="cifar_dcgan", target="v5e", error="it failed")
  other = dict(config="cifar_ada", target="v5e", error="it failed")
  path = accelerators.add(tmp_path, "bench", [other])
  assert "it failed" in path.read_text()
  accelerators.add(tmp_path, "bench", [good])
  accelerators.add(tmp_path, "bench", [wrong])
  runs = accelerators.read(tmp_path)["runs"]
  assert [run.get("cycles") for run in runs] == [None, good["cycles"]]


def test_other_programs_are_other_records(tmp_path):
  """A scan is no single step, and another training set no other's."""
  scan = TPU | ASKED | dict(options=["--scan"], steps_per_call=100, cycles=7)
  path = accelerators.add(tmp_path, "bench", [TPU | ASKED, scan])
  assert len(accelerators.read(tmp_path)["runs"]) == 2
  assert table_rows(path.read_text(), "One v5e")["cifar_dcgan"][3] == "1.50"


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"runs": [1]}'])
def test_a_file_that_is_not_ours(text, tmp_path):
  (tmp_path / "accelerators.json").write_text(text)
  with pytest.raises(errors.UserError, match="is not what ganjax wrote"):
    accelerators.read(tmp_path)


def test_what_people_wrote_below_the_tables_stays(tmp_path):
  path = accelerators.add(tmp_path, "bench", [TPU | ASKED])
  path.write_text(path.read_text() + "By hand.\n")
  accelerators.add(tmp_path, "bench", [TPU | ASKED | dict(cycles=1)])
  assert path.read_text().endswith("By hand.\n")


@pytest.mark.parametrize(
  ("needed", "chip"), [(1, "t4"), (16e9, "l4"), (80e9, "h100"), (90e9, "")]
)
def test_the_smallest_chip(needed, chip):
  assert accelerators.smallest(needed, accelerators.GPU_SIZES) == chip


# What is begun returns its operand, too, and a reduction its result alone.
BEGUN = """\
HloModule jit_step

ENTRY %main (a: f32[16]) -> f32[64] {
  %a = f32[16]{0} parameter(0)
  %gather = (f32[16]{0}, f32[64]{0}) all-gather-start(%a), dimensions={0}
  %whole = f32[64]{0} all-gather-done(%gather)
  %scatter = ((f32[64]{0}), f32[16]{0}) reduce-scatter-start(%whole)
  %part = f32[16]{0} reduce-scatter-done(%scatter)
  %sum = f32[16]{0} all-reduce-start(%part), to_apply=%add
  ROOT %done = f32[16]{0} all-reduce-done(%sum)
}
"""


def test_bytes_of_what_devices_say_are_those_of_the_results():
  part = estimate.Part(0.5, hlo.Program(BEGUN), None)
  found = estimate._collectives([part, part], 1)
  assert {name: row["bytes"] for name, row in found.items()} == {
    "all-gather": 4 * 64,
    "reduce-scatter": 4 * 16,
    "all-reduce": 4 * 16,
  }
  assert {row["count"] for row in found.values()} == {1.0}


def test_branches_of_a_scan_stand_in_the_order_of_its_choices():
  """By hand: R1 is due in one step of four."""
  config = configs.resolve(configs.load("digits_dcgan:smoke"))
  config.penalties = dict(r1=dict(gamma=1.0, every=4))
  system = configs.build(configs.resolve(config), (16, 16, 1), 10)
  skips = sorted({system.skip(step) for step in range(4)})
  shares = dict(zip(skips, estimate._shares(system), strict=True))
  assert shares == {(): 0.25, ("r1",): 0.75}
