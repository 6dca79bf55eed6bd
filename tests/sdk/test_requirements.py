"""Files of requirements, and what they include."""

import pytest

import greenroom
from greenroom.sdk.requirements import read_requirements


def read(tmp_path, text, **others):
    for name, other in others.items():
        path = tmp_path / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(other)
    (tmp_path / "r.txt").write_text(text)
    return read_requirements("here", str(tmp_path / "r.txt"), "requirements.txt")


def test_a_file_by_itself(tmp_path):
    text = "a==1 \\\n  --hash=sha256:00\n# -r b.txt\n-e git+https://x/y\n-r https://x/z.txt\n--pre\nb @ file:///c\n"
    assert read(tmp_path, text) == {"requirements.txt": text}


def test_what_it_includes_is_in_its_place_relative_to_where_it_is_named(tmp_path):
    found = read(tmp_path, "-r sub/b.txt\nlast", sub__b="--requirement=c.txt\nb\n", sub__c="c")
    assert found == {"requirements.txt": "c\nb\nlast\n"}


def test_files_of_constraints_stay_such(tmp_path):
    found = read(
        tmp_path, "-c sub/b.txt # old\n--constraint d.txt\nlast\n", sub__b="b<1\n-r c.txt\n", sub__c="c<1\n", d="d<1\n"
    )
    assert found == {
        "requirements.txt": "-c requirements-constraints-0.txt\n-c requirements-constraints-1.txt\nlast\n",
        "requirements-constraints-0.txt": "b<1\nc<1\n",
        "requirements-constraints-1.txt": "d<1\n",
    }


@pytest.mark.parametrize(
    "line", ["-e .", "--editable=./b", "-e b", ".", "./b", "../b[c]", ".[dev]", ". ; python_version > '3'"]
)
def test_a_directory_of_this_machine_is_refused_by_its_line(tmp_path, line):
    with pytest.raises(greenroom.InvalidError) as refused:
        read(tmp_path, f"a\n{line}\n")
    assert f"here: line 2 of {tmp_path}/r.txt names a directory of this machine" in str(refused.value)
    assert line in str(refused.value)


def test_a_file_that_is_missing_and_one_that_includes_itself(tmp_path):
    with pytest.raises(greenroom.InvalidError, match=f"{tmp_path}/gone.txt can't be read: No such file"):
        read(tmp_path, "-r gone.txt\n")
    with pytest.raises(greenroom.InvalidError, match=f"{tmp_path}/r.txt includes itself"):
        read(tmp_path, "-r b.txt\n", b="-r r.txt\n")
