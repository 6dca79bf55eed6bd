"""The plain process: no isolation but an environment, a working directory and a session of its own. Works everywhere."""

import os
import subprocess
import sys

from greenroom.worker.sandbox.base import Launch


class ProcessSandbox:
    """See :class:`greenroom.worker.sandbox.base.Sandbox`."""

    def start(self, launch: Launch, begin_fd: int, ledger_fd: int) -> int:
        """Start a supervisor in a session of its own, so that the terminal's Ctrl-C doesn't reach it."""
        # -P: what the user's code writes into its working directory must not get into the agent.
        command = [
            sys.executable, "-P", "-m", "greenroom.agent",
            "--begin", str(begin_fd),
            "--ledger", str(ledger_fd),
            "--watch", str(launch.watch_fd),
            "--dir", str(launch.directory),
            "--backstop", str(launch.backstop),
        ]  # fmt: skip
        output = os.open(launch.output, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            process = subprocess.Popen(
                command,
                cwd=launch.home,
                env=launch.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(begin_fd, ledger_fd, launch.watch_fd),
                start_new_session=True,
            )
        finally:
            os.close(output)
        process.returncode = 0  # the runner waits for it, by its pidfd; Popen must not
        return process.pid
