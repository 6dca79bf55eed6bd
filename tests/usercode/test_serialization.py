"""Values that have code in them are one minor version's."""

import io
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import greenroom
from greenroom.usercode.exceptions import pack_exception, unpack_exception
from greenroom.usercode.serialization import dump, load
from tests.interpreters import interpreter

OTHERS = [version for version in ("3.10", "3.12") if version != f"{sys.version_info.major}.{sys.version_info.minor}"]
SOURCES = [str(Path(greenroom.__file__).parent.parent), str(Path(cloudpickle.__file__).parent.parent)]


def there(version: str, program: str, given: bytes = b"") -> bytes:
    """What another Python writes of ``given``."""
    command = [interpreter(version), "-S", "-c", f"import sys; sys.path[:0] = {SOURCES}\n{program}"]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def test_code_comes_back_as_it_was():
    add = 3
    made = load(dump((lambda x: x + add, [1]), io.BytesIO).getvalue())
    assert made[0](4) == 7 and made[1] == [1]


@pytest.mark.parametrize("version", OTHERS)
def test_code_of_another_version_is_refused_before_it_is_loaded(version):
    sent = there(version, """
import io
from greenroom.usercode.serialization import dump
sys.stdout.buffer.write(dump(lambda: 1, io.BytesIO).getvalue())
""")  # fmt: skip
    with pytest.raises(greenroom.exception.DeserializationError) as refused:
        load(sent)
    assert str(refused.value).startswith(f"a value arrived that has code of Python {version} in it, and here is 3.")
    assert "the same Python on both sides" in str(refused.value)


@pytest.mark.parametrize("version", OTHERS)
def test_exceptions_travel_between_versions(version):
    """Plain ones as they are; one whose class has come by value as its text; with files, lines, notes and causes."""

    def fail():
        class Own(Exception):
            def __str__(self):
                return "own"

        try:
            raise Own
        except Own as error:
            raise ValueError("plain") from error

    try:
        fail()
    except ValueError as error:
        error.add_note("noted")
        sent = pack_exception(error)
    echoed = there(version, """
from greenroom.usercode.exceptions import pack_exception, unpack_exception
sys.stdout.buffer.write(pack_exception(unpack_exception(sys.stdin.buffer.read())))
""", sent)  # fmt: skip
    error = unpack_exception(echoed)
    assert (type(error), str(error), error.__notes__) == (ValueError, "plain", ["noted"])
    step = error.__traceback__
    while step.tb_next is not None:
        step = step.tb_next
    code = fail.__code__
    assert (step.tb_frame.f_code.co_filename, step.tb_lineno) == (__file__, code.co_firstlineno + 8)
    assert type(error.__cause__) is greenroom.exception.RemoteError
    assert str(error.__cause__).endswith("Own: own")


@pytest.mark.parametrize("version", OTHERS)
def test_groups_reach_a_version_that_has_none(version):
    sent = pack_exception(ExceptionGroup("two", [ValueError("a"), KeyError("b")]))
    said = there(version, """
from greenroom.usercode.exceptions import unpack_exception
print(repr(unpack_exception(sys.stdin.buffer.read())))
""", sent).decode()  # fmt: skip
    if version == "3.10":
        assert said == "RemoteError('ExceptionGroup: two (2 sub-exceptions)')\n"
    else:
        assert said.startswith("ExceptionGroup('two', [ValueError('a'), KeyError('b')])")


def test_what_pickle_can_do_has_no_mark():
    assert dump([1], io.BytesIO).getvalue() == pickle.dumps([1], 5)


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(None), pickle.dumps({}), pickle.dumps({"type": 1})])
def test_a_failure_that_can_not_be_read_is_one(data):
    from greenroom.sdk.codec import failure
    from greenroom.wire.messages import Status

    error = failure(Status.ERROR, "", data)
    assert isinstance(error, greenroom.RemoteError)
    assert "can't be read here" in str(error)
