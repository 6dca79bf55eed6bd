"""The pictures of docs/scaling.md: loads, and what the server does with them, by its own code in simulated time."""

from greenroom.testing import Load, burst, ramp, simulate, steady


def pictures() -> dict[str, str]:
    """The text of each SVG file, by its name."""
    found = {
        "burst": simulate(
            Load("f", burst(200, 5), seconds=1.0, max_containers=30, scaledown_window=20), seconds=50
        ).svg("A burst onto no container\n200 calls at once, of 1 s each; max_containers=30, scaledown_window=20"),
        "short": simulate(
            Load("f", burst(10_000, 5), seconds=0.0003, scaledown_window=20), seconds=30, step=0.1
        ).svg("A burst of short inputs\n10,000 calls at once, of 0.3 ms each; scaledown_window=20"),
        "steady": simulate(
            Load("f", steady(8, 5, 65), seconds=0.6, scaledown_window=20), seconds=100
        ).svg("A steady load\n8 calls a second, of 0.6 s each; scaledown_window=20"),
        "ramp": simulate(
            Load("f", ramp(0.5, 20, 5, 65) + ramp(20, 0.5, 65, 125), seconds=1.0, scaledown_window=20), seconds=160
        ).svg("A ramp\nFrom one call every 2 s up to 20 a second and down again, of 1 s each; scaledown_window=20"),
        "kept": simulate(
            Load("f", [float(at) for at in range(10, 60, 10) for _ in range(4)], seconds=2.0, start_seconds=4.0, min_containers=2,
                 buffer_containers=2, scaledown_window=15), seconds=90,
        ).svg("Some that are kept, and some beyond the need\n"
              "4 calls every 10 s, of 2 s each, where a start takes 4 s\nmin_containers=2, buffer_containers=2, scaledown_window=15"),
        "several": simulate(
            Load("f", steady(2, 5, 25) + steady(40, 25, 65) + steady(2, 65, 165), seconds=2.0, max_inputs=20, target_inputs=10,
                 scaledown_window=20), seconds=180,
        ).svg("Several inputs in one container\n"
              "2, then 40, then 2 calls a second, of 2 s each\n@concurrent(max_inputs=20, target_inputs=10), scaledown_window=20"),
        "crashing": simulate(
            Load("f", steady(0.5, 95, 120), seconds=1.0, start_seconds=0.7, starts_fail_until=80, min_containers=1,
                 scaledown_window=20), seconds=130, step=0.1,
        ).svg("A container that dies as it starts\nIts start takes 0.7 s and fails until 80 s have passed; min_containers=1"),
        "two-apps": simulate(
            Load("flood", burst(600, 5), seconds=0.5, cpu=1.0, scaledown_window=20),
            Load("trickle", steady(0.25, 15, 90), seconds=1.0, cpu=1.0, scaledown_window=20),
            seconds=120, cores=4,
        ).svg("A flood of one app, and a trickle of another\n"
              "600 calls at once, of 0.5 s each, and one call every 4 s, of 1 s each, on 4 cores; cpu=1 in both", by_function=True),
    }  # fmt: skip
    return {f"{name}.svg": text for name, text in found.items()}
