"""The contract in a short form, in containers with a kernel of their own: gVisor's ``runsc``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from greenroom.wire.payload import INLINE_ONLY
from tests.conftest import Need, assert_nothing_left
from tests.contract import test_calls, test_ends, test_hooks

SHORT = [
    test_calls.test_calls_from_inside_containers,
    test_calls.test_cancel_is_a_base_exception_inside,
    test_calls.test_concurrent_async_inputs_are_tasks,
    test_calls.test_concurrent_sync_inputs_use_threads,
    test_calls.test_crash_is_told_with_its_reason,
    test_calls.test_exception_keeps_type_frames_and_cause,
    test_calls.test_generators,
    test_calls.test_large_arguments_and_results,
    test_calls.test_map,
    test_calls.test_retries,
    test_calls.test_secrets_and_a_clean_environment,
    test_calls.test_spawn_get_gather,
    test_ends.test_a_forked_child_ends_where_it_leaves_user_code,
    test_ends.test_a_process_that_stays_holds_up_no_end,
    test_ends.test_no_exit_hook_after_a_sudden_death,
    test_hooks.test_custom_constructor,
    test_hooks.test_enter_once_calls_exit,
    test_hooks.test_enter_raises_caller_gets_it_and_exit_hooks_by_the_rule,
    test_hooks.test_exit_hook_raises_others_still_run,
    test_hooks.test_exit_phase_past_its_grace_is_killed,
    test_hooks.test_hook_order_base_first_and_exits_reversed,
    test_hooks.test_stop_while_entering_runs_exit_hooks_that_are_owed,
    test_hooks.test_sync_and_async_hooks_share_one_loop,
]
running = test_calls.running
globals().update({test.__name__: test for test in SHORT})  # collected here once more, with this module's fixtures


@pytest.fixture(scope="module")
def settings(_shared: Path) -> Settings:
    """Of the sandbox that these are for."""
    Need.runtime("runsc")
    return Settings(exit_grace=3.0, cancel_grace=1.0, sandbox="oci", runtime="runsc", shared_dirs=str(_shared))


@pytest.fixture(scope="module")
def cluster(settings: Settings) -> Iterator[Cluster]:
    """One of which nothing is left."""
    with Cluster(settings=settings) as made:
        yield made
    assert_nothing_left(made.home)


def test_the_kernel_is_not_the_hosts(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f():
        import os

        return os.uname().version

    with app.run():
        import os

        assert f.remote() != os.uname().version


def test_what_is_too_large_for_a_frame_is_refused_in_one_line(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def size(data):
        return len(data)

    @app.function(serialized=True)
    def make(count):
        return bytes(count)

    with app.run():
        with pytest.raises(greenroom.RequestSizeError, match="more than the 50331648 that can be passed"):
            size.remote(bytes(INLINE_ONLY + 1))
        with pytest.raises(greenroom.RequestSizeError, match="50331648 bytes"):
            make.remote(INLINE_ONLY + 1)
        assert size.remote(bytes(1 << 20)) == 1 << 20
