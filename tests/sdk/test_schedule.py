"""``schedule=``: what can be said, what is refused, what travels, and what a run says of it."""

import pytest

import greenroom
from greenroom.model.schedule import Cron, Period
from greenroom.sdk.options import read_options
from greenroom.sdk.output import use_sink
from greenroom.sdk.specs import function_specs
from greenroom.testing import Cluster
from tests.contract.conftest import Recorder
from tests.e2e.programs import run


@pytest.mark.parametrize(
    ("made", "spec", "text"),
    [
        (greenroom.Period(hours=1), Period(0, 3600.0), "Period(hours=1)"),
        (greenroom.Period(years=1, months=2, weeks=1, days=1, minutes=2, seconds=0.5),
         Period(14, 8 * 86_400 + 120.5), "Period(years=1, months=2, weeks=1, days=1, minutes=2, seconds=0.5)"),
        (greenroom.Period(seconds=1), Period(0, 1.0), "Period(seconds=1)"),
        (greenroom.Cron("0 9 * * 1-5"), Cron("0 9 * * 1-5", "UTC"), "Cron('0 9 * * 1-5')"),
        (greenroom.Cron("*/5 * * JAN sun", timezone="Europe/Berlin"), Cron("*/5 * * JAN sun", "Europe/Berlin"),
         "Cron('*/5 * * JAN sun', timezone='Europe/Berlin')"),
        (greenroom.Cron("0 6 * * *", "America/New_York"), Cron("0 6 * * *", "America/New_York"),
         "Cron('0 6 * * *', timezone='America/New_York')"),
    ],
)  # fmt: skip
def test_made(made, spec, text):
    assert (made.spec, repr(made)) == (spec, text)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: greenroom.Period(), r"Period\(\) must be at least one second"),
        (lambda: greenroom.Period(days=0), "at least one second"),
        (lambda: greenroom.Period(seconds=0.01), r"Period\(seconds=0.01\) must be at least one second"),
        (lambda: greenroom.Period(hours=-1), r"Period\(hours=-1\) must be a whole number, and not negative"),
        (lambda: greenroom.Period(hours=2, minutes=-1), r"minutes=-1\) must be"),
        (lambda: greenroom.Period(hours=1.5), r"hours=1.5\) must be a whole number"),
        (lambda: greenroom.Period(days=True), "must be a whole number"),
        (lambda: greenroom.Period(days="1"), "must be a whole number"),
        (lambda: greenroom.Period(seconds="1"), "must be a number"),
        (lambda: greenroom.Period(seconds=float("nan")), "must be a number"),
        (lambda: greenroom.Period(seconds=float("inf")), "longer than a thousand years"),
        (lambda: greenroom.Period(years=1001), "longer than a thousand years"),
        (lambda: greenroom.Period(weeks=10**30), "longer than a thousand years"),
        (lambda: greenroom.Cron("x"), r"Cron\('x'\): an expression has five fields"),
        (lambda: greenroom.Cron("@daily"), "five fields"),
        (lambda: greenroom.Cron("0 0 9 * * 1"), "five fields"),
        (lambda: greenroom.Cron("61 * * * *"), r"Cron\('61 \* \* \* \*'\) is no cron expression: bad minute"),
        (lambda: greenroom.Cron("* * * * 1L/2"), "is no cron expression: bad day-of-week"),
        (lambda: greenroom.Cron("9" * 5000 + " * * * *"), "is no cron expression$"),
        (lambda: greenroom.Cron("0 0 30 2 *"), "is no cron expression: bad day-of-month"),
        (lambda: greenroom.Cron("0 0 */20 * 1L"), "never comes"),
        (lambda: greenroom.Cron("* * * * *", timezone="Europe/Berln"), "timezone='Europe/Berln'.: no such time zone"),
        (lambda: greenroom.Cron("* * * * *", timezone="../x"), "no such time zone"),
        (lambda: greenroom.Cron("* * * * *", timezone="Europe"), "no such time zone"),
        (lambda: greenroom.Cron("* * * * *", timezone=None), "timezone must be a str"),
        (lambda: greenroom.Cron(5), "cron_string must be a str"),
        (lambda: read_options("@app.function", {"schedule": "@daily"}), "schedule='@daily' must be a Period"),
        (lambda: read_options("@app.function", {"schedule": 60}), "schedule=60 must be a Period"),
        (lambda: greenroom.App("t").cls(schedule=greenroom.Period(days=1)), "@app.cls: schedule= goes on a function"),
        (lambda: greenroom.method(schedule=greenroom.Period(days=1)), "schedule"),
    ],
)  # fmt: skip
def test_refused(make, said):
    with pytest.raises(greenroom.InvalidError, match=said):
        make()


def scheduled():
    app = greenroom.App("t")

    @app.function(serialized=True, schedule=greenroom.Period(hours=1))
    def tick():
        return 1

    @app.function(serialized=True, schedule=greenroom.Cron("0 9 * * *"))
    def report(to="all"):
        return to

    @app.function(serialized=True, schedule=greenroom.Period(days=1), volumes={"/v": greenroom.Volume.from_name("v")})
    def clean(): ...

    @app.function(serialized=True)
    def other(): ...

    return app, tick, report


def test_what_travels():
    app, *_ = scheduled()
    specs = {spec.name: spec.schedule for spec, _ in function_specs(app._functions)}
    assert specs == {
        "tick": {"months": 0, "seconds": 3600.0},
        "report": {"cron": "0 9 * * *", "timezone": "UTC"},
        "other": {},
    }
    other = greenroom.App("u")
    other.add_like(len, app, "tick", timeout=5.0)
    assert other._functions["len"][2].schedule is False, "a shell in containers like its is no second firing"


def test_a_run_says_once_that_they_do_not_fire_and_goes_on():
    app, tick, report = scheduled()
    recorder = Recorder()
    with Cluster(hold=True) as cluster, use_sink(recorder), app.run():
        cluster.clock.advance(2 * 86_400)
        assert (tick.remote(), report.remote()) == (1, "all")
    assert recorder.notices == [
        "volumes= is not built yet; this app runs without clean",
        "schedules fire only once the app is deployed: here, tick, report must be called to run",
    ]
    with Cluster(), use_sink(recorder):
        app.build()
    assert len(recorder.notices) == 3, "to build its images is not to run it"


def test_a_program_with_schedules_runs(home, tmp_path):
    """In containers too, whose Python may lack a parser and the time zones."""
    program = tmp_path / "app.py"
    program.write_text("""
import sys
import modal
app = modal.App("t")

@app.function(schedule=modal.Cron("0 9 * * *", timezone="Europe/Berlin"))
def f():
    print("cronsim" in sys.modules, modal.Cron("anything goes"))

@app.local_entrypoint()
def main():
    f.remote()
""")
    result = run("run", str(program))
    assert result.returncode == 0, result.stderr
    assert "False Cron('anything goes')" in result.stdout
    assert result.stderr.count("schedules fire only once the app is deployed: here, f must be called to run") == 1
