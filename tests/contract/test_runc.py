"""The contract in a short form by runc, which has other ways than crun. ``make test-runtimes`` has all of it."""

from pathlib import Path

import pytest

from greenroom.model.settings import Settings
from tests.contract import short_form, test_images, test_queue, test_resources
from tests.contract.conftest import ALL_RUNTIMES, settings_of

TOO = [
    test_images.test_names_and_name_servers_of_a_build_are_in_no_image,
    test_images.test_secrets_reach_a_step_and_stay_in_no_layer,
    test_images.test_what_a_step_removes_is_gone,
    test_images.test_what_build_hooks_write_is_there_and_what_they_set_is_not,
    test_queue.test_output_goes_on_after_a_program_opened_stdout_anew,
    test_resources.test_a_blocked_network,
    test_resources.test_out_of_memory_is_told_with_the_limit,
]
"""What gVisor's short form hasn't: limits, networks, layers."""
running = short_form.running
if not ALL_RUNTIMES:  # else they are there in their own modules
    globals().update({test.__name__: test for test in (*short_form.SHORT, *TOO)})


@pytest.fixture(scope="module")
def settings(_shared: Path) -> Settings:
    """Of the sandbox that these are for."""
    return settings_of("runc", _shared)
