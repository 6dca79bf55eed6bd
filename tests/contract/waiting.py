"""What functions of the contract suite wait for, inside their containers."""

import os
import time


def wait_for_file(path):
    """Until it is there."""
    limit = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > limit:
            raise AssertionError(f"{path} never came")
        time.sleep(0.005)
