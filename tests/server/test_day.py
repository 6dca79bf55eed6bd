"""A day of load on a whole server, with its store, in simulated time: in the evening it has no more than in the morning.

Containers are made up (see ``greenroom.testing.simulation``); everything else is the server's own.
"""

import gc
import itertools
from collections import Counter

from greenroom.model.ids import new_id
from greenroom.model.settings import Settings
from greenroom.server.core import Server
from greenroom.server.defining import add_function
from greenroom.server.durable import CLEANING, RETENTION
from greenroom.server.machine import Machine
from greenroom.server.store.database import Database
from greenroom.server.store.file import NAME
from greenroom.testing import Load
from greenroom.testing.simulated_time import SimulatedClock, run_simulated
from greenroom.testing.simulation import SimulatedWorker, spec_of
from greenroom.wire.deploy_messages import deployed_id
from greenroom.wire.messages import Collect, Done, Outputs, Status

HOUR = 3600.0
LOADS = [
    Load("quick", (), seconds=0.2, cpu=0.5, scaledown_window=60),
    Load("several", (), seconds=2.0, max_inputs=10, target_inputs=5, scaledown_window=60),
    Load("batched", (), seconds=0.5, max_batch_size=8, wait_ms=500, scaledown_window=60),
    Load("broken", (), seconds=0.5, starts_fail_until=30 * 24 * HOUR),
]
TABLES = ("calls", "inputs", "outputs", "versions", "functions")


class Client:
    """Whoever calls and collects."""

    backlog = 0

    def __init__(self):
        self.calls = set()
        self.outputs = Counter()
        self.done = 0

    def send(self, message, payloads=None):
        if isinstance(message, Outputs):
            self.outputs.update(status for _, status, _ in message.items)
        else:
            assert isinstance(message, Done), message
            self.done += 1


class Day:
    """A server, and what is asked of it."""

    def __init__(self, loop, home):
        self.loop = loop
        self.client = Client()
        self.numbers = itertools.count()
        self.spawned = []
        self.server = Server(
            home=home, run=home / "run", server_id="sv-day", token="tk", settings=Settings(), machine=Machine(4, 16_000, 0),
            lock=-1, clock=SimulatedClock(loop),
        )  # fmt: skip
        self.store = Database(home / NAME, loop)
        loads = {load.name: load for load in LOADS}
        self.server.lifecycle.worker = SimulatedWorker(
            loop, self.server.lifecycle, lambda c: loads[c.pool.function.spec.name]
        )
        loop.while_busy(lambda: bool(self.store.pending or self.server.disk.pending))

    async def wait_for(self, begin):
        """Until what ``begin`` begins, with a callback, has ended."""
        future = self.loop.create_future()
        begin(lambda *given: future.set_result(given))
        return await future

    async def until(self, at):
        """Time passes up to that second of the loop's."""
        await self.wait_for(lambda then: self.loop.call_at(at, then))

    async def deploy(self):
        """The next version."""
        app = self.server.deployments.begin(new_id("ap"), "day", "rolling")
        for load in LOADS:
            schedule = {"months": 0, "seconds": HOUR} if load.name == "quick" else {}
            spec = spec_of(load, app.id)._replace(schedule=schedule, timeout=7 * 24 * HOUR)
            add_function(self.server, app, spec, b"", lambda urls, error: None)
        (why,) = await self.wait_for(lambda then: self.server.deployments.deploy(app, then))
        assert why == ""

    def pool(self, name):
        return self.server.deployments.function(deployed_id("day", name)).pools[""]

    def call(self, name):
        """``.remote()``"""
        calls = self.server.lifecycle.calls
        calls.add(calls.begin(new_id("fc"), self.pool(name), "", "unary", self.client), 0, [b"x" * 20])

    def spawn(self, name, count):
        """``.spawn_map()``"""
        server, durable = self.server, self.server.durable
        call = server.lifecycle.calls.begin(new_id("fc"), self.pool(name), "", "spawn", None)
        durable.begun(call)
        durable.added(call, 0, [b"x" * 20] * count)
        durable.complete(call, count, self.client, next(self.numbers))
        server.lifecycle.calls.end_inputs(call, count)
        self.spawned.append(call.id)

    async def hour(self, number, load):
        """One hour, in the end of which nothing is left to do."""
        begin = number * HOUR
        for minute in range(0, 50, 10) if load else ():
            await self.until(begin + minute * 60 + 1)
            if number % 6 == 5 and minute == 20:
                await self.deploy()
            for name in ("quick", "several", "batched"):
                for _ in range(6):
                    self.call(name)
            self.call("broken")
            self.spawn("quick", 1)
            self.spawn("batched", 40)
            for call_id in self.spawned[-4:]:
                self.server.durable.collect(Collect(next(self.numbers), call_id), self.client)
        await self.until(begin + HOUR - 1)

    async def kept(self):
        """Rows of each table, and how many calls are older than any may be."""
        oldest = self.server.lifecycle.clock.wall() - RETENTION - 2 * CLEANING

        def ask(connection):
            rows = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}
            old = connection.execute("SELECT count(*) FROM calls WHERE finished_at < ?", (oldest,)).fetchone()[0]
            open_ = connection.execute("SELECT count(*) FROM calls WHERE finished_at IS NULL").fetchone()[0]
            return rows, old, open_

        ((done,),) = [await self.wait_for(lambda then: self.store.read(ask, then))]
        return done.result()

    async def held(self):
        """What the server has in memory; rows and messages apart, of which the store's threads have the last few in hand."""
        for ask in (self.store.write, self.store.read):  # each thread has its latest piece of work in hand
            await self.wait_for(lambda then, ask=ask: ask(lambda connection: None, then))
        gc.collect()
        lifecycle = self.server.lifecycle
        return {
            "containers": len(lifecycle.containers.by_id) + len(lifecycle.containers.by_token),
            "calls": len(lifecycle.calls.by_id),
            "apps": len(self.server.apps),
            "functions": len(self.server.functions),
            "timers": sum(not timer.cancelled() for timer in self.loop._scheduled),
            **Counter(
                type(thing).__qualname__
                for thing in gc.get_objects()
                if str(type(thing).__module__).startswith("greenroom.") and not isinstance(thing, tuple)
            ),
        }

    async def end(self):
        self.loop.while_busy(lambda: True)
        self.server.shut_down("the day is over")
        await self.server.finished


def test_in_the_evening_there_is_no_more_than_in_the_morning(tmp_path):
    async def run(loop):
        day = Day(loop, tmp_path)
        await day.wait_for(lambda then: day.server.use_store(day.store, then))
        await day.deploy()
        for number in range(8):
            await day.hour(number, load=True)
        morning = await day.held()
        for number in range(8, 24):
            await day.hour(number, load=True)
        evening = await day.held()
        rows, _, unfinished = await day.kept()
        made = len(day.spawned)
        for number in range(24, 24 + 8 * 24):  # a week and a day in which only the schedule runs
            await day.hour(number, load=False)
        late = await day.held()
        kept = await day.kept()
        await day.end()
        return morning, evening, late, rows, unfinished, made, kept, day.client

    morning, evening, late, rows, unfinished, made, (late_rows, old, _), client = run_simulated(run)
    print(morning, evening, late, rows, client.outputs)
    assert made == 24 * 5 * 2
    assert unfinished == 0
    assert rows["calls"] == made + 23
    assert evening == morning
    assert late == evening
    assert old == 0, "results are kept for a week after their call's end, and no longer"
    assert late_rows == {**rows, "calls": late_rows["calls"], "outputs": late_rows["calls"]}
    assert 7 * 24 <= late_rows["calls"] <= 7 * 24 + 2
    assert rows["versions"] == 1 + 4, "of which the last 20 would be kept"
    assert client.outputs[Status.OK] > 24 * 5 * (3 * 6 + 41), "what was called, and much of what was collected"
    assert client.outputs.total() - client.outputs[Status.OK] == 24 * 5, "those of what can't start"
