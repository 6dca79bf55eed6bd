"""Serving inputs one by one on the main thread, which reads its own socket: no event loop, no other thread in the way."""

from greenroom.agent.serve import Agent


def serve(agent: Agent) -> None:
    """Until told to stop; raises ConnectionError when the server has gone."""
    while True:
        item = agent.next_item()
        if item is None:
            if agent.stopping:
                return
            agent.take(*agent.receive())
            if len(agent.pending) > 1:
                agent.control.watch_batch()
            continue
        agent.run_sync(item, main=True)
