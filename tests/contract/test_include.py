"""Apps made of several: ``app.include(other)``."""

import pytest

import greenroom


def test_an_included_apps_functions_run_with_the_app(cluster):
    app, other = greenroom.App("app"), greenroom.App("other")

    @other.function(serialized=True)
    def double(x):
        return 2 * x

    @other.cls(serialized=True)
    class Model:
        @greenroom.method()
        def twice(self, x):
            return double.remote(x)

    @app.function(serialized=True)
    def f(x):
        return double.remote(x) + 1

    with pytest.raises(greenroom.ConnectionError):
        double.remote(1)
    assert app.include(other) is app
    with app.run():
        assert (double.remote(1), Model().twice.remote(2), f.remote(3)) == (2, 4, 7)
    with other.run():
        assert double.remote(4) == 8


def test_two_of_one_name_are_refused():
    app, other = greenroom.App("app"), greenroom.App("other")
    for each in (app, other):

        @each.function(serialized=True)
        def f(): ...

    with pytest.raises(greenroom.InvalidError, match="both apps have f"):
        app.include(other)
