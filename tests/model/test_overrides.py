"""Options in a class's name: written and read, and nothing else is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model import overrides
from greenroom.model.spec import FunctionSpec, RetrySpec

VALUES = {
    "cpu": st.floats(0, 100), "cpu_limit": st.floats(0, 100), "memory": st.integers(0, 10**6), "gpu": st.sampled_from(["", "A100:2,T4"]),
    "timeout": st.floats(0.001, 10**6), "max_containers": st.integers(1, 1000), "buffer_containers": st.integers(0, 9),
    "retries": st.tuples(st.integers(0, 10), st.floats(0, 60), st.floats(1, 10), st.floats(0, 60)).map(list),
    "max_inputs": st.integers(1, 100), "batch_wait": st.floats(0, 10),
}  # fmt: skip


@given(st.fixed_dictionaries({}, optional=VALUES).filter(bool))
def test_what_is_written_is_read(fields):
    text = overrides.write(fields)
    assert not set(text) & set("?/ ")
    if len(text) > 500:
        with pytest.raises(ValueError):
            overrides.read(text)
        return
    found = overrides.read(text)
    assert found == {**fields, **({"retries": RetrySpec(*fields["retries"])} if "retries" in fields else {})}


def test_all_of_them_are_fields_of_a_function():
    assert set(FunctionSpec._fields) > overrides.FIELDS


@pytest.mark.parametrize("text", [
    "", "&", "cpu", "cpu=", "cpu=x", "cpu=-1", "cpu=NaN", "cpu=Infinity", "cpu=1e400", "cpu=true", 'cpu="1"', "cpu=[1]", "cpu=01",
    "cpu=1&cpu=1", "memory=1&cpu=1", "cpu= 1", "memory=1.5", "max_containers=0", "timeout=0", "min_containers=1", "secrets=[]",
    "environment={}", "image=1", "name=1", 'gpu="a/b"', 'gpu="a b"', "retries=1", "retries=[1,2,3]", "retries=[11,1,1,1]",
    "retries=[1,1,0.5,1]", "retries=[true,1,1,1]", "cpu=" + "[" * 5000, "cpu=" + "1" * 600, "max_inputs=1e3", "single_use=true",
])  # fmt: skip
def test_nothing_else_is_read(text):
    with pytest.raises(ValueError):
        overrides.read(text)


@given(st.text())
def test_whatever_a_container_says(text):
    try:
        assert overrides.write({k: list(v) if k == "retries" else v for k, v in overrides.read(text).items()}) == text
    except ValueError:
        pass
