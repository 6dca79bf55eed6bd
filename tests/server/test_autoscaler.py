import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.server.autoscaler import Peak, Policy, Sample, desired_containers, prefetch_depth, smoothed

samples = st.builds(
    Sample,
    queued=st.integers(0, 10**6),
    running=st.integers(0, 10**4),
    seconds_per_input=st.none() | st.floats(0, 1000),
    seconds_to_start=st.floats(0.001, 60),
)
policies = st.tuples(st.integers(0, 10), st.integers(0, 200), st.integers(0, 5), st.integers(1, 100)).map(
    lambda t: Policy(t[0], max(1, t[0] + t[1]), t[2], t[3])
)


@pytest.mark.parametrize(
    ("sample", "policy", "wanted"),
    [
        (Sample(0, 0), Policy(), 0),
        (Sample(0, 0), Policy(min_containers=2), 2),
        (Sample(1, 0), Policy(), 1),
        (Sample(5, 0), Policy(), 5),
        (Sample(5, 0), Policy(max_containers=3), 3),
        (Sample(5, 5), Policy(target_inputs=4), 3),
        (Sample(1, 0), Policy(buffer_containers=2), 3),
        (Sample(10_000, 0, 0.00003, 0.3), Policy(), 1),
        (Sample(100, 0, 1.0, 0.5), Policy(), 100),
        (Sample(100, 0, 0.05, 0.5), Policy(), 10),
    ],
)
def test_table(sample, policy, wanted):
    assert desired_containers(sample, policy) == wanted


@given(samples, policies)
def test_between_the_bounds_and_some_where_there_is_demand(sample, policy):
    wanted = desired_containers(sample, policy)
    assert policy.min_containers <= wanted <= policy.max_containers
    if sample.queued + sample.running:
        assert wanted >= 1


@given(samples, policies, st.integers(0, 1000))
def test_more_demand_never_wants_fewer(sample, policy, more):
    assert desired_containers(sample._replace(queued=sample.queued + more), policy) >= desired_containers(
        sample, policy
    )


@given(st.none() | st.floats(0, 1000))
def test_prefetch_is_about_ten_milliseconds(seconds):
    depth = prefetch_depth(seconds)
    assert 1 <= depth <= 256
    if seconds and depth > 1:
        assert depth * seconds <= 0.0101


def test_a_slow_input_counts_at_once_and_is_forgotten_slowly():
    assert smoothed(None, 1.0) == 1.0
    assert smoothed(0.001, 1.0) == 1.0
    assert 0.7 < smoothed(1.0, 0.001) < 1.0


def test_what_was_needed_at_once_is_remembered_for_a_whole_window():
    peak = Peak()
    peak.note(6)
    peak.turn()
    peak.note(2)
    assert peak.value == 6
    peak.turn()
    assert peak.value == 2
    peak.turn()
    assert peak.value == 0
