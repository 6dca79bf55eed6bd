"""Parameters as options: what is accepted, what it becomes, what is refused."""

import datetime
from typing import Annotated, Any, Literal

import click
import pytest

from greenroom.cli.arguments import Parameters, parameters_of, parse
from greenroom.cli.misuse import Misuse


def call(function, *arguments):
    """What the function gets."""
    own = parameters_of(function, function.__name__)
    return own.bind(parse("title", None, [own], arguments))


def simple(a: str, b: int, c: float = 0.5, d="x", e=3, f: Any = None): ...
def flags(a: bool = False, b_c: bool = True, d: bool | None = None, e=False): ...
def moments(at: datetime.datetime, until: datetime.datetime | None = None): ...
def chosen(mode: Literal["fast", "safe"], level: Literal[1, 2, 3] = 1): ...
def optional(a: int | None = None, b: str | None = None, c: Annotated[int, "doc"] = 1): ...
def underscored(learning_rate: float = 0.1): ...
def text_annotations(a: "int", b: "int | None" = None): ...
def unresolved(a: int, b: "NotThere" = None): ...  # noqa: F821
def with_rest(x: int, *rest): ...
def only_rest(*rest): ...
def positional(a: int, b: int = 2, /, *, c: int = 3): ...
def odd_default(a: int, items: list[int] = [1], *rest): ...  # noqa: B006
def wrong_default(x: int = "auto"): ...
def keywords(a: int, **rest): ...


@pytest.mark.parametrize(
    ("function", "arguments", "args", "kwargs"),
    [
        (simple, ["--a", "1", "--b", "2"], [], {"a": "1", "b": 2}),
        (simple, ["--a=x y", "--b=-2", "--c", "1e3"], [], {"a": "x y", "b": -2, "c": 1000.0}),
        (simple, ["--a", "", "--b", "2", "--d", "4", "--e", "4", "--f", "4"], [],
         {"a": "", "b": 2, "d": "4", "e": 4, "f": "4"}),
        (flags, [], [], {}),
        (flags, ["--a", "--no-b-c", "--no-d"], [], {"a": True, "b_c": False, "d": False}),
        (flags, ["--b_c", "--no-e"], [], {"b_c": True, "e": False}),
        (flags, ["--no_b_c"], [], {"b_c": False}),
        (moments, ["--at", "2026-01-31"], [], {"at": datetime.datetime(2026, 1, 31)}),
        (moments, ["--at", "2026-01-31T12:30:00+02:00"], [],
         {"at": datetime.datetime(2026, 1, 31, 12, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))}),
        (moments, ["--at", "20260131", "--until", "2026-02-01 01:02"], [],
         {"at": datetime.datetime(2026, 1, 31), "until": datetime.datetime(2026, 2, 1, 1, 2)}),
        (chosen, ["--mode", "safe"], [], {"mode": "safe"}),
        (chosen, ["--mode", "fast", "--level", "3"], [], {"mode": "fast", "level": 3}),
        (optional, [], [], {}),
        (optional, ["--a", "5", "--b", "None", "--c", "2"], [], {"a": 5, "b": "None", "c": 2}),
        (underscored, ["--learning-rate", "1"], [], {"learning_rate": 1.0}),
        (underscored, ["--learning_rate", "1"], [], {"learning_rate": 1.0}),
        (text_annotations, ["--a", "1", "--b", "2"], [], {"a": 1, "b": 2}),
        (unresolved, ["--a", "1"], [], {"a": 1}),
        (with_rest, ["--x", "1"], [], {"x": 1}),
        (with_rest, ["--x", "1", "a", "b"], [1, "a", "b"], {}),
        (with_rest, ["a", "--x", "1", "--other", "2"], [1, "a", "--other", "2"], {}),
        (with_rest, ["--x", "1", "--", "--x", "2"], [1, "--x", "2"], {}),
        (only_rest, ["--help", "-x", "--", "y"], ["--help", "-x", "--", "y"], {}),
        (positional, ["--a", "1"], [1], {}),
        (positional, ["--b", "5", "--a", "1", "--c", "4"], [1, 5], {"c": 4}),
        (odd_default, ["--a", "1"], [], {"a": 1}),
        (odd_default, ["--a", "1", "x"], [1, [1], "x"], {}),
        (wrong_default, [], [], {}),
        (wrong_default, ["--x", "3"], [], {"x": 3}),
        (keywords, ["--a", "1"], [], {"a": 1}),
    ],
)  # fmt: skip
def test_bound(function, arguments, args, kwargs):
    got = call(function, *arguments)
    assert got == (args, kwargs)
    assert [type(value) for value in got[0]] == [type(value) for value in args]


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        (simple, ["--b", "2"], "Missing option '--a'"),
        (simple, ["--a", "x", "--b", "two"], "'two' is not a valid int"),
        (simple, ["--a", "x", "--b", "2", "--z"], "No such option"),
        (simple, ["--a", "x", "--b", "2", "more"], "unexpected extra argument"),
        (moments, ["--at", "noon"], "'noon' is no date or time like 2026-01-31"),
        (chosen, ["--mode", "slow"], "'slow' is not one of fast, safe"),
        (chosen, ["--mode", "fast", "--level", "4"], "'4' is not one of 1, 2, 3"),
        (positional, [], "Missing option '--a'"),
        (unresolved, ["--a", "1", "--b", "2"], "No such option"),
    ],
)
def test_refused(function, arguments, says):
    with pytest.raises(click.ClickException) as caught:
        call(function, *arguments)
    assert says in caught.value.format_message()


def a_list(items: list[int]): ...
def a_union(x: int | str): ...
def an_object(x: object): ...
def unknown(x: "NotThere"): ...  # noqa: F821


@pytest.mark.parametrize(
    ("function", "shown"),
    [(a_list, "list[int]"), (a_union, "int | str"), (an_object, "object"), (unknown, "NotThere")],
)
def test_required_parameters_that_cannot_be_options(function, shown):
    with pytest.raises(Misuse) as caught:
        parameters_of(function, "f")
    assert str(caught.value).startswith(f"f: its parameter {'items' if function is a_list else 'x'} is a {shown}, ")
    assert "it can be str, int" in str(caught.value)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(capsys, option):
    def main(n: int, rate_of: float = 0.5, verbose: bool = False, mode: Literal["a", "b"] = "a"): ...

    own = parameters_of(main, "main")
    with pytest.raises(click.exceptions.Exit) as caught:
        parse("greenroom run app.py", "Does a thing.", [own], [option])
    assert caught.value.exit_code == 0
    out = capsys.readouterr().out
    for text in ("Usage: greenroom run app.py", "Does a thing.", "--n INTEGER", "[required]", "--rate-of, --rate_of FLOAT",
                 "[default: 0.5]", "--verbose / --no-verbose", "[a|b]"):  # fmt: skip
        assert text in out


def test_a_parameter_called_help():
    def main(help: str): ...

    assert call(main, "--help", "me") == ([], {"help": "me"})


def test_two_groups():
    def init(self, size: str = "s", n: int = 1): ...
    def method(self, x: int, *rest): ...

    groups = [parameters_of(f, f.__name__, skip_self=True) for f in (init, method)]
    given = parse("t", None, groups, ["--x", "1", "--size", "big", "y"])
    assert [group.bind(given) for group in groups] == [([], {"size": "big"}), ([1, "y"], {})]


def test_no_parameters():
    assert Parameters([], "f").bind(parse("t", None, [Parameters([], "f")], [])) == ([], {})


def test_a_function_whose_module_cannot_be_found():
    names = {"__name__": "gone", "__file__": "/nowhere/gone.py"}
    exec("def f(x: 'int', y: int = 1): return x", names)
    assert call(names["f"], "--x", "3") == ([], {"x": 3})
