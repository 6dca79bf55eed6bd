"""Patterns as in a ``.dockerignore``, one line of its reference after another."""

from pathlib import Path

import pytest

import greenroom
from greenroom.sdk.file_patterns import FilePatternMatcher, may_hold, read_ignore

FITS = [
    # (patterns, what fits, what doesn't)
    (["a"], ["a", "a/b", "a/b/c"], ["b", "ab", "b/a", "A"]),
    (["/a"], ["a", "a/b"], ["b/a"]),
    (["a/"], ["a", "a/b"], ["b"]),
    (["./a"], ["a"], ["b"]),
    (["a//b", "x/./y", "p/../q"], ["a/b", "x/y", "q"], ["a", "x", "p"]),
    (["  a  "], ["a"], [" a"]),
    (["", "   "], [], ["a"]),
    (["/", ".", "./"], [], ["a", "a/b"]),
    (["a/b"], ["a/b", "a/b/c"], ["a", "b", "x/a/b"]),
    (["*"], ["a", ".hidden", "a/b"], []),
    (["*.py"], ["a.py", ".py", "a.py/b"], ["d/a.py", "a.pyc", "apy"]),
    (["*/a"], ["x/a", "x/a/y"], ["a", "x/y/a"]),
    (["a*b"], ["ab", "axxb"], ["a/b", "abc"]),
    (["a?"], ["ab", "a?"], ["a", "abc", "a/"]),
    (["?"], ["a", "ä"], ["ab"]),
    (["**"], ["a", "a/b", ".git/x"], []),
    (["**/a"], ["a", "x/a", "x/y/a", "x/a/y"], ["xa", "ab"]),
    (["**/*.log"], ["a.log", "x/a.log", "x/y/.log"], ["a.logs"]),
    (["a/**"], ["a/b", "a/b/c"], ["a", "ab"]),
    (["a/**/b"], ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "b"]),
    (["**/a/**"], ["a/b", "x/a/b"], ["a", "x/a"]),
    (["[ab]"], ["a", "b"], ["c", "ab"]),
    (["[a-c]x"], ["ax", "cx"], ["dx", "-x"]),
    (["[a-cx-z0]"], ["b", "y", "0"], ["d", "-"]),
    (["[^a-c]", "[!0-9]z"], ["d", "xz"], ["a", "5z"]),
    (["[!]", "[^]x"], ["!", "^x"], ["a", "x"]),
    (["[a-]", "[-b]x"], ["a", "-", "bx", "-x"], ["b"]),
    (["x[^a]y", "x[!a]y"], ["xby"], ["x/y", "xay"]),
    (["x[.-0]y"], ["x.y", "x0y"], ["x/y"]),
    (["[[]", "[&&~~||]x", r"[\]]y", r"[\^a]z", r"[a\-c]w"], ["[", "&x", "]y", "^z", "-w", "aw"], ["bw", "x"]),
    ([r"\*", r"a\?", r"\[x]", r"b\\"], ["*", "a?", "[x]", "b\\"], ["x", "ab", "b"]),
    ([r"\!a", r"\#b"], ["!a", "#b"], ["a", "b"]),
    (["#a#"], ["#a#"], ["a"]),
    (["a.b", "a+b", "(a|b)", "a$", "^a", "a{2}"], ["a.b", "a+b", "(a|b)", "a$", "^a", "a{2}"], ["axb", "aab", "aa"]),
    (["ä*"], ["ä", "äö"], ["a"]),
    (["a b"], ["a b"], ["a", "b"]),
    (["a\nb"], ["a\nb"], ["a"]),
    # the last that fits decides
    (["*.md", "!README.md"], ["a.md"], ["README.md"]),
    (["*.md", "!README*.md", "README-secret.md"], ["a.md", "README-secret.md"], ["README.md"]),
    (["*.md", "README-secret.md", "!README*.md"], ["a.md"], ["README.md", "README-secret.md"]),
    (["!a"], [], ["a", "b"]),
    (["a", "! a"], [], ["a"]),
    (["!!a", "b"], ["b"], ["a", "!a"]),
    (["a", "!a/b"], ["a", "a/c"], ["a/b", "a/b/c"]),
    (["**", "!**/*.py"], ["a.txt", "x/y", "x"], ["a.py", "x/a.py"]),
]


@pytest.mark.parametrize(("patterns", "fit", "others"), FITS, ids=lambda value: str(value)[:40])
def test_what_fits(patterns, fit, others):
    matcher = FilePatternMatcher(*patterns)
    assert [path for path in fit if not matcher(Path(path))] == []
    assert [path for path in others if matcher(Path(path))] == []
    assert all((~matcher)(Path(path)) != matcher(Path(path)) for path in fit + others)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[", r"the pattern '\[' opens a bracket and doesn't close it: write \\\[ for the character itself"),
        ("a[b", "opens a bracket"),
        ("[]", "opens a bracket"),
        ("[^", "opens a bracket"),
        ("[]a]", "opens a bracket"),
        (r"[a\]", "opens a bracket"),
        ("x[z-a]", r"'x\[z-a\]' has a range that ends before it begins: z-a"),
        ("!", 'the pattern "!" takes nothing back in'),
        ("! ", 'the pattern "!" takes nothing back in'),
        (Path("a"), "takes patterns as text, not "),
        (b"a", "takes patterns as text, not b'a'"),
        (None, "takes patterns as text, not None"),
    ],
)
def test_what_is_no_pattern(wrong, said):
    with pytest.raises(greenroom.InvalidError, match=said):
        FilePatternMatcher("a", wrong)


@pytest.mark.parametrize(
    ("pattern", "may", "can_not"),
    [
        ("a.txt", ["a.txt"], ["sub", "link/usr"]),
        ("sub/deep", ["sub", "sub/deep", "sub/deep/er"], ["deep", "sub/other", "subs"]),
        ("s*/d?", ["sub", "sub/d1", "sub/d1/x"], ["other", "sub/deep"]),
        ("sub/**/x", ["sub", "sub/any/thing"], ["other"]),
        ("**", ["any", "any/thing"], []),
        ("[ab]/c", ["z"], []),
        ("sub/!x", ["sub", "sub/!x"], ["sub/x"]),
        ("./sub/../top", ["top"], ["sub"]),
    ],
)
def test_which_directories_may_hold_what_fits(pattern, may, can_not):
    holds = may_hold(pattern)
    assert [path for path in [*may, *can_not] if holds(Path(path))] == may


def test_lines_of_a_file(tmp_path):
    file = tmp_path / ".dockerignore"
    file.write_bytes("\ufeff# comment\r\n\r\n*.log\r\n #not\n!keep.log\n  build/  \n".encode())
    for given in (file, str(file)):
        matcher = FilePatternMatcher.from_file(given)
        fit = [path for path in ("a.log", "#not", "keep.log", "build/x", "# comment") if matcher(Path(path))]
        assert fit == ["a.log", "#not", "build/x"]


def test_a_file_that_can_not_be_read(tmp_path):
    (tmp_path / "latin").write_bytes(b"\xe4")
    for path, said in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), (tmp_path / "latin", "codec")):
        with pytest.raises(greenroom.InvalidError, match=rf"FilePatternMatcher.from_file\('.*{path.name}'\): .*{said}"):
            FilePatternMatcher.from_file(path)


def test_what_ignore_takes():
    assert not read_ignore("here", None)(Path("a"))
    assert not read_ignore("here", ())(Path("a"))
    assert read_ignore("here", ["a"])(Path("a"))
    assert read_ignore("here", (pattern for pattern in ["a"]))(Path("a"))
    matcher = FilePatternMatcher("a")
    assert read_ignore("here", matcher) is matcher
    assert read_ignore("here", ~matcher)(Path("b"))
    assert read_ignore("here", lambda path: path.suffix == ".x")(Path("a.x"))
    with pytest.raises(greenroom.InvalidError, match=r"here: ignore= takes a list of patterns: write \['a'\]"):
        read_ignore("here", "a")
    for wrong in (Path("a"), 3):
        with pytest.raises(greenroom.InvalidError, match=r"here: ignore= takes a list of patterns, not .*from_file"):
            read_ignore("here", wrong)
