"""The file of profiles: what is written is read again, and what makes no sense is said with its line."""

import pytest

from greenroom.model.errors import InvalidError, NotFoundError
from greenroom.sdk import profiles
from greenroom.sdk.address import chosen
from greenroom.sdk.profiles import Profile, Profiles
from greenroom.wire.far import Far, read_address

PINNED = "SHA256:" + "A" * 43


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("GREENROOM_SERVER", raising=False)
    return profiles.file()


def test_what_is_written_is_read(file):
    assert profiles.read() == Profiles("", {})
    assert chosen() is None
    known = Profiles("a", {"a": Profile("host:1", 'quo"ted\\ \u00e9', PINNED), "b-c": Profile("[::1]:2", "t")})
    profiles.write(known)
    assert profiles.read() == known
    assert file.stat().st_mode & 0o777 == 0o600
    found = chosen()
    assert found is not None
    assert (found.far, found.token) == (Far("host", 1, PINNED), 'quo"ted\\ \u00e9')


def test_the_environment_goes_before_the_active_one(file, monkeypatch):
    profiles.write(Profiles("a", {"a": Profile("host:1", "t"), "b": Profile("other:2", "u")}))
    for said, host in (("", "host"), ("b", "other"), ("own", None), ("local", None)):
        monkeypatch.setenv("GREENROOM_SERVER", said)
        found = chosen()
        assert (found.far.host if found is not None and found.far is not None else None) == host
    monkeypatch.setenv("GREENROOM_SERVER", "nope")
    with pytest.raises(NotFoundError, match="no profile 'nope' in .*; there are: a, b"):
        chosen()
    monkeypatch.setenv("GREENROOM_SERVER", "third:3")
    with pytest.raises(InvalidError, match="GREENROOM_SERVER=third:3 needs a token in GREENROOM_TOKEN"):
        chosen()
    monkeypatch.setenv("GREENROOM_TOKEN", "v")
    assert chosen() == ("", "v", "client", Far("third", 3))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("active = 'a'\n[profile.a\n", r"makes no sense: .*line 2"),
        ("x = 1", r"line 1: there is no x: it has active and \[profile.NAME\]"),
        ("active = 1", r"line 1: write active = "),
        ("\nactive = 'b'\n[profile.a]\nserver = 'h:1'\ntoken = 't'", "line 2: there is no profile b; there are: a"),
        ("[profile.a]\nserver = 'h:1'\n", "line 1: the profile a lacks its token: greenroom profile set a --token"),
        ("[profile.a]\ntoken = 't'\n", "line 1: the profile a lacks its server"),
        (
            "[profile.a]\nserver = 'h:1'\ntoken = 1",
            "line 3: a profile has server, token, fingerprint, each a text in quotes",
        ),
        ("[profile.a]\nserver = 'h:1'\ntoken = 't'\n[profile.b]\nserver = 'h:1'\nwhat = 'x'", "line 6: a profile has"),
        ("[profile]\na = 1", r"line 2: write \[profile.a\] before what it has"),
    ],
)
def test_what_makes_no_sense_is_said_with_its_line(file, text, says):
    file.parent.mkdir()
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(InvalidError, match=says) as raised:
        profiles.read()
    assert str(file) in str(raised.value)


def test_a_file_that_others_may_read_is_refused(file):
    profiles.write(Profiles("", {"a": Profile("host:1", "t")}))
    file.chmod(0o640)
    with pytest.raises(InvalidError, match=f"chmod 600 {file}"):
        profiles.read()


@pytest.mark.parametrize("name", ["", "own", "local", "a:b", "a b", "a.b", "x" * 65, "\u00e9"])
def test_names_that_can_not_be(name):
    with pytest.raises(InvalidError, match="can't be a profile's name"):
        profiles.check_name(name)


@pytest.mark.parametrize("text", ["", "x", ":1", "x:", "x:-1", "x:65536", "::1:7", "a b:1", "x:\u0661", "[]:1"])
def test_what_is_no_address(text):
    with pytest.raises(InvalidError, match="is no HOST:PORT"):
        read_address("here", text)


def test_addresses():
    assert read_address("x", "host:7100") == ("host", 7100)
    assert read_address("x", "[::1]:7100") == ("::1", 7100)
    assert str(Far("::1", 7100)) == "[::1]:7100"
