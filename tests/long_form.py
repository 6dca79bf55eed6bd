"""What ``make test-faults`` has, and ``make test`` in a short form: at least one of each kind of thing, in both sandboxes where
they differ."""

import os
from collections.abc import Callable, Sequence

import pytest

LONG = os.environ.get("GREENROOM_TEST_FAULTS") == "long"

long_form = pytest.mark.skipif(not LONG, reason="long form only: make test-faults")
"""A test, or one of its variants."""


def by_turns(cases: Sequence[tuple[object, ...]], in_both: Callable[..., bool] = lambda *case: False) -> list[object]:
    """``(sandbox, *case)`` of all; the short form has a case in one sandbox and the next in the other, and some in both."""
    return [
        pytest.param(sandbox, *case, marks=() if number % 2 == contained or in_both(*case) else long_form)
        for contained, sandbox in enumerate(("process", "oci"))
        for number, case in enumerate(cases)
    ]
