"""A container whose code says to the server what it likes, and a good one beside it, in a real cluster."""

import greenroom
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.messages import PROTOCOL_VERSION, Hello, Welcome


def say(*messages):
    """Within a container: send ``(connection, message, payloads)``, over the agent's own ``data`` or ``control``."""
    import gc

    from greenroom.agent.serve import Agent

    agent = next(thing for thing in gc.get_objects() if isinstance(thing, Agent))
    for connection, message, payloads in messages:
        if connection == "data":
            agent.data.send(message, payloads)
        else:
            agent.control._connection.send(message, payloads)
    return agent


def hostile_app():
    """The app, ``attack(messages, then)``, which says them and waits for its own end or for ``then``, and ``good(x)``."""
    app = greenroom.App("hostile")

    @app.function(serialized=True, max_containers=1, timeout=20, scaledown_window=600)
    def attack(messages, stay):
        import threading

        from tests.server.hostile import say

        say(*messages)
        if stay:
            threading.Event().wait()
        return "unharmed"

    @app.function(serialized=True, max_containers=1, scaledown_window=600)
    def good(x):
        return x

    @app.function(serialized=True, max_containers=1, scaledown_window=600)
    def count(n):
        yield from range(n)

    return app, attack, good, count


class Speaker:
    """A connection to a cluster's server, of a container of that function, or of whoever has that token."""

    def __init__(self, cluster, function="", token="", channel=""):
        def find(server):
            live = server.lifecycle.containers.live()
            return next(c.token for c in live if c.pool.function.spec.name == function)

        self.connection = BlockingConnection(connect(str(cluster.run / "server.sock")))
        self.connection.send(Hello("container", token or cluster.on_server(find), PROTOCOL_VERSION, channel))

    def say(self, message, payloads=None):
        self.connection.send(message, payloads)

    def hear(self):
        return self.connection.receive(30)[0]

    def is_closed(self):
        """Whatever it still hears, the end comes."""
        try:
            while True:
                self.hear()
        except greenroom.ConnectionError:
            return True

    def __enter__(self):
        assert isinstance(self.hear(), Welcome)
        return self

    def __exit__(self, *error):
        self.connection.close()
