"""What a Dockerfile needs beside itself, and what ``COPY`` copies, against Docker's reference."""

import os

import pytest

import greenroom
from greenroom.model.errors import InvalidError
from greenroom.model.image import ImageSpec, keys
from greenroom.sdk.build_context import DOCUMENTS, finder, read_dockerfile
from greenroom.sdk.image_plan import Plan

FILES = ("a.txt", "b.txt", "c.log", "sub/d.txt", "sub/deep/e.txt", "sub/f.log", "[x].txt", "!y", "two words", ".hidden")


@pytest.fixture
def context(tmp_path, monkeypatch):
    for name in FILES:
        path = tmp_path / "context" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "context" / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "context")
    return tmp_path / "context"


@pytest.fixture
def dockerfile(tmp_path):
    def write(text, given=None):
        (tmp_path / "Dockerfile").write_text(text)
        return read_dockerfile("here", str(tmp_path / "Dockerfile"), given or {})

    return write


def found(read, ignore=None):
    return sorted(finder(read, None, ignore)("here").entries)


# ---- whole Dockerfiles ----


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ("RUN make", []),
        ("COPY a.txt /", ["a.txt"]),
        ("COPY /a.txt ./b.txt /x/", ["a.txt", "b.txt"]),
        ("COPY *.txt /x/", ["[x].txt", "a.txt", "b.txt"]),
        ("COPY [[]x].txt /", ["[x].txt"]),
        ("COPY !y /", ["!y"]),
        ('COPY ["two words", "/"]', ["two words"]),
        ("COPY sub /x", ["sub/d.txt", "sub/deep/e.txt", "sub/f.log"]),
        ("COPY sub/*/e.txt /x", ["sub/deep/e.txt"]),
        ("COPY empty /x", ["empty"]),
        ("COPY --from=base /a.txt /", []),
        ("ADD http://x/a.txt /", []),
        ("ADD --checksum=x a.txt /", ["a.txt"]),
        ("ARG N=a\nCOPY $N.txt /", ["a.txt"]),
        ("ENV N=b\nARG N=a\nCOPY ${N}.txt ${GONE:-x}", ["b.txt"]),
        ("RUN --mount=type=bind,source=sub,target=/x ls", ["sub/d.txt", "sub/deep/e.txt", "sub/f.log"]),
        ("RUN --mount=type=cache,target=/x --mount=source=a.txt,target=/y ls", ["a.txt"]),
        ("RUN --mount=type=secret,id=x ls", []),
        ("RUN --mount=from=base,source=/x,target=/y ls", []),
        ("COPY <<x /x\ny\nx", []),
    ],
)
def test_nothing_else_of_the_directory_goes_along(context, dockerfile, lines, files):
    assert found(dockerfile(f"FROM x AS base\n{lines}\n")) == files


@pytest.mark.parametrize(
    "lines", ["COPY . /", "COPY $HERE/x /", "RUN --mount=target=/x ls", "ENV N=$PATH\nARG N=a.txt\nCOPY $N /"]
)
def test_all_of_it_goes_along_where_nobody_knows(context, dockerfile, lines):
    assert {*FILES, "empty"} == {*found(dockerfile(f"FROM x\n{lines}\n"))}


def test_values_of_arguments_are_given(context, dockerfile):
    text = "ARG N=a\nARG TAG\nFROM base:$TAG AS one\nARG N\nCOPY $N.txt /\nFROM one\nCOPY $N.log /\n"
    read = dockerfile(text, {"TAG": "7"})
    assert (read.images, read.patterns) == (["base:7"], ["a.txt", "."])
    assert dockerfile(text, {"N": "b", "TAG": "7"}).patterns == ["b.txt", "."]


def test_what_it_stands_on_and_takes_files_from(dockerfile):
    read = dockerfile(
        "ARG R=host:5000\nFROM --platform=linux/amd64 ${R}/a:1 as One\nFROM scratch\nFROM one AS two\nCOPY --from=one x y\n"
        "COPY --from=0 x y\nCOPY --from=other/b x y\nRUN --mount=from=two,target=/x --mount=type=cache,from=c,target=/y z\nFROM other/b\n"
    )
    assert read.images == ["host:5000/a:1", "other/b", "c"]


@pytest.mark.parametrize(
    ("lines", "ignored", "entered"),
    [
        ("COPY a.txt /", None, ["."]),
        ("COPY sub/d.txt /", None, [".", "sub"]),
        ("COPY . /", ["machine", "sub"], [".", "empty"]),
        ("COPY . /", ["machine", "sub", "!sub/d.txt"], [".", "empty", "machine", "sub", "sub/deep"]),
    ],
)
def test_nobody_looks_where_nothing_can_be_that_goes_along(context, dockerfile, monkeypatch, lines, ignored, entered):
    """At each start of an app: there may be much, and links lead anywhere."""
    (context / "machine").symlink_to(context / "empty")
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(os.path.relpath(path)) or listdir(path))
    found(dockerfile(f"FROM x\n{lines}\n"), ignored)
    assert sorted(listed) == entered


def test_what_is_ignored(context, dockerfile, tmp_path):
    read = dockerfile("FROM x\nCOPY *.* sub /x/\n")
    everything = found(read)
    (context / ".dockerignore").write_text("**/*.log\nsub/deep\n!c.log\n")
    assert set(everything) - set(found(read)) == {"sub/f.log", "sub/deep/e.txt"}
    (tmp_path / "Dockerfile.dockerignore").write_text("*.txt\n")
    assert set(everything) - set(found(read)) == {"a.txt", "b.txt", "[x].txt"} - {".dockerignore"}
    assert "c.log" not in found(read, ["c.log"])
    assert "a.txt" in found(read, ["c.log"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("COPY gone /", "there is no gone to copy in /"),
        ("COPY a.txt *.gone /", "there is no *.gone to copy in /"),
        ("COPY c.log /", "there is no c.log to copy in .*, as what is ignored has it"),
        ("COPY ../a /", "'../a' lies outside of the directory"),
        ("COPY sub/../../a /", "lies outside of the directory"),
        ("COPY <<E /x\n$HERE\nE", "write <<'E' for text as it is"),
        ("COPY <<E /x\nE x", "has no end"),
        ("COPYY a b", "line 2: 'COPYY a b' is no instruction"),
        ("ENV a='", "has a ' that isn't closed"),
    ],
)
def test_what_can_not_be_built_says_why(context, dockerfile, line, says):
    (context / ".dockerignore").write_text("c.log\n")
    with pytest.raises(InvalidError, match="^here: .*") as refused:
        found(dockerfile(f"FROM x\n{line}\n"))
    refused.match(says.replace("*.gone", r"\*.gone"))


@pytest.mark.parametrize("text", ["", "RUN make\n", "# FROM x\n", "ARG a\n"])
def test_a_dockerfile_begins_with_what_it_stands_on(dockerfile, text):
    with pytest.raises(InvalidError, match="begins with FROM"):
        dockerfile(text)


def test_here_documents_are_written_so_that_any_buildah_knows_them(dockerfile):
    read = dockerfile(
        '# c\nFROM x\nARG A=1\nRUN <<EOF\na\n$A\nEOF\nRUN --mount=type=tmpfs,target=/x cat <<E > y\nz\nE\nSHELL ["/bin/bash", "-c"]\n'
        "RUN <<E\nq\nE\nCOPY --chmod=600 <<f a.txt <<'g' /x/\n$A\nf\n$A\ng\n\nCMD x\n"
    )
    assert read.text.split("\n") == [
        "# c", "FROM x", "ARG A=1", 'RUN ["/bin/sh", "-c", "a\\n$A\\n"]',
        'RUN --mount=type=tmpfs,target=/x ["/bin/sh", "-c", "cat <<E > y\\nz\\nE\\n"]', 'SHELL ["/bin/bash", "-c"]',
        'RUN ["/bin/bash", "-c", "q\\n"]',
        f"COPY --chmod=600 {DOCUMENTS}/0/f a.txt {DOCUMENTS}/1/g /x/", "", "CMD x", "",
    ]  # fmt: skip
    assert read.documents == {f"{DOCUMENTS}/0/f": "1\n", f"{DOCUMENTS}/1/g": "$A\n"}


def test_what_is_bound_read_only_keeps_the_flags_of_where_it_lies(dockerfile):
    read = dockerfile(
        "FROM x\nRUN --mount=target=/x --mount=type=cache,target=/y \\\n  a\nRUN --mount=type=bind,rw,target=/x b\n"
    )
    assert read.text.split("\n")[1:] == [
        "RUN --mount=target=/x,nodev,nosuid --mount=type=cache,target=/y a", "RUN --mount=type=bind,rw,target=/x b", "",
    ]  # fmt: skip


def test_a_script_names_its_interpreter(dockerfile):
    (line,) = (
        line for line in dockerfile("FROM x\nRUN <<E\n#!/bin/x\ny\nE\n").text.split("\n") if line.startswith("RUN")
    )
    assert "#!/bin/x\\ny\\n" in line
    assert '\\"$f\\"' in line


def test_only_what_is_copied_counts(context, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY a.txt /\n")

    def key(**more):
        image = greenroom.Image.from_dockerfile(tmp_path / "Dockerfile", **more)
        spec = ImageSpec.from_json(Plan("b" * 64).describe(image).to_json())
        return next(keys(spec.base, spec.steps))

    first = key()
    (context / "b.txt").write_text("other")
    (context / "new").write_text("new")
    assert key() == first == key(context_dir=context)
    assert key(build_args={"A": "1"}) != first
    (context / "a.txt").write_text("other")
    second = key()
    assert second != first
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY a.txt /x\n")
    assert key() not in (first, second)


# ---- COPY as a step ----


def copied(line, **more):
    """Where files go: the directory, those in it, and the name that a file has below a directory of its name."""
    plan = Plan("b" * 64)
    image = greenroom.Image.from_registry("x").dockerfile_commands(line, **more)
    (step,) = plan.describe(image).steps
    entries = plan.bundles[step.rest["bundle"]].entries
    return step.key["path"], sorted(entries), step.key.get("own", "")


@pytest.mark.parametrize(
    ("line", "goes"),
    [
        ("COPY a.txt /x/", ("/x/", ["a.txt"], "")),
        ("COPY a.txt /x", ("/", ["x"], "a.txt")),
        ("COPY a.txt x", (".", ["x"], "a.txt")),
        ("COPY a.txt .", (".", ["a.txt"], "")),
        ("COPY a.txt /x/..", ("/x/..", ["a.txt"], "")),
        ("COPY /a.txt b.txt /x", ("/x", ["a.txt", "b.txt"], "")),
        ("COPY sub /x", ("/", ["x/d.txt", "x/deep/e.txt", "x/f.log"], "")),
        ("COPY sub/ /x/", ("/x/", ["d.txt", "deep/e.txt", "f.log"], "")),
        ("COPY sub a.txt /x/", ("/x/", ["a.txt", "d.txt", "deep/e.txt", "f.log"], "")),
        ("COPY *.txt /x/", ("/x/", ["[x].txt", "a.txt", "b.txt"], "")),
        ("COPY a.tx? /x", ("/", ["x"], "a.txt")),
        ("COPY su* /x/", ("/x/", ["d.txt", "deep/e.txt", "f.log"], "")),
        ('COPY ["two words", "/x y"]', ("/", ["x y"], "two words")),
        ("COPY empty /x", ("/", ["x"], "")),
        ("ADD a.txt /x", ("/", ["x"], "a.txt")),
        ("COPY given /x", ("/", ["x"], "given")),
    ],
)
def test_where_files_go(context, line, goes):
    assert copied(line, context_files={"given": str(context / "b.txt")}) == goes


def test_what_of_the_directory_stays_behind(context):
    (context / ".dockerignore").write_text("*.log\n**/*.log\n")
    assert copied("COPY sub /")[1] == ["d.txt", "deep/e.txt"]
    assert copied("COPY sub /", ignore=["sub/deep"])[1] == ["d.txt", "f.log"]
    assert copied("COPY sub /", context_dir=context.parent / "context", ignore=[])[1] == [
        "d.txt",
        "deep/e.txt",
        "f.log",
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("COPY gone /", "there is no gone to copy in /"),
        ("COPY c.log /", "as what is ignored has it; a ! in .dockerignore takes it back in"),
        ("COPY ../a /", "lies outside of the directory"),
        ("COPY given /", "there is no file /nowhere"),
    ],
)
def test_what_can_not_be_copied_says_why(context, line, says):
    (context / ".dockerignore").write_text("c.log\n")
    with pytest.raises(InvalidError) as refused:
        copied(line, context_files={"given": "/nowhere"})
    assert str(refused.value).startswith(f"Image.dockerfile_commands({line!r})")
    assert says in str(refused.value)
