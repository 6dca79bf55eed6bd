"""Names that apps can be deployed under."""

import pytest

from greenroom.model.app_names import check_app_name
from greenroom.model.errors import InvalidError


@pytest.mark.parametrize("name", ["shop", "a", "A-1_b.c", "x" * 64, "..", "ap-1"])
def test_that_can_be(name):
    check_app_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "a\nb", "@x", "a?b", "\u00fcn\u00ef", "x" * 65, "shop\n"])
def test_that_can_not_be(name):
    with pytest.raises(InvalidError, match="can't be the name of an app that stays: that is up to 64 letters"):
        check_app_name(name)


def test_none_is_taken_for_an_id():
    with pytest.raises(InvalidError, match="reads like an app's id"):
        check_app_name("ap-1fcf4cc1479816c6")
