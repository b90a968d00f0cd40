"""What is read in compiled texts, shortened ones of real compilers."""

import pytest

from ganjax.tools.bench import hlo

# A scan of five steps on a TPU: the loop says by its condition alone how often
# it runs. Before it the images are copied into another layout.
LOOP = """\
HloModule jit_loop, is_scheduled=true

FileNames
1 "/site-packages/jax/_src/lax.py"
2 "/home/me/ganjax/nets/conv.py"
3 "/home/me/ganjax/systems/gan.py"

FunctionNames
1 "scan"
2 "f"
3 "step"

FileLocations
1 {file_name_id=3 function_name_id=3 line=70 end_line=70 column=9 end_column=42}
2 {file_name_id=2 function_name_id=2 line=41 end_line=41 column=2 end_column=8}
3 {file_name_id=1 function_name_id=1 line=9 end_line=9 column=2 end_column=8}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}
4 {file_location_id=3 parent_frame_id=0}


%rows (data: u8[50000,192], places: s32[64]) -> u8[64,192] {
  %data = u8[50000,192]{1,0:T(8,128)(4,1)S(1)} parameter(0)
  %places = s32[64]{0:T(128)} parameter(1)
  ROOT %gather.7 = u8[64,192]{1,0:T(8,128)(4,1)} gather(%data, %places), \
offset_dims={1}, collapsed_slice_dims={0}, slice_sizes={1,192}
}

%body (arg: (s32[], f32[192], u8[50000,192])) -> (s32[], f32[192], \
u8[50000,192]) {
  %arg = (s32[]{:T(128)}, f32[192]{0:T(256)S(1)}, \
u8[50000,192]{1,0:T(8,128)(4,1)S(1)}) parameter(0)
  %data.2 = u8[50000,192]{1,0:T(8,128)(4,1)} get-tuple-element(%arg), index=2
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %places.2 = s32[64]{0:T(128)} iota(), iota_dimension=0
  %gather_fusion = u8[64,192]{1,0:T(8,128)(4,1)} fusion(%data.2, %places.2), \
kind=kCustom, calls=%rows, metadata={op_name="jit(loop)/while/body/gather" \
stack_frame_id=3}, backend_config={"window_config":{"estimated_cycles":"1000"}}
  %sum = f32[192]{0:T(256)S(1)} fusion(%gather_fusion), kind=kLoop, \
calls=%sums, backend_config={"window_config":{"estimated_cycles":"30"}}
  ROOT %out = (s32[]{:T(128)}, f32[192]{0:T(256)S(1)}, \
u8[50000,192]{1,0:T(8,128)(4,1)S(1)}) tuple(%i, %sum, /*index=2*/%data.2)
}

%sums (x: u8[64,192]) -> f32[192] {
  %x = u8[64,192]{1,0:T(8,128)(4,1)} parameter(0)
  %zero = f32[]{:T(128)} constant(0)
  ROOT %reduce = f32[192]{0:T(256)S(1)} reduce(%x, %zero), dimensions={0}
}

%condition (arg.1: (s32[], f32[192], u8[50000,192])) -> pred[] {
  %limit = s32[]{:T(128)} constant(5)
  %arg.1 = (s32[]{:T(128)}, f32[192]{0:T(256)S(1)}, \
u8[50000,192]{1,0:T(8,128)(4,1)S(1)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (data.1: u8[50000,192]) -> f32[192] {
  %data.1 = u8[50000,192]{0,1:T(32,128)(4,1)} parameter(0)
  %copy = u8[50000,192]{1,0:T(8,128)(4,1)S(1)} copy(%data.1), \
backend_config={"window_config":{"estimated_cycles":"149762"}}
  %zero.1 = s32[]{:T(128)} constant(0)
  %start = f32[192]{0:T(256)S(1)} custom-call(), \
custom_call_target="AllocateBuffer"
  %all = (s32[]{:T(128)}, f32[192]{0:T(256)S(1)}, \
u8[50000,192]{1,0:T(8,128)(4,1)S(1)}) tuple(%zero.1, %start, %copy)
  %while.1 = (s32[]{:T(128)}, f32[192]{0:T(256)S(1)}, \
u8[50000,192]{1,0:T(8,128)(4,1)S(1)}) while(%all), condition=%condition, \
body=%body, metadata={op_name="jit(loop)/while" stack_frame_id=1}
  ROOT %result = f32[192]{0:T(256)S(1)} get-tuple-element(%while.1), index=1
}
"""

# Of a GPU: the loop says how often it runs; lines stand with the operations.
GPU = """\
HloModule jit_loop, is_scheduled=true

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %y = f32[8]{0} custom-call(%x), custom_call_target="__cublas$gemm", \
metadata={op_name="jit(f)/dot" source_file="/home/me/ganjax/nets/mlp.py" \
source_line=12}, backend_config={"estimated_cycles":"7"}
  ROOT %q = (s32[], f32[8]{0}) tuple(%i, %y)
}

%condition (p.1: (s32[], f32[8])) -> pred[] {
  %p.1 = (s32[], f32[8]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %limit = s32[] constant(9)
  ROOT %lt = pred[] compare(%i.1, %limit), direction=LT
}

%inner (r: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = (s32[], f32[8]{0}) parameter(0)
  ROOT %w = (s32[], f32[8]{0}) while(%r), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"},"known_init_step":{"init":"0"}}
}

ENTRY %main (a: f32[8]) -> (s32[], f32[8]) {
  %a = f32[8]{0} parameter(0)
  %zero = s32[] constant(0)
  %t = (s32[], f32[8]{0}) tuple(%zero, %a)
  ROOT %outer = (s32[], f32[8]{0}) while(%t), condition=%condition, \
body=%inner, backend_config={"known_trip_count":{"n":"2"}}
}
"""

# Two branches by their number, and two by a truth.
BRANCHES = """\
HloModule jit_cond

%one (x: (f32[4])) -> (f32[4]) {
  %x = (f32[4]{0}) parameter(0)
  %gte = f32[4]{0} get-tuple-element(%x), index=0
  %add = f32[4]{0} add(%gte, %gte), backend_config={"estimated_cycles":"10"}
  ROOT %t = (f32[4]{0}) tuple(%add)
}

%two (x.1: (f32[4])) -> (f32[4]) {
  %x.1 = (f32[4]{0}) parameter(0)
  %gte.1 = f32[4]{0} get-tuple-element(%x.1), index=0
  %sine = f32[4]{0} sine(%gte.1), backend_config={"estimated_cycles":"30"}
  ROOT %t.1 = (f32[4]{0}) tuple(%sine)
}

ENTRY %main (p: s32[], q: pred[], a: f32[4]) -> (f32[4]) {
  %p = s32[] parameter(0)
  %q = pred[] parameter(1)
  %a = f32[4]{0} parameter(2)
  %t.2 = (f32[4]{0}) tuple(%a)
  %by_number = (f32[4]{0}) conditional(%p, %t.2, %t.2), \
branch_computations={%one, %two}
  ROOT %by_truth = (f32[4]{0}) conditional(%q, %by_number, %by_number), \
true_computation=%two, false_computation=%one
}
"""

ALONE = """\
HloModule jit_sum

FileNames
1 "/home/me/ganjax/nets/conv.py"

FileLocations
1 {file_name_id=1 function_name_id=1 line=5 end_line=5 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=0}


ENTRY %main (a: f32[1024], b: bf16[64]) -> f32[1024] {
  %a = f32[1024]{0} parameter(0)
  %b = bf16[64]{0} parameter(1)
  %sum = f32[1024]{0} all-reduce(%a), replica_groups={{0,1}}, to_apply=%add, \
metadata={op_name="pmean" stack_frame_id=1}
  %begun = ((bf16[64]{0}), bf16[128]{0}) all-gather-start(%b), dimensions={0}
  %done = bf16[128]{0} all-gather-done(%begun)
  ROOT %more = f32[1024]{0} add(%sum, %sum)
}
"""


def ours(file):
  return "/ganjax/" in file


def named(program, name):
  return next(one for one in program.operations if one.name == name)


def test_a_loop_counts_as_often_as_its_condition_says():
  program = hlo.Program(LOOP)
  assert program.cycles == 149_762 + 5 * (1000 + 30)
  assert named(program, "sum").times == 5 and named(program, "copy").times == 1
  # What a fusion is made of does not run by itself.
  assert "reduce" not in {one.name for one in program.operations}
  assert "reduce" in {one.name for one in program.computations["sums"]}


def test_a_loop_in_a_loop_of_known_counts():
  """The constant 9 of the condition is not asked."""
  program = hlo.Program(GPU)
  assert named(program, "y").times == 6 and program.cycles == 42
  unknown = GPU.replace("known_trip_count", "other")
  assert hlo.Program(unknown).cycles == 7 * 9 * 9
  # Two constants: which of them is the limit is not known.
  another = "  %one = s32[] constant(4)\n  %limit"
  unclear = unknown.replace("  %limit", another)
  assert hlo.Program(unclear).cycles == 7


def test_branches_share_what_they_take():
  program = hlo.Program(BRANCHES)
  assert program.cycles == 2 * (10 + 30) / 2
  by_truth = program.computations["main"][-1]
  assert by_truth.called() == ("two", "one")


def test_what_is_in_a_type_of_several_arrays():
  """Neither the parentheses of a layout nor comments end the type."""
  loop = hlo.Program(LOOP).computations["main"][-2]
  assert loop.opcode == "while" and loop.operands == ("all",)
  assert loop.result_bytes == 4 + 4 * 192 + 50_000 * 192
  out = hlo.Program(LOOP).computations["body"][-1]
  assert out.operands == ("i", "sum", "data.2")


def test_the_line_of_ganjax_that_asked():
  """The nearest of the frames, inwards first; a line with its operation."""
  program = hlo.Program(LOOP)
  gather = named(program, "gather_fusion")
  assert gather.asked_by == "jit(loop)/while/body/gather"
  conv = "/home/me/ganjax/nets/conv.py:41"
  assert program.source(gather, ours) == conv
  gan = "/home/me/ganjax/systems/gan.py:70"
  assert program.source(gather, lambda file: "gan.py" in file) == gan
  assert program.source(gather, lambda file: False) == ""
  assert program.source(named(program, "copy"), ours) == ""
  program = hlo.Program(GPU)
  mlp = "/home/me/ganjax/nets/mlp.py:12"
  assert program.source(named(program, "y"), ours) == mlp
  assert program.source(named(program, "y"), lambda file: False) == ""
  assert named(program, "y").attribute("custom_call_target") == "__cublas$gemm"


def test_the_lines_of_a_program_of_one_computation():
  program = hlo.Program(ALONE)
  conv = "/home/me/ganjax/nets/conv.py:5"
  assert program.source(named(program, "sum"), ours) == conv


def test_collectives_and_their_bytes():
  """One that is begun and awaited counts once."""
  program = hlo.Program(ALONE)
  found = [(one.opcode, one.result_bytes) for one in program.collectives()]
  assert found[0] == ("all-reduce", 4096)
  assert [opcode for opcode, _ in found] == ["all-reduce", "all-gather-start"]
  assert named(program, "more").moved_bytes == 2 * 4096 + 4096
  assert hlo.Program(LOOP).collectives() == []


SIZE = 50_000 * 192


def test_a_copy_of_the_dataset_is_found_and_a_gather_is_not():
  program = hlo.Program(LOOP)
  assert [one.name for one in program.touching("u8", SIZE)] == ["copy"]
  assert program.touching("f32", SIZE) == program.touching("u8", 192) == []
  # So many bytes are read: 64 rows and their places, not all rows.
  gather = named(program, "gather_fusion")
  assert gather.moved_bytes == 64 * 192 + 4 * 64


@pytest.mark.parametrize(
  "line",
  [
    # A cast before the rows are chosen.
    "%cast = f32[50000,192]{1,0} convert(%data)",
    # One that makes less of it, as a sum does, has read it all the same.
    "%sum = s32[192]{0} reduce(%data, %places), dimensions={0}",
    "%turned = u8[192,50000]{0,1} transpose(%data), dimensions={1,0}",
  ],
)
def test_what_touches_the_dataset_in_a_fusion_is_found(line):
  text = LOOP.replace("  ROOT %gather.7", f"  {line}\n  ROOT %gather.7")
  found = {one.name for one in hlo.Program(text).touching("u8", SIZE)}
  assert found == {"copy", line.partition(" ")[0].removeprefix("%")}


def test_a_gather_whose_places_are_the_dataset_reads_all_of_it():
  text = LOOP.replace("gather(%data, %places)", "gather(%places, %data)")
  found = {one.name for one in hlo.Program(text).touching("u8", SIZE)}
  assert found == {"copy", "gather.7"}
  gather = named(hlo.Program(text), "gather_fusion")
  assert gather.moved_bytes == 64 * 192 + SIZE  # Its 64 places lie first.


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("f32[2,3]{1,0:T(8,128)}", 24),
    ("bf16[2,3]", 12),
    ("f16[]", 2),
    ("u8[50000,32,32,3]{3,2,1,0}", 50_000 * 32 * 32 * 3),
    ("pred[7]", 7),
    ("s4[6]", 6),  # A byte each, as most keep them.
    ("f8e4m3fn[5]", 5),
    ("f8e5m2[5]", 5),
    ("f64[3]", 24),
    ("u32[]{:S(2)}", 4),
    ("f32[0,3]", 0),
    ("(f32[2,3]{1,0}, /*index=1*/s8[4], (pred[2]))", 24 + 4 + 2),
    ("token[]", 0),
    ("()", 0),
  ],
)
def test_bytes_of_a_type(text, expected):
  assert hlo.num_bytes(text) == expected


def test_branches_count_as_often_as_they_are_taken():
  """Of those that a number chooses; a truth says nothing of how often."""
  program = hlo.Program(BRANCHES, (0.25, 0.75))
  assert program.cycles == (0.25 * 10 + 0.75 * 30) + (30 + 10) / 2
  assert hlo.Program(BRANCHES, (0.2, 0.3, 0.5)).cycles == 40


def test_a_loop_whose_turns_nobody_knows_is_said():
  unknown = GPU.replace("known_trip_count", "other").replace(
    "s32[] constant(9)", "s32[] add(%i.1, %i.1)"
  )
  assert hlo.Program(GPU).open_loops == 0
  # The inner loop stands in the outer one, which is counted once.
  assert hlo.Program(unknown).open_loops == 2
