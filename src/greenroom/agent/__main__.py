"""``python -m greenroom.agent``: becomes a container's supervisor, and its child the agent."""

import sys

from greenroom.agent.supervisor import run

if __name__ == "__main__":
    run(sys.argv[1:])
