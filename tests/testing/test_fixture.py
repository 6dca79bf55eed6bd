"""The fixture as users have it: a real cluster, a clock that stands still."""

import greenroom


def test_scale_down_without_waiting(greenroom_cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, scaledown_window=3600)
    def f(x):
        return x + 1

    with app.run():
        assert f.remote(1) == 2
        assert [c["state"] for c in greenroom_cluster.containers()] == ["IDLE"]
        greenroom_cluster.clock.advance(3599)
        assert len(greenroom_cluster.containers()) == 1
        greenroom_cluster.clock.advance(1)
        greenroom_cluster.wait_until(lambda: not greenroom_cluster.containers())
        assert f.remote(2) == 3
