"""Hooks under their one driver, in any mix of sync, async and failing ones."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenroom
from greenroom.usercode.definition import describe_class
from greenroom.usercode.service import Service, drive, drive_async

kinds = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=4)


def make(enters, exits, log):
    def hook(name, is_async, fails):
        def run():
            log.append(name)
            if fails:
                raise ValueError(name)

        def sync(self):
            run()

        async def coroutine(self):
            await asyncio.sleep(0)
            run()

        function = coroutine if is_async else sync
        function.__name__ = function.__qualname__ = name
        return function

    body = {}
    for number, (is_async, fails) in enumerate(enters):
        body[f"e{number}"] = greenroom.enter()(hook(f"e{number}", is_async, fails))
    for number, (is_async, fails) in enumerate(exits):
        body[f"x{number}"] = greenroom.exit()(hook(f"x{number}", is_async, fails))
    service = Service.for_class(describe_class(type("Model", (), body)))
    service.construct((), {})
    return service


def live(service, log, steps):
    try:
        steps(service.enter(lambda *hook: None))
    except ValueError as error:
        assert str(error) == log[-1]
        assert f"Model.{log[-1]}" in error.__notes__[0]
    owed = service.owes_exit
    steps(service.exit(lambda *hook: None))
    steps(service.exit(lambda *hook: None))
    return owed


@given(kinds, kinds, st.booleans())
def test_any_mix(enters, exits, on_a_loop):
    log = []
    service = make(enters, exits, log)
    if on_a_loop:
        owed = live(service, log, lambda steps: asyncio.run(drive_async(steps)))
    else:
        loop = asyncio.new_event_loop()
        owed = live(service, log, lambda steps: drive(steps, loop.run_until_complete))
        loop.close()
    first_failure = next((n for n, (_, fails) in enumerate(enters) if fails), None)
    ran = enters if first_failure is None else enters[: first_failure + 1]
    expected = [f"e{n}" for n in range(len(ran))]
    assert owed == (first_failure is None or first_failure > 0)
    if owed:
        expected += [f"x{n}" for n in reversed(range(len(exits)))]
        assert len(service.exit_errors) == sum(fails for _, fails in exits)
    assert log == expected


def test_with_in_async_code_says_what_to_write():
    app = greenroom.App("async")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        async def load(self):
            pass

        @greenroom.method()
        def f(self):
            return 1

    async def wrong():
        with Model():
            pass

    async def right():
        async with Model() as model:
            return model.f.local()

    with pytest.raises(greenroom.exception.ExecutionError, match="`async with` it"):
        asyncio.run(wrong())
    assert asyncio.run(right()) == 1
