import json

from hypothesis import given
from hypothesis import strategies as st

from greenroom.model.schedule import Cron, Period
from greenroom.model.spec import FunctionSpec, MethodSpec, RetrySpec

specs = st.builds(
    FunctionSpec,
    function_id=st.text(),
    app_id=st.text(),
    name=st.text(),
    is_class=st.booleans(),
    module=st.text(),
    qualname=st.text(),
    methods=st.lists(st.builds(MethodSpec, st.text(), st.booleans(), st.booleans(), st.just({}))),
    retries=st.builds(RetrySpec, st.integers(0, 10), st.floats(0, 60), st.floats(1, 10), st.floats(1, 60)),
    parameters=st.dictionaries(st.text(), st.tuples(st.text(), st.booleans()).map(list)),
    environment=st.dictionaries(st.text(), st.text()),
    schedule=st.sampled_from([{}, Period(1, 2.0)._asdict(), Cron("* * * * *", "UTC")._asdict()]),
    secrets=st.lists(st.tuples(st.text(), st.lists(st.text()), st.dictionaries(st.text(), st.text())).map(list)),
    **{
        name: st.floats(0, 1e6)
        for name in ("timeout", "startup_timeout", "scaledown_window", "cpu", "cpu_limit", "batch_wait")
    },
)


@given(specs)
def test_json_and_back(spec):
    assert FunctionSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(
    st.builds(RetrySpec, st.integers(0, 10), st.floats(0, 60), st.floats(1, 10), st.floats(1, 60)),
    st.integers(1, 10**6),
)
def test_delays_rise_to_their_limit(spec, attempt):
    assert 0 <= spec.delay(attempt) <= spec.delay(attempt + 1) <= spec.max_delay
