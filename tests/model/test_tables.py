"""The three state tables, whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model import container_state as c
from greenroom.model import image_state as m
from greenroom.model import input_state as i
from greenroom.model.errors import StateError

TABLES = [
    (c.TRANSITIONS, c.ContainerState, c.ContainerEvent, c.next_state, c.ContainerState.PENDING),
    (i.TRANSITIONS, i.InputState, i.InputEvent, i.next_state, i.InputState.QUEUED),
    (m.TRANSITIONS, m.ImageState, m.ImageEvent, m.next_state, m.ImageState.PENDING),
]
E = c.ContainerEvent
WITHOUT_USER_CODE = {E.STOP, E.FAULT, E.GRACE_EXPIRED, E.RELEASED, E.RELEASED_AFTER_FAULT, E.LOST}
"""What happens without user code's help: the clock, the worker, and the kernel see to it."""


@pytest.mark.parametrize(("table", "states", "events", "move", "first"), TABLES)
class TestEach:
    def test_every_state_is_reachable(self, table, states, events, move, first):
        seen, todo = {first}, [first]
        while todo:
            for after in table[todo.pop()].values():
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        assert seen == set(states)

    def test_what_the_table_lacks_is_refused(self, table, states, events, move, first):
        for state in states:
            for event in events:
                if event in table[state]:
                    assert move(state, event) is table[state][event]
                else:
                    with pytest.raises(StateError, match=f"{state} does not accept {event}"):
                        move(state, event)


@pytest.mark.parametrize("state", sorted(c.LIVE))
def test_live_containers_accept_stop_fault_and_lost(state):
    for event in (E.STOP, E.FAULT, E.LOST):
        assert event in c.TRANSITIONS[state]
    assert c.next_state(state, E.LOST) is c.ContainerState.FAILED


@pytest.mark.parametrize("state", sorted(c.LIVE))
def test_an_end_needs_no_help_of_user_code(state):
    seen, todo = {state}, [state]
    while todo:
        for event, after in c.TRANSITIONS[todo.pop()].items():
            if event in WITHOUT_USER_CODE and after not in seen:
                seen.add(after)
                todo.append(after)
    assert seen & {c.ContainerState.STOPPED, c.ContainerState.FAILED}


@given(st.lists(st.sampled_from(list(E))))
def test_any_history_can_be_stopped(events):
    state = c.ContainerState.PENDING
    for event in events:
        if event in c.TRANSITIONS[state]:
            state = c.next_state(state, event)
    for event in (E.STOP, E.GRACE_EXPIRED, E.RELEASED):
        if event in c.TRANSITIONS[state]:
            state = c.next_state(state, event)
    assert state not in c.LIVE


def test_no_input_is_routed_before_enter_is_over():
    accepting = [state for state, row in c.TRANSITIONS.items() if E.INPUT_STARTED in row]
    assert accepting == [c.ContainerState.IDLE, c.ContainerState.RUNNING]


@pytest.mark.parametrize("state", list(m.ImageState))
def test_no_image_is_lost_for_good(state):
    """Whatever has happened to it, it can be made yet."""
    seen, todo = set(), [state]
    while todo:
        for after in m.TRANSITIONS[todo.pop()].values():
            if after not in seen:
                seen.add(after)
                todo.append(after)
    assert m.ImageState.READY in seen


def test_a_lost_worker_takes_what_it_made_and_what_it_makes():
    losing = [state for state, row in m.TRANSITIONS.items() if m.ImageEvent.LOST in row]
    assert losing == [m.ImageState.BUILDING, m.ImageState.READY]
    assert {m.next_state(state, m.ImageEvent.LOST) for state in losing} == {m.ImageState.PENDING}
