"""There is one namespace: another one is refused wherever Modal's programs can name it, and so is what nobody knows."""

import pytest

import greenroom

NAMES = [greenroom.Function.from_name, greenroom.Function.lookup, greenroom.Cls.from_name, greenroom.Cls.lookup]


@pytest.mark.parametrize("name", NAMES)
def test_of_a_name(name):
    for given in ({}, {"environment_name": "main"}, {"environment_name": None}, {"namespace": 1, "client": None}):
        assert repr(name("shop", "Model", **given)) == repr(name("shop", "Model"))
    with pytest.raises(
        greenroom.InvalidError, match=r"from_name\('shop', 'Model'\): environment_name='dev': there is one"
    ):
        name("shop", "Model", environment_name="dev")
    with pytest.raises(greenroom.InvalidError, match=r"from_name\('shop', 'Model'\) knows no tog=$"):
        name("shop", "Model", tog=1)


def test_of_a_deployment():
    app = greenroom.App("shop")
    with pytest.raises(
        greenroom.InvalidError, match=r"app\.deploy\(\): environment_name='dev': there is one namespace"
    ):
        app.deploy(environment_name="dev")
    with pytest.raises(greenroom.InvalidError, match=r"app\.deploy\(\) knows no nmae=, strategi=$"):
        app.deploy(nmae="x", strategi="recreate")
