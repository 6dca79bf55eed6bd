"""Dockerfiles read here, against Docker's reference; and their lines as steps of an image."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenroom
from greenroom.model.errors import InvalidError
from greenroom.model.expansion import expand
from greenroom.model.image import ImageConfig, ImageSpec, configure
from greenroom.sdk.dockerfile import declared, pairs, parse, unquoted, words_of
from greenroom.sdk.image_plan import Plan

BASE = greenroom.Image.from_registry("base")


def read(text):
    return [(each.name, each.flags, each.rest) for each in parse(text, "here")]


# ---- reading ----


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("run make", [("RUN", [], "make")]),
        ("RUN\tmake", [("RUN", [], "make")]),
        ("  RUN   make  \r\nCMD x\r\n", [("RUN", [], "make"), ("CMD", [], "x")]),
        ("\ufeffRUN make", [("RUN", [], "make")]),
        ("# c\n\n  # d\nRUN make # e", [("RUN", [], "make # e")]),
        ("RUN a \\\n  b", [("RUN", [], "a   b")]),
        ("RUN a \\  \n# c\n\n  b", [("RUN", [], "a   b")]),
        ("RUN a \\", [("RUN", [], "a")]),
        ("RUN printf 'a\tb'", [("RUN", [], "printf 'a\tb'")]),
        ("RUN a\x0cb\u2028c", [("RUN", [], "a\x0cb\u2028c")]),
        ("# escape=`\nRUN a `\nb \\\nCMD c", [("RUN", [], "a b \\"), ("CMD", [], "c")]),
        ("# ESCAPE = `\nRUN a `\nb", [("RUN", [], "a b")]),
        ("# syntax=x\n# escape=`\nRUN a `\nb", [("RUN", [], "a b")]),
        ("# c\n# escape=`\nRUN a \\\nb", [("RUN", [], "a b")]),
        ("\n# escape=`\nRUN a \\\nb", [("RUN", [], "a b")]),
        ("COPY --from=a --chown=1:2 x y", [("COPY", ["--from=a", "--chown=1:2"], "x y")]),
        ("ADD --link x y", [("ADD", ["--link"], "x y")]),
        ("RUN ls --all", [("RUN", [], "ls --all")]),
        ("", []),
    ],
)
def test_instructions(text, found):
    assert read(text) == found


@pytest.mark.parametrize(
    ("text", "line"), [("RUNN make", 1), ("RUN a\n\nmake", 3), ("RUN", 1), ("FROM x\nRUN  \\\n", 2), ("=", 1)]
)
def test_what_is_none_is_named_with_its_line(text, line):
    with pytest.raises(
        InvalidError, match=f"here: line {line}: .* is no instruction of a Dockerfile, such as 'RUN make'"
    ):
        read(text)


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("RUN <<EOF\na\n  b\nEOF\nCMD x", [("EOF", "a\n  b\n", True)]),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF\nCMD x", [("EOF", "a\nb\n", True)]),
        ("RUN <<'E'\n$a\nE\nCMD x", [("E", "$a\n", False)]),
        ('RUN cat <<"E F" >x\nCMD x', []),
        ("RUN cat <<A <<B >x\n1\nA\n2\nB\nCMD x", [("A", "1\n", True), ("B", "2\n", True)]),
        ("RUN cat 3<<A\n1\nA\nCMD x", [("A", "1\n", True)]),
        ("COPY <<a.txt <<b.txt /x/\n1\na.txt\nb.txt\nCMD x", [("a.txt", "1\n", True), ("b.txt", "", True)]),
        ("RUN cat <<EOF\n# no comment\nRUN \\\n\nEOF\nCMD x", [("EOF", "# no comment\nRUN \\\n\n", True)]),
        ("RUN cat <<<word\nCMD x", []),
        ("RUN echo $((1<<X))\nCMD x", []),
        ("RUN echo 'a <<b c'\nCMD x", []),
        ("ENV A=<<EOF\nCMD x", []),
    ],
)
def test_here_documents(text, documents):
    first, *others = parse(text, "here")
    assert [(each.mark, each.text, each.expands) for each in first.documents] == documents
    assert [each.name for each in others] == ["CMD"]
    assert first.end == len(text.split("\n")) - 1


def test_a_here_document_without_an_end():
    with pytest.raises(InvalidError, match="the here-document <<EOF has no end: a line that is EOF alone"):
        read("RUN <<EOF\nx\n EOF")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('RUN ["a", "b c"]', ["a", "b c"]),
        ('COPY [ "a b", "c" ]', ["a b", "c"]),
        ("CMD []", []),
        ("RUN [a]", None),
        ("RUN ['a']", None),
        ("RUN [1]", None),
        ("RUN [ -e x ]", None),
        ("RUN a", None),
        ("RUN " + "[" * 100_000, None),
    ],
)
def test_words_are_json_or_none(text, words):
    (each,) = parse(text, "here")
    assert each.words() == words


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a=1 b=2", {"a": "1", "b": "2"}),
        ('a="1 2" b=3\\ 4', {"a": "1 2", "b": "3 4"}),
        ("a='$b'\"$b\"$b", {"a": "$bvv"}),
        ("a 1 2", {"a": "1 2"}),
        ('a "1  2"', {"a": "1  2"}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        (r'a="\n\"\\\$b"', {"a": r"\n" + '"' + "\\" + "$b"}),
        (r"a=\$b", {"a": "$b"}),
        ("a=${b}x${c:-'d'}", {"a": "vxd"}),
    ],
)
def test_variables(written, found):
    (each,) = parse(f"ENV {written}", "here")
    assert {name: expand(value, {"b": "v"}) for name, value in pairs(each, "here").items()} == found


@pytest.mark.parametrize("wrong", ["a", "a=1 b", "a='", 'a="x', "=1", "a=1 =2"])
def test_what_are_no_variables(wrong):
    (each,) = parse(f"ENV {wrong}", "here")
    with pytest.raises(InvalidError):
        pairs(each, "here")


def test_arguments():
    (each,) = parse("ARG a b=1 c='x y' d=", "here")
    assert declared(each, "here") == [("a", None), ("b", "1"), ("c", "x y"), ("d", "")]


LINES = st.text(string.ascii_letters + "  \"'\\<>#=[]{}$-,\n\t/`", max_size=60)
INSTRUCTION = st.builds(
    "{} {}".format, st.sampled_from(["RUN", "COPY", "ENV", "ARG", "# escape=`\nRUN", "COPY --from=a"]), LINES
)


@given(st.lists(LINES | INSTRUCTION, max_size=5).map("\n".join))
def test_any_text_is_read_or_refused(text):
    try:
        found = list(parse(text, "here"))
    except InvalidError:
        return
    ends = [0, *(each.end for each in found)]
    assert all(before <= each.begin < each.end for before, each in zip(ends, found, strict=False))
    for each in found:
        each.words(), each.paths(), each.shell_text(), each.text
        for what in (pairs, declared):
            try:
                what(each, "here")
            except InvalidError:
                pass


@given(LINES)
def test_words_leave_nothing_out(text):
    assert "".join("".join(words_of(text)).split()) == "".join(text.split())


@given(st.text(max_size=20))
def test_a_quoted_text_is_itself(text):
    for quoted in ("'" + text.replace("'", "'\\''") + "'", "".join(f"\\{char}" for char in text)):
        assert expand(unquoted(quoted, "here"), {}) == text


# ---- as steps ----


def steps(*lines, **more):
    image = BASE.dockerfile_commands(*lines, **more)
    return ImageSpec.from_json(Plan("b" * 64).describe(image).to_json()).steps


def config(*lines, environment=None, **more):
    made = ImageConfig(environment=environment or {})
    for step in steps(*lines, **more):
        made = configure(made, step)
    return made


def test_each_line_is_a_step_of_its_own():
    found = steps(["RUN a \\", "  b"], 'RUN ["c", "d e"]', 'ENTRYPOINT ["x"]', "CMD y z", 'SHELL ["/bin/bash", "-c"]')
    assert [(step.kind, step.key.get("commands", step.key.get("words"))) for step in found] == [
        ("run", ["a   b"]),
        ("run", [["c", "d e"]]),
        ("entrypoint", ["x"]),
        ("cmd", ["/bin/sh", "-c", "y z"]),
        ("shell", ["/bin/bash", "-c"]),
    ]
    assert found[0].text == ".dockerfile_commands('RUN a   b')"


def test_variables_are_known_where_the_image_is_made():
    made = config("ENV PATH=/x:$PATH", "ENV A=1 B=$A", "ENV C=$A$B", "ENV D='$A'", environment={"PATH": "/base"})
    assert made.environment == {"PATH": "/x:/base", "A": "1", "B": "", "C": "1", "D": "$A"}
    assert config("ENV PATH=/x:$PATH").environment["PATH"].startswith("/x:/usr/local/sbin:")


def test_arguments_are_for_commands_and_for_later_lines():
    lines = ["ARG A=1 B", "ARG C=$A$A", "ENV D=$C-$B", "RUN x", "ENV A=9", "ARG A=2", "ENV E=$A", "RUN y"]
    first, second = (step for step in steps(*lines) if step.kind == "run")
    assert first.key["env"] == {"A": "1", "C": "11"}
    assert second.key["env"] == {"C": "11"}  # what ENV sets counts before it
    assert config(*lines).environment == {"D": "11-", "A": "9", "E": "9"}
    assert config(*lines, build_args={"A": "$x}", "B": "b"}).environment == {"D": "$x}$x}-b", "A": "9", "E": "9"}


def test_working_directories():
    assert config("ENV A=/a", "WORKDIR $A/b", "WORKDIR c", "WORKDIR '$A'").workdir == "/a/b/c/$A"
    assert config("WORKDIR $HERE/x", environment={"HERE": "/base"}).workdir == "/base/x"


def test_here_documents_are_commands():
    (step,) = steps("RUN <<EOF\na\nb\nEOF")
    assert step.key["commands"] == ["a\nb\n"]
    (step,) = steps("RUN cat <<A > x && cat <<'B'\n$a\nA\n$b\nB")
    assert step.key["commands"] == ["cat <<A > x && cat <<'B'\n$a\nA\n$b\nB\n"]


def test_what_means_nothing_to_a_container_is_said():
    image = BASE.dockerfile_commands(
        "EXPOSE 80", "LABEL a=b", "VOLUME /x", "STOPSIGNAL 9", "HEALTHCHECK NONE", "USER root"
    )
    assert image.ignored == {"EXPOSE", "LABEL", "VOLUME", "STOPSIGNAL", "HEALTHCHECK"}
    assert list(image.steps()) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("FROM x", "write Image.from_registry, or Image.from_dockerfile"),
        ("USER 1000", "containers run as root, in a user namespace: leave it out"),
        ("ONBUILD RUN x", "it needs a whole Dockerfile: Image.from_dockerfile"),
        ("RUN --mount=type=cache,target=/x y", "--mount=type=cache,target=/x needs a whole Dockerfile"),
        ("COPY --from=a b c", "--from=a needs a whole Dockerfile: Image.from_dockerfile"),
        ("COPY --chown=1 b c", "--chown=1 needs a whole Dockerfile"),
        ("COPY x", "name what to copy, and where to"),
        ("COPY <<E /x\nE", "write the file by RUN cat > …, or Image.add_local_file"),
        ("ADD http://x/y z", "write RUN curl …, or RUN tar …"),
        ("ADD x.tar.gz /", "write RUN curl …, or RUN tar …"),
        ("COPY $HERE/x /", "the value of HERE isn't known here: ARG or build_args= can say it"),
        ("COPY x $THERE", "the value of THERE isn't known here"),
        ("COPY 'x /", "has a ' that isn't closed"),
        ("ARG A=$PATH", "the value of PATH isn't known here"),
        ("ENV A=${B", "only ${NAME}, ${NAME:-default} and"),
        ("WORKDIR ${B%/x}", "only ${NAME}, ${NAME:-default} and"),
        ("COPY ${B x /", "only ${NAME}, ${NAME:-default} and"),
        ("ARG A=${B", "only ${NAME}, ${NAME:-default} and"),
        ("ENV A", "write ENV NAME=VALUE"),
        ("make", "is no instruction of a Dockerfile"),
    ],
)
def test_what_is_refused_says_what_to_write(line, says):
    with pytest.raises(InvalidError) as refused:
        BASE.dockerfile_commands("RUN true", line)
    assert str(refused.value).startswith("Image.dockerfile_commands")
    assert says in str(refused.value)


@pytest.mark.parametrize("wrong", [(), ("",), (3,), ([None],), ("RUN a\0b",)])
def test_what_are_no_lines(wrong):
    with pytest.raises(InvalidError, match="takes text, such as 'RUN make'"):
        BASE.dockerfile_commands(*wrong)


@pytest.mark.parametrize("wrong", ["A=1", ["A"], {"A": 1}, {1: "A"}, 3])
def test_build_args_are_text(wrong):
    for use in (lambda: BASE.dockerfile_commands("RUN x", build_args=wrong),
                lambda: greenroom.Image.from_dockerfile("Dockerfile", build_args=wrong)):  # fmt: skip
        with pytest.raises(InvalidError, match="build_args= takes a dict of text"):
            use()


@pytest.mark.parametrize(
    "values", [{"TOKEN": "x"}, {"REGISTRY_USERNAME": "u"}, {"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": ""}]
)
def test_a_secret_that_is_none_of_a_registry_is_refused(values):
    secret = greenroom.Secret.from_dict(values)
    for use in (lambda: greenroom.Image.from_registry("x", secret=secret),
                lambda: greenroom.Image.from_dockerfile("Dockerfile", registry_secret=secret)):  # fmt: skip
        with pytest.raises(InvalidError, match="a secret for a registry has REGISTRY_USERNAME and REGISTRY_PASSWORD"):
            use()


def test_of_a_registrys_secret_nothing_else_goes_along():
    values = {"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p", "LD_PRELOAD": "/x"}
    image = greenroom.Image.from_registry("x", secret=greenroom.Secret.from_dict(values))
    base = Plan("b" * 64).describe(image).base
    assert base.key["secrets"] == ["REGISTRY_PASSWORD", "REGISTRY_USERNAME"]
    assert base.rest["environment"] == {"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"}
