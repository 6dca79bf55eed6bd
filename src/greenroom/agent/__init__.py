"""What runs inside a container: a supervisor, forked off first, and the agent, which serves inputs. Standard library only."""
