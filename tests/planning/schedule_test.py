"""Costs read from the text of compiled programs."""

import pytest

from genrec.planning import schedule

COST = 'backend_config={"window_config":{"estimated_cycles":"%d"}}'

MADE = 'metadata={op_name="jit(f)/dot_general" stack_frame_id=2}'


def program(start: int = 0, step: int = 1, limit: int = 12) -> str:
    """Returns a program that multiplies, copies and gathers in a loop, and chooses between branches after it."""
    return f"""HloModule test, is_scheduled=true

FileNames
1 "/somewhere/genrec/models/layers.py"
2 "/usr/lib/jax/core.py"

FunctionNames
1 "attend"

FileLocations
1 {{file_name_id=1 function_name_id=1 line=7 end_line=7 column=1 end_column=2}}
2 {{file_name_id=2 function_name_id=1 line=9 end_line=9 column=1 end_column=2}}

StackFrames
1 {{file_location_id=1 parent_frame_id=1}}
2 {{file_location_id=2 parent_frame_id=1}}

%fused (a: bf16[8,128], b: bf16[128,128]) -> bf16[8,128] {{
  %a = bf16[8,128]{{1,0}} parameter(0)
  %b = bf16[128,128]{{1,0}} parameter(1)
  ROOT %c = bf16[8,128]{{1,0}} convolution(%a, %b), dim_labels=bf_io->bf
}}

%gathering (a: f32[16,32]) -> f32[64,32] {{
  %g = f32[16,32]{{1,0}} parameter(0)
  ROOT %all = f32[64,32]{{1,0}} all-gather(%g), replica_groups={{{{0,1,2,3}}}}, dimensions={{0}}
}}

%body (state: (s32[], bf16[8,128])) -> (s32[], bf16[8,128]) {{
  %state = (s32[], bf16[8,128]{{1,0}}) parameter(0)
  %number = s32[] get-tuple-element(%state), index=0
  %step = s32[] constant({step})
  %next = s32[] add(%number, %step)
  %x = bf16[8,128]{{1,0}} get-tuple-element(%state), index=1
  %shards = f32[64,32]{{1,0}} fusion(%x), kind=kCustom, calls=%gathering
  %product = bf16[8,128]{{1,0}} fusion(%x, %x), kind=kOutput, calls=%fused, {MADE}, {COST % 100}
  %moved = bf16[8,128]{{0,1}} copy(%product), {COST % 5}
  ROOT %result = (s32[], bf16[8,128]{{1,0}}) tuple(%next, %moved)
}}

%condition (state: (s32[], bf16[8,128])) -> pred[] {{
  %before = (s32[], bf16[8,128]{{1,0}}) parameter(0)
  %counter = s32[] get-tuple-element(%before), index=0
  %limit = s32[]{{:T(128)}} constant({limit})
  ROOT %less = pred[] compare(%counter, %limit), direction=LT
}}

%cheap (x: bf16[8,128]) -> bf16[8,128] {{
  %cheap_x = bf16[8,128]{{1,0}} parameter(0)
  ROOT %cheap_copy = bf16[8,128]{{0,1}} copy(%cheap_x), {COST % 1}
}}

%dear (x: bf16[8,128]) -> bf16[8,128] {{
  %dear_x = bf16[8,128]{{1,0}} parameter(0)
  ROOT %dear_copy = bf16[8,128]{{0,1}} copy(%dear_x), {COST % 1000}
}}

ENTRY %main (x: bf16[8,128]) -> bf16[8,128] {{
  %input = bf16[8,128]{{1,0}} parameter(0)
  %zero = s32[] constant({start})
  %initial = (s32[], bf16[8,128]{{1,0}}) tuple(%zero, %input)
  %loop = (s32[], bf16[8,128]{{1,0}}) while(%initial), condition=%condition, body=%body
  %last = bf16[8,128]{{1,0}} get-tuple-element(%loop), index=1
  %sent = (f32[4,8]{{1,0}}, u32[], token[]) send(%last), channel_id=7
  %sorted = f32[8]{{0}} sort(%last), dimensions={{0}}
  ROOT %chosen = bf16[8,128]{{1,0}} conditional(%zero, %last, %last), branch_computations={{%cheap, %dear}}
}}
"""


@pytest.mark.parametrize(
    ("start", "step", "limit", "runs"), [(0, 1, 12, 12), (0, 2, 8, 4), (1, 1, 12, 11), (0, 3, 8, 3)]
)
def test_what_a_loop_holds_counts_as_often_as_it_runs(start, step, limit, runs):
    found = schedule.read(program(start, step, limit))
    assert found.by_kind() == {schedule.PRODUCTS: 100 * runs, schedule.COPIES: 5 * runs + 1000}
    assert found.cycles == 105 * runs + 1000


def test_the_dearest_operation_comes_first_with_the_line_of_genrec_that_made_it():
    first, *_ = schedule.read(program()).operations
    assert (first.name, first.runs, first.source) == ("product", 12, "genrec/models/layers.py:7")


def test_collectives_have_their_bytes_and_whether_they_cross_slices():
    within, across = schedule.read(program()).collectives
    assert (within.kind, within.count, within.bytes, within.crosses_slices) == (
        "all-gather",
        12,
        12 * 64 * 32 * 4,
        False,
    )
    assert (across.kind, across.count, across.bytes, across.crosses_slices) == ("send", 1, 4 * 8 * 4, True)


def test_a_sort_has_no_cycles_and_is_told():
    assert schedule.read(program()).without_cycles == {"sort": 1}


@pytest.mark.parametrize(
    ("shape", "size"),
    [("f32[4,8]{1,0}", 128), ("(bf16[3], s8[5])", 11), ("pred[]", 1), ("u32[]{:S(2)}", 4), ("token[]", 0)],
)
def test_bytes_of_shapes(shape, size):
    assert schedule.bytes_of(shape) == size
