"""A shell that allows few descriptors limits the program, not the server and its worker."""

import subprocess
import textwrap

from tests.conftest import assert_nothing_left
from tests.e2e.programs import COMMAND, environment, write


def test_more_containers_than_the_soft_limit_has_descriptors(home, tmp_path):
    program = write(
        tmp_path,
        """
        import greenroom
        app = greenroom.App("many")

        @app.function(min_containers=12)
        def limit():
            import resource
            return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

        @app.local_entrypoint()
        def main():
            import json, os, subprocess
            while True:
                listed = subprocess.run([os.environ["COMMAND"], "container", "list", "--json"], capture_output=True, check=True)
                if sum(record["state"] == "IDLE" for record in json.loads(listed.stdout)) == 12:
                    break
            print("all are up")
        """,
    )
    script = textwrap.dedent('ulimit -Sn 48; exec "$@"')
    done = subprocess.run(
        ["bash", "-c", script, "bash", *COMMAND, "run", str(program)],
        env=environment(COMMAND=COMMAND[0]),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all are up" in done.stdout
    assert_nothing_left(home)
