"""SEMANTICS section 3: what is refused when a class or function is decorated, by its message, which names the fix."""

import functools

import pytest

import greenroom
from greenroom import InvalidError
from greenroom.usercode.definition import describe_class


def app():
    return greenroom.App("t")


def refused(match):
    return pytest.raises(InvalidError, match=match)


@pytest.mark.parametrize("name", ["enter", "exit", "build", "method", "concurrent", "asgi_app", "wsgi_app",
                                  "fastapi_endpoint", "web_endpoint"])  # fmt: skip
def test_missing_parentheses(name):
    with refused(rf"write @{name}\(\)"):
        getattr(greenroom, name)(lambda self: None)


def test_missing_parentheses_of_the_app():
    with refused(r"write @app.cls\(\)"):
        app().cls(type("X", (), {}))
    with refused(r"write @app.function\(\)"):
        app().function(lambda: None)
    with refused(r"write @app.local_entrypoint\(\)"):
        app().local_entrypoint(lambda: None)


@pytest.mark.parametrize("hook", [greenroom.enter, greenroom.exit, greenroom.build])
def test_hook_stacked_on_method_or_web(hook):
    with refused("a lifecycle hook"):
        hook()(greenroom.method()(lambda self: None))
    with refused("a lifecycle hook"):
        greenroom.method()(hook()(lambda self: None))
    with refused("web endpoint"):
        hook()(greenroom.web_endpoint()(lambda self: None))
    with refused("a lifecycle hook"):
        greenroom.web_endpoint()(hook()(lambda self: None))


def test_exit_with_parameters():
    with refused("no longer supported: an exit hook takes no arguments"):

        @greenroom.exit()
        def close(self, kind, value, traceback):
            pass


@pytest.mark.parametrize("parameters", ["self, *args", "self, **kwargs", "self, k=1", "self, *, k=1", "*args"])
def test_exit_with_parameters_that_may_be_left_out(parameters):
    names = {}
    exec(f"def close({parameters}): ...", names)
    with refused("no longer supported: an exit hook takes no arguments"):
        greenroom.exit()(names["close"])


def test_exit_below_a_decorator_of_the_users_own():
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @greenroom.exit()
    @logged
    def close(self):
        pass


def test_hooks_that_are_generators_or_want_arguments():
    with refused("generator"):

        @greenroom.enter()
        def generator(self):
            yield

    with refused("generator"):

        @greenroom.exit()
        async def async_generator(self):
            yield

    with refused("needs path"):

        @greenroom.enter()
        def load(self, path):
            pass

    @greenroom.enter()
    def with_default(self, path="x"):
        pass


def test_function_on_a_method_or_class_and_cls_on_a_function():
    with refused("use @app.cls"):
        app().function()(type("X", (), {}))
    with refused("use @app.cls"):

        class X:
            @app().function()
            def f(self):
                pass

    with refused("use @app.function"):
        app().cls()(lambda: None)


def test_web_under_method():
    with refused("the web decorator alone is enough"):
        greenroom.method()(greenroom.asgi_app()(lambda: None))
    with refused("the web decorator alone is enough"):
        greenroom.asgi_app()(greenroom.method()(lambda: None))


def test_constructor_beside_parameters():
    with refused("__init__ beside parameter"):

        @app().cls()
        class X:
            a: str = greenroom.parameter()

            def __init__(self):
                pass


def test_parameter_annotations():
    with refused("lacks its annotation"):

        @app().cls()
        class NoAnnotation:
            a = greenroom.parameter()

    with refused("a str, int, bool or bytes"):

        @app().cls()
        class WrongAnnotation:
            a: list = greenroom.parameter()

    with refused("its default"):

        @app().cls()
        class WrongDefault:
            a: int = greenroom.parameter(default="x")


def test_parameter_values():
    @app().cls(serialized=True)
    class X:
        a: str = greenroom.parameter()
        b: int = greenroom.parameter(default=1)

        @greenroom.method()
        def f(self):
            return self.a, self.b

    assert X(a="x").f.local() == ("x", 1)
    with refused("lacks a="):
        X()
    with refused("no parameter 'c'"):
        X(a="x", c=1)
    with refused("a is a str, not an int"):
        X(a=1)
    with refused("by name"):
        X("x")


def test_snap_without_snapshots():
    with refused("enable_memory_snapshot=True"):

        @app().cls()
        class X:
            @greenroom.enter(snap=True)
            def load(self):
                pass


def test_batched_beside_other_methods():
    with refused("stands alone"):

        @app().cls()
        class X:
            @greenroom.method()
            @greenroom.batched(max_batch_size=2, wait_ms=10)
            def f(self, xs):
                return xs

            @greenroom.method()
            def g(self):
                pass


def test_batched_without_method():
    batched = greenroom.batched(max_batch_size=2, wait_ms=10)
    with refused("stands alone"):

        @app().cls()
        class Beside:
            @batched
            def f(self, xs):
                return xs

            @greenroom.method()
            def g(self):
                pass

    with refused("stands alone"):

        @app().cls()
        class Two:
            @batched
            def f(self, xs):
                return xs

            @batched
            def g(self, xs):
                return xs

    with refused("stands alone"):

        @app().cls()
        class BesideWeb:
            @batched
            def f(self, xs):
                return xs

            @greenroom.web_endpoint()
            def g(self):
                pass

    running = app()

    @running.cls(serialized=True)
    class Alone:
        @batched
        def f(self, xs):
            return xs

    assert describe_class(Alone.__greenroom_raw__).batched == (2, 10)
    assert Alone().f.local([1, 2]) == [1, 2]
    with pytest.raises(greenroom.ConnectionError, match=r"Alone.* can't be called remotely: its app isn't running"):
        Alone().f.remote(1)


def test_batched_where_it_can_not_be():
    batched = greenroom.batched(max_batch_size=2, wait_ms=10)
    for other in (greenroom.enter(), greenroom.exit(), greenroom.web_endpoint(), greenroom.asgi_app()):
        with refused("function of its own"):
            batched(other(lambda: None))
        with refused("function of its own"):
            other(batched(lambda: None))
    with refused(r"below @method\(\)"):
        batched(greenroom.method()(lambda self: None))


def test_batched_generators():
    batched = greenroom.batched(max_batch_size=2, wait_ms=10)

    def numbers(xs):
        yield xs

    async def more_numbers(xs):
        yield xs

    for function in (numbers, more_numbers):
        with refused("which is a generator: return a list"):
            batched(function)
    with refused("f is @batched, which does not go with is_generator="):

        @app().function(is_generator=True)
        @batched
        def f(xs):
            return xs

    with refused("X is @batched, which does not go with is_generator="):

        @app().cls()
        class X:
            @greenroom.method(is_generator=True)
            @batched
            def f(self, xs):
                return xs


def test_batched_and_concurrent():
    batched = greenroom.batched(max_batch_size=2, wait_ms=10)
    with refused("f is both @batched and @concurrent: choose one"):

        @app().function()
        @greenroom.concurrent(max_inputs=2)
        @batched
        def f(xs):
            return xs

    with refused("X is both @batched and @concurrent: choose one"):

        @app().cls()
        @greenroom.concurrent(max_inputs=2)
        class X:
            @batched
            def f(self, xs):
                return xs

    with refused("g is @batched, which does not go with allow_concurrent_inputs="):

        @app().function(allow_concurrent_inputs=2)
        @batched
        def g(xs):
            return xs

    with refused("Y is @batched, which does not go with allow_concurrent_inputs="):

        @app().cls(allow_concurrent_inputs=2)
        class Y:
            @batched
            def f(self, xs):
                return xs


@pytest.mark.parametrize(
    "options", [{"max_batch_size": "5"}, {"wait_ms": 1.5}, {"max_batch_size": 0}, {"wait_ms": -1}, {"wait_ms": "soon"}]
)
def test_batched_by_what_is_no_number(options):
    with refused("max_batch_size= of at least 1 and wait_ms= of at least 0"):
        greenroom.batched(**{"max_batch_size": 2, "wait_ms": 10, **options})


def test_options_of_modals_that_mean_nothing_here():
    f = lambda self: None  # noqa: E731
    greenroom.method(keep_warm=2)(lambda self: None)
    for decorator in (greenroom.web_endpoint, greenroom.asgi_app, greenroom.wsgi_app):
        decorator(wait_for_response=True, custom_domains=["x.example"])(lambda: None)
        with refused("no longer supported"):
            decorator(wait_for_response=False)
    marked = greenroom.web_server(8000, custom_domains=["x.example"], requires_proxy_auth=True)(f)
    assert marked.__greenroom_marks__.web.options["custom_domains"] == ["x.example"]


def test_factories_and_generator_endpoints():
    with refused("async"):

        @greenroom.asgi_app()
        async def factory():
            pass

    with refused("has parameters"):

        @greenroom.wsgi_app()
        def with_parameters(x):
            pass

    for decorator in (greenroom.asgi_app, greenroom.wsgi_app):
        for factory in (lambda x=1: None, lambda *args: None, lambda **options: None):
            with refused("has parameters"):
                decorator()(factory)

    with refused("generator"):

        @greenroom.fastapi_endpoint()
        def stream():
            yield 1


def test_retries_on_a_web_endpoint_and_schedules():
    with refused("retries="):

        @app().function(retries=3)
        @greenroom.web_endpoint()
        def f():
            pass

    with refused("needs x"):

        @app().function(schedule=greenroom.Period(days=1))
        def g(x):
            pass

    with refused("is a web endpoint with a schedule"):

        @app().function(schedule=greenroom.Period(days=1))
        @greenroom.web_endpoint()
        def h():
            pass

    with refused("is a generator with a schedule"):

        @app().function(schedule=greenroom.Cron("0 9 * * *"))
        def i():
            yield 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"min_containers": 3, "max_containers": 2}, "above max_containers"),
        ({"keep_warm": 3, "concurrency_limit": 2}, "above max_containers"),
        ({"colour": 1}, "knows no colour="),
        ({"time_out": 1}, "did you mean timeout="),
        ({"timeout": 0}, "above 0"),
        ({"max_containers": 0}, "at least 1"),
        ({"cpu": -1}, "above 0"),
        ({"memory": (2, 1)}, "not above the limit"),
        ({"retries": 11}, "from 0 to 10"),
        ({"secrets": ["x"]}, "Secret.from_dict"),
        ({"min_containers": 1, "keep_warm": 1}, "are the same"),
    ],
)
def test_keywords(options, match):
    with refused(match):
        app().function(**options)
    with refused(match):
        app().cls(**options)


@pytest.mark.parametrize(
    "call", [lambda: greenroom.enter(snapshot=True), lambda: greenroom.exit(timeout=3), lambda: greenroom.method(x=1)]
)
def test_unknown_keywords_of_decorators(call):
    with refused("knows no"):
        call()


def test_undecorated_override_replaces_with_a_warning():
    class Base:
        @greenroom.enter()
        def load(self):
            raise AssertionError

    with pytest.warns(UserWarning, match="no hook any more"):

        @app().cls(serialized=True)
        class Child(Base):
            def load(self):
                raise AssertionError

            @greenroom.method()
            def f(self):
                return 1

    assert Child().f.local() == 1


def test_later_features_record_and_are_refused_when_used():
    image = greenroom.Image.from_name("x").pip_install("fastapi")
    with image.imports():
        import not_there  # noqa: F401
    made = greenroom.App("t", image=image)
    imaged = made.function(serialized=True)(lambda: None)

    for use, says in ((lambda: imaged.remote(), "Image.from_name is not built yet"),):
        with pytest.raises(NotImplementedError, match=says):
            use()


def test_what_no_container_could_import():
    with refused("is a lambda, .*serialized=True"):
        app().function()(lambda: None)
    with refused("is defined inside a function, .*serialized=True"):

        @app().function()
        def nested():
            pass

    with refused("is defined inside a function, .*serialized=True"):

        @app().cls()
        class Nested:
            pass


def test_a_web_endpoint_of_a_class_with_retries():
    with refused("Web.f is a web endpoint with retries="):

        @app().cls(retries=3)
        class Web:
            @greenroom.web_endpoint()
            def f(self):
                pass


def test_constructor_arguments_that_do_not_fit():
    @app().cls(serialized=True)
    class Model:
        def __init__(self, a):
            pass

    with refused(r"Model\(…\): too many positional arguments"):
        Model(1, 2)
    with refused(r"Model\(…\): missing a required argument: 'a'"):
        Model(b=1)


@pytest.mark.parametrize("label", ["", "A", "a b", "a/b", "-a", "a-", "a.b", "\xe9", "a" * 64, 3])
def test_a_label_that_no_url_can_have(label):
    with refused("can't be a part of a URL"):
        greenroom.asgi_app(label=label)


@pytest.mark.parametrize("label", ["a", "my-label", "7", "x" * 63, "a--b"])
def test_labels_that_urls_can_have(label):
    greenroom.asgi_app(label=label)
