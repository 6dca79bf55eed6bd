"""Variables within text, against the table and the words of Docker's reference."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model.errors import InvalidError
from greenroom.model.expansion import escaped, expand, names_in

KNOWN = {"foo": "/bar", "empty": "", "other": "o", "path": "a}b$c\\d"}
TABLE = [
    ("$foo", "/bar"),
    ("${foo}", "/bar"),
    ("${foo}_x", "/bar_x"),
    ("$foo_x", ""),
    ("$foo-x", "/bar-x"),
    (r"\$foo", "$foo"),
    (r"\${foo}", "${foo}"),
    ("$nosuch", ""),
    ("${nosuch}", ""),
    ("${foo:-word}", "/bar"),
    ("${nosuch:-word}", "word"),
    ("${empty:-word}", "word"),
    ("${empty-word}", ""),
    ("${nosuch-word}", "word"),
    ("${foo:+word}", "word"),
    ("${nosuch:+word}", ""),
    ("${empty:+word}", ""),
    ("${empty+word}", "word"),
    ("${nosuch:-$foo}", "/bar"),
    ("${nosuch:-${gone:-${foo}}}/x", "/bar/x"),
    ("${nosuch:-}", ""),
    (r"${nosuch:-a\}b}", "a}b"),
    ("a}b", "a}b"),
    ("$", "$"),
    ("a$", "a$"),
    ("$/x", "$/x"),
    ("$path", "a}b$c\\d"),
    ("\\", "\\"),
    (r"\\$foo", "\\/bar"),
    ("$foo$other", "/baro"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "found"), TABLE)
def test_what_it_stands_for(text, found):
    assert expand(text, KNOWN) == found


@pytest.mark.parametrize(("text", "found"), TABLE)
def test_what_is_unknown_at_first_can_be_known_later(text, found):
    """However the values come in, in one pass or in two, it stands for the same."""
    for first in ({}, {"foo": "/bar"}, {"path": KNOWN["path"]}, {"empty": "", "other": "o"}, KNOWN):
        assert expand(expand(text, first, kept=True), KNOWN) == found


@pytest.mark.parametrize(
    "text", ["${foo", "${", "${}", "${foo:-", "${foo:-${other}", "${foo%x}", "${foo:?x}", "${-x}", "${a b}"]
)
def test_what_can_not_be_one_says_what_can(text):
    with pytest.raises(InvalidError, match=r"write \\\$ for the character itself"):
        expand(text, KNOWN)


def test_the_names_that_count():
    assert names_in(r"$a ${b} ${c:-$d} \$e ${f:+${g-h}}") == {"a", "b", "c", "d", "f", "g"}
    assert names_in("a") == set()


TEXT = st.text(string.ascii_letters + "${}:-+\\_ \"'1ä\n", max_size=30)


@given(TEXT, st.dictionaries(st.sampled_from("abc"), TEXT))
def test_any_text_is_expanded_or_refused(text, variables):
    try:
        expand(text, variables)
    except InvalidError:
        with pytest.raises(InvalidError):
            expand(text, variables, kept=True)
    else:
        assert expand(expand(text, {}, kept=True), variables) == expand(text, variables)


@given(TEXT, st.dictionaries(st.sampled_from("abc"), TEXT))
def test_what_is_escaped_stays_what_it_is(text, variables):
    assert expand(escaped(text), variables) == text
    assert names_in(escaped(text)) == set()


def test_no_depth_is_too_much_to_refuse():
    with pytest.raises(InvalidError, match="nested"):
        expand("${a:-" * 5000 + "}" * 5000, {})
