"""Serving several sync inputs at once: a thread each, started when first needed; the main thread reads the socket."""

import threading
from queue import SimpleQueue

from greenroom.agent.serve import Agent, Item


def serve(agent: Agent) -> None:
    """Until told to stop and every input has ended; raises ConnectionError when the server has gone."""
    queue: SimpleQueue[Item] = SimpleQueue()
    threads: list[threading.Thread] = []
    try:
        while not agent.stopping:
            agent.take(*agent.receive())
            while (item := agent.next_item()) is not None:
                if len(threads) < min(len(agent.running), agent.spec.max_inputs):
                    name = f"greenroom-input-{len(threads)}"
                    threads.append(threading.Thread(target=_work, args=(agent, queue), name=name, daemon=True))
                    threads[-1].start()
                queue.put(item)
    finally:
        agent.wait_for_running()


def _work(agent: Agent, queue: "SimpleQueue[Item]") -> None:
    while True:
        agent.run_sync(queue.get(), main=False)
