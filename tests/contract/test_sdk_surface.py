"""SEMANTICS section 5: what programs of both eras say, in containers."""

import os

import pytest

import greenroom


def test_max_inputs_of_one_is_a_container_for_each_input(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, max_inputs=1)
    def f(x):
        return os.environ["GREENROOM_CONTAINER_ID"]

    with app.run():
        assert len({f.remote(number) for number in range(3)}) == 3


def test_a_method_whose_name_begins_with_an_underscore(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class K:
        @greenroom.method()
        def _hidden(self):
            return "hidden"

        @greenroom.method()
        def open(self):
            return self._hidden.remote()

    with app.run():
        assert K()._hidden.remote() == K().open.remote() == "hidden"


def test_what_can_not_run_keeps_nothing_else_from_running(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True, image=greenroom.Image.from_name("x"), min_containers=1)
    def needs_an_image(): ...

    @app.cls(serialized=True)
    class K:
        @greenroom.enter()
        def load(self):
            self.loaded = True

        @greenroom.method()
        def m(self):
            with greenroom.Image.debian_slim().imports():
                import no_such_module  # noqa: F401
            try:
                needs_an_image.remote()
            except NotImplementedError as error:
                return self.loaded, str(error)

    refusal = "Image.from_name is not built yet: needs_an_image"
    with app.run():
        assert K().m.remote() == (True, refusal)
        with pytest.raises(NotImplementedError, match="not built yet"):
            needs_an_image.remote()
        assert len(cluster.containers()) == 1
    assert output.notices == [
        "Image.from_name is not built yet; this app runs without needs_an_image",
    ]
