"""When the inputs of a function that takes batches are enough for one: a pure function of what is seen and what is wished."""


def seconds_until_batch(waiting: int, waited: float, *, most: int, wait: float) -> float:
    """How long a container that has nothing to do leaves the inputs that wait where they are; 0: they are a batch.

    Args:
        waiting: so many of them, one at least.
        waited: seconds since the first of them came.
        most: inputs that a batch may have.
        wait: seconds that its first one waits for others.
    """
    left = wait - waited
    # A timer may come a little early, and what it would wait for is then less than a clock can tell.
    return left if waiting < most and left > 1e-6 else 0.0
