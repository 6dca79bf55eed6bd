"""A class's constructor arguments: which ways to write them name one set."""

import pytest

import greenroom
from greenroom.sdk.binding import canonical
from greenroom.usercode import context
from greenroom.usercode.definition import describe_class


class Parameters:
    size: str = greenroom.parameter(default="small")
    big: bool = greenroom.parameter(default=False)


class Constructor:
    def __init__(self, size="small", *, big=False, **more):
        pass


class ByPlace:
    def __init__(self, size="small", /, big=False, *more):
        pass


def of(cls, *args, **kwargs):
    return canonical(describe_class(cls), args, kwargs)


def by_name(*args, **kwargs):
    return greenroom.Cls.from_name("shop", "Model")(*args, **kwargs)._arguments


def test_in_its_own_program_a_set_is_one_however_it_is_written():
    for cls in (Parameters, Constructor):
        assert of(cls) == of(cls, size="small") == of(cls, big=False, size="small") == ((), {})
        assert of(cls, size="big", big=True) == of(cls, big=True, size="big") == by_name(size="big", big=True)
        assert list(of(cls, size="big", big=True)[1]) == list(by_name(size="big", big=True)[1]) == ["big", "size"]
    assert of(Constructor, "small") == ((), {})
    assert of(Constructor, "big", x=1) == of(Constructor, x=1, size="big") == by_name(x=1, size="big")
    assert of(ByPlace, "small", False) == (("small",), {})
    assert of(ByPlace, "big", big=True) == of(ByPlace, "big", True) == (("big",), {"big": True})
    assert of(ByPlace, "small", False, 3) == (("small", False, 3), {})


def test_in_a_deployed_app_what_is_given_stays_given(monkeypatch):
    monkeypatch.setattr(context, "_inside", context.Inside("ta-1", "ap-1", "", "", "", outlives=True, deployed=True))
    for cls in (Parameters, Constructor):
        assert of(cls) == ((), {})
        assert of(cls, size="small") == by_name(size="small") == ((), {"size": "small"})
        assert of(cls, big=False, size="x") == ((), {"big": False, "size": "x"})
    assert of(Constructor, "small") == ((), {"size": "small"})
    monkeypatch.setattr(context, "_inside", context.Inside("ta-1", "ap-1", "", "", "", outlives=True))
    assert of(Constructor, "small") == of(Parameters, size="small") == ((), {}), (
        "of a detached one there is one version"
    )


@pytest.mark.parametrize("cls", [Parameters, Constructor])
def test_what_does_not_fit_is_refused(cls):
    with pytest.raises(greenroom.InvalidError):
        of(cls, 1, 2, 3)
