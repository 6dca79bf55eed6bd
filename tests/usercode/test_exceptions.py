"""Tracebacks of frames that ran elsewhere: what debuggers and notebooks read of them."""

import dis
import traceback

from hypothesis import given
from hypothesis import strategies as st

from greenroom.usercode.exceptions import make_traceback

LINES = st.integers(1, 100_000)


@given(st.lists(st.tuples(LINES, LINES, st.sampled_from(["f", "A.f", "f.<locals>.<lambda>"])), min_size=1, max_size=5))
def test_every_step_names_an_instruction_in_its_line_and_no_column(steps):
    made = make_traceback([("/nowhere.py", line, name, first) for line, first, name in steps])
    for line, first, name in steps:
        assert made is not None
        code = made.tb_frame.f_code
        assert (made.tb_lineno, code.co_firstlineno, code.co_qualname) == (line, first, name)
        assert code.co_name == name.rpartition(".")[2]
        assert made.tb_lasti in {instruction.offset for instruction in dis.get_instructions(code)}
        assert set(code.co_positions()) == {(line, line, None, None)}
        made = made.tb_next
    assert made is None


def test_it_prints_as_any_other():
    error = ValueError("x").with_traceback(make_traceback([(__file__, 3, "here", 1), ("/nowhere.py", 7, "there", 5)]))
    assert "".join(traceback.format_exception(error)) == (
        "Traceback (most recent call last):\n"
        f'  File "{__file__}", line 3, in here\n'
        "    import dis\n"
        '  File "/nowhere.py", line 7, in there\n'
        "ValueError: x\n"
    )
