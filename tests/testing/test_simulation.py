"""What is simulated is the server's own deciding; what is drawn is an SVG that says what it shows."""

import itertools
from xml.etree import ElementTree

import pytest

import greenroom
from greenroom.testing import Load, burst, ramp, simulate, steady

SVG = "{http://www.w3.org/2000/svg}"


def most(track, what):
    return max(getattr(moment, what) for moment in track.moments)


def test_a_burst_gets_its_containers_and_they_go_after_the_window():
    trace = simulate(
        Load("f", burst(200, 5), seconds=1.0, start_seconds=0.5, max_containers=30, scaledown_window=20), seconds=60
    )
    (track,) = trace.tracks
    assert [result.ok for result in track.results] == [True] * 200
    assert most(track, "containers") == 30
    assert most(track, "starting") <= 2 * 6, "those that start, and as many that wait for it"
    assert max(result.at for result in track.results) < 5 + 0.5 * 5 + 200 / 30 + 1
    assert track.moments[-1].containers == 0
    assert track.moments[0].at == 0.0
    assert track.moments[-1].at == pytest.approx(60)


def test_what_is_over_before_a_start_is_worth_few_containers():
    (short,) = simulate(Load("f", burst(10_000, 1), seconds=0.0003), seconds=30).tracks
    (long,) = simulate(Load("f", burst(10_000, 1), seconds=0.3), seconds=30).tracks
    assert len(short.results) == 10_000
    assert most(short, "containers") <= 20 < most(long, "containers")


def test_those_that_are_promised_are_there_and_some_are_ahead_of_the_need():
    load = Load(
        "f", burst(3, 20), seconds=2, start_seconds=1, min_containers=2, buffer_containers=3, scaledown_window=5
    )
    (track,) = simulate(load, seconds=60, step=0.5).tracks
    assert {m.containers for m in track.moments if 2 <= m.at < 20} == {2}
    assert most(track, "containers") == 3 + 3
    assert track.moments[-1].containers == 2
    assert sorted(round(result.waited, 6) for result in track.results) == [2, 2, 3.1], "two waited for no start"


def test_containers_that_take_several_share_them():
    load = Load("f", steady(10, 0, 30), seconds=2, max_inputs=20, target_inputs=10)
    (track,) = simulate(load, seconds=40).tracks
    assert len(track.results) == 300
    assert most(track, "containers") <= 4
    assert {m.running for m in track.moments if 10 < m.at < 29} == {20}


def test_batches_wait_until_they_are_full_or_long_enough():
    load = Load("f", steady(10, 0, 10), seconds=0.1, max_batch_size=5, wait_ms=2000, min_containers=1, start_seconds=0)
    (track,) = simulate(load, seconds=20).tracks
    assert len({result.at for result in track.results}) == 100 / 5
    (track,) = simulate(
        Load("f", burst(3, 1), seconds=0.1, max_batch_size=5, wait_ms=2000, start_seconds=0), seconds=9
    ).tracks
    assert [round(result.waited, 6) for result in track.results] == [2.1] * 3


def test_starts_that_fail_are_ever_further_apart():
    load = Load("f", burst(1, 150), start_seconds=0.5, starts_fail_until=140, min_containers=1)
    (track,) = simulate(load, seconds=200).tracks
    gaps = [round(after - before - 0.5, 6) for before, after in itertools.pairwise(track.starts)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, gaps[-1]]
    assert [result.ok for result in track.results] == [True]


def test_starts_that_fail_all_day_go_on_each_minute():
    (track,) = simulate(Load("f", [], start_seconds=0, starts_fail_until=1e9, min_containers=1), seconds=70_000).tracks
    assert len(track.starts) > 1100
    assert track.starts[-1] - track.starts[-2] == 60


def test_who_calls_a_function_that_cannot_start_is_told_after_three_tries():
    (track,) = simulate(Load("f", burst(1, 1), start_seconds=0.5, starts_fail_until=1000), seconds=60).tracks
    assert [result.ok for result in track.results] == [False]
    assert {round(result.waited, 6) for result in track.results} == {0.5 + 1 + 0.5 + 2 + 0.5}


def test_starts_that_fail_together_have_failed_once():
    (calls,) = simulate(Load("f", burst(10, 1), start_seconds=0.5, starts_fail_until=2.5), seconds=20).tracks
    assert [result.ok for result in calls.results] == [True] * 10
    (kept,) = simulate(Load("f", [], start_seconds=0.5, starts_fail_until=1000, min_containers=5), seconds=20).tracks
    assert [round(at, 6) for at in kept.starts] == [0] * 5 + [1.5] * 5 + [4] * 5 + [8.5] * 5 + [17] * 5


@pytest.mark.parametrize("kept", [0, 1])
def test_each_who_calls_it_is_told_as_soon_as_the_first(kept):
    load = Load("f", [500, 520, 540], start_seconds=0.5, starts_fail_until=1000, min_containers=kept)
    (track,) = simulate(load, seconds=600).tracks
    assert [result.ok for result in track.results] == [False] * 3
    assert all(round(result.waited, 6) <= 0.5 + 1 + 0.5 + 2 + 0.5 + 0.2 for result in track.results), track.results


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_a_flood_of_one_app_starves_no_call_of_another(cores):
    flood, trickle = simulate(
        Load("flood", burst(50_000), seconds=0.5, cpu=1),
        Load("trickle", steady(0.1, 10, 100), seconds=1, start_seconds=0.5, cpu=1),
        seconds=110,
        cores=cores,
        max_starting=3,
    ).tracks
    assert len(trickle.results) == 9
    # An input of the flood, a start, and its own; where there is a single core, the rest of the flood's turn too.
    assert max(result.waited for result in trickle.results) <= 0.5 + 0.5 + 1 + (2.0 if cores == 1 else 0) + 0.1
    share = len(flood.results) * 0.5 / (110 * cores)
    assert share > (0.75 if cores > 1 else 0.6), "and costs it no more than what it got, and starts"


def test_floods_of_two_functions_and_of_two_apps_have_their_shares():
    a, b, c = simulate(
        Load("f", burst(5000), seconds=0.5, cpu=1, app="one"),
        Load("g", burst(5000, 10), seconds=0.5, cpu=1, app="one"),
        Load("h", burst(5000, 20), seconds=0.5, cpu=1, app="two"),
        seconds=100,
        cores=4,
    ).tracks
    late = [moments for moments in zip(a.moments, b.moments, c.moments, strict=True) if moments[0].at > 30]
    assert {tuple(moment.busy for moment in moments) for moments in late} == {(1, 1, 2)}


def test_a_load_gives_the_same_picture_each_time():
    def picture():
        load = Load("f", ramp(0.5, 10, 0, 30), seconds=1.0, scaledown_window=5)
        return simulate(load, Load("g", burst(50), cpu=1.0), seconds=50).svg("Both <of them>\nand more")

    first = picture()
    assert picture() == first
    root = ElementTree.fromstring(first)
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    for wanted in ("Both <of them>", "and more", "Load (inputs/s)", "time (s)", "busy", "idle", "starting", "g come"):
        assert wanted in texts, texts
    assert "prefers-color-scheme: dark" in first
    width, height = (float(root.get(name)) for name in ("width", "height"))
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) < width
        assert 0 <= float(text.get("y")) < height


@pytest.mark.parametrize(
    ("loads", "options"),
    [
        ([], {"seconds": 10}),
        ([Load("f", burst(1)), Load("f", burst(1))], {"seconds": 10}),
        ([Load("f", burst(1))], {"seconds": 0}),
        ([Load("f", burst(1), seconds=-1)], {"seconds": 10}),
    ],
)
def test_what_cannot_be_is_refused(loads, options):
    with pytest.raises(greenroom.InvalidError, match=r"simulate\(\) takes"):
        simulate(*loads, **options)
