"""Of the contract, what touches most of how a container is started, served and ended: for runtimes beside the usual one."""

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
"""A fixture of theirs: whoever collects them needs it."""
