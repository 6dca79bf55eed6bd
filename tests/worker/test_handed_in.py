"""What steps find of this machine's settings for indexes of packages, and what uv is told of pip's."""

import json
from pathlib import Path

import pytest

import greenroom
from greenroom.worker.images.handed_in import Places, certificates, hand_in, places_of, words_after, words_of
from greenroom.worker.images.pip_settings import ForUv, files_of, for_uv, names_of, set_by_toml, settings_of

NOWHERE = Places([], [], {})


def pip_conf(path: Path) -> Places:
    return Places([str(path)], [], {str(path): "/etc/pip.conf"})


def test_variables_of_installers_are_passed_and_no_others():
    environ = {"PIP_INDEX_URL": "https://x/simple", "UV_OFFLINE": "1", "UV_CACHE_DIR": "/c", "HOME": "/h"}
    found = hand_in(environ, None, places=NOWHERE)
    assert found.environment == {"PIP_INDEX_URL": "https://x/simple", "UV_OFFLINE": "1"}
    assert found.shown == [] and found.options == []


def test_what_image_and_step_set_themselves_comes_before_this_machines():
    environ = {"PIP_INDEX_URL": "https://here/simple", "PIP_PRE": "1", "UV_OFFLINE": "1"}
    found = hand_in(environ, [], {"PIP_INDEX_URL": "https://mine/simple", "UV_OFFLINE": "0"}, NOWHERE)
    assert found.environment == {
        "PIP_PRE": "1", "UV_PRERELEASE": "allow", "UV_DEFAULT_INDEX": "https://mine/simple",
    }  # fmt: skip


def test_what_settings_name_is_shown_and_files_of_settings_are(tmp_path):
    for name in ("links", "index/simple", "more", "other", "env", "joined", "of-uv"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("limits.txt", "mine.txt", "own.pem"):
        (tmp_path / name).touch()
    settings = tmp_path / "pip.conf"
    settings.write_text(
        f"[global]\nfind-links = {tmp_path}/links\n  {tmp_path}/gone\nconstraint = {tmp_path}/limits.txt\n"
        f"extra-index-url = https://y/simple file://{tmp_path}/index/simple/\n[install]\nindex-url = file://{tmp_path}/more\n"
        f"cert = {tmp_path}/own.pem\n"
    )
    words = ["--pre", "--find-links", f"{tmp_path}/other", "a-package", str(tmp_path / "links"), "-c", f"{tmp_path}/mine.txt",
             f"--extra-index-url=file://{tmp_path}/joined"]  # fmt: skip
    variables = {"UV_FIND_LINKS": f"{tmp_path}/env,{tmp_path}/gone", "UV_INDEX": f"https://z file://{tmp_path}/of-uv"}
    for given in (words, None):
        found = hand_in(variables, given, places=pip_conf(settings))
        shown = ["links", "index", "more", "env", "of-uv", "limits.txt", "own.pem"]
        shown += ["other", "mine.txt", "joined"] if given else []
        assert sorted(found.shown) == sorted(
            [(str(settings), "/etc/pip.conf", False)]
            + [(f"{tmp_path}/{name}", f"{tmp_path}/{name}", False) for name in shown]  # an index's files lie beside its lists
        )  # fmt: skip


def test_the_whole_machine_is_no_index():
    assert hand_in({"PIP_EXTRA_INDEX_URL": "file:///"}, None, places=NOWHERE).shown == []


def test_damaged_settings_stop_uv_which_would_not_read_them_and_are_pips_own_to_complain_of(tmp_path):
    settings = tmp_path / "pip.conf"
    settings.write_bytes(b"[global\n\xff")
    assert hand_in({}, None, places=pip_conf(settings)).shown == [(str(settings), "/etc/pip.conf", False)]
    with pytest.raises(greenroom.ImageBuildError, match="pip.conf, pip's settings, can't be read"):
        hand_in({}, [], places=pip_conf(settings))


def test_only_values_of_options_that_name_a_place_are_looked_at():
    words = ["--index-url", "a", "b", "--find-links=c", "--no-deps", "d", "-c", "e"]
    assert list(words_after(words)) == ["a", "c", "e"]
    assert names_of(words) == ["--index-url", "--find-links", "--no-deps", "-c"]


def test_files_of_requirements_have_options_too():
    text = "--index-url https://x\n# --pre\ngrone --hash=sha256:00\n-f /links\n"
    assert words_of(["--pre", {"file": "requirements.txt"}], [text]) == [
        "--pre",
        "--index-url",
        "https://x",
        "-f",
        "/links",
    ]


# ---- pip's files ----


def test_where_pip_looks_for_its_files(tmp_path):
    environ = {"HOME": "/home/me"}
    machine, user = (
        ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"],
        ["/home/me/.pip/pip.conf", "/home/me/.config/pip/pip.conf"],
    )
    assert files_of(environ, "/venv") == (machine, user, ["/venv/pip.conf"])
    moved = {**environ, "XDG_CONFIG_DIRS": "/a:/b", "XDG_CONFIG_HOME": "/c"}
    assert files_of(moved, "/venv") == (
        ["/a/pip/pip.conf", "/b/pip/pip.conf", "/etc/pip.conf"], ["/home/me/.pip/pip.conf", "/c/pip/pip.conf"], ["/venv/pip.conf"],
    )  # fmt: skip
    gone, there = str(tmp_path / "gone.ini"), str(tmp_path / "there.ini")
    Path(there).touch()
    assert files_of({**environ, "PIP_CONFIG_FILE": gone}, "/venv") == (machine, user, ["/venv/pip.conf", gone])
    assert files_of({**environ, "PIP_CONFIG_FILE": there}, "/venv") == (machine, [], ["/venv/pip.conf", there])
    assert files_of({**environ, "PIP_CONFIG_FILE": "/dev/null"}, "/venv") == ([], [], [])


def test_where_a_container_finds_the_files(tmp_path):
    own, pip = str(tmp_path / "uv.toml"), str(tmp_path / "pip.ini")
    environ = {"HOME": "/home/me", "UV_CONFIG_FILE": own, "PIP_CONFIG_FILE": pip, "NETRC": "/secret/netrc"}
    found = places_of(environ)
    assert found.uv == [own]
    assert found.shown == {
        "/etc/xdg/pip/pip.conf": "/etc/xdg/pip/pip.conf", "/etc/pip.conf": "/etc/pip.conf",
        "/home/me/.pip/pip.conf": "/root/.pip/pip.conf", "/home/me/.config/pip/pip.conf": "/root/.config/pip/pip.conf",
        "/etc/uv/uv.toml": "/etc/uv/uv.toml", "/home/me/.config/uv/uv.toml": "/root/.config/uv/uv.toml",
        "/secret/netrc": "/root/.netrc", own: own, pip: pip,
    }  # fmt: skip


def test_later_files_their_sections_and_variables_come_before_others(tmp_path):
    machine, user = tmp_path / "machine.conf", tmp_path / "user.conf"
    machine.write_text(
        "[global]\nindex-url = a\ntimeout = 1\n[install]\nfind_links = b\nno-index =\n[download]\npre = 1\n"
    )
    user.write_text("[global]\nindex-url = c\nfind-links = d\n")
    files = [str(tmp_path / "gone.conf"), str(machine), str(user)]
    assert settings_of({"PIP_TIMEOUT": "2", "PIP_PRE": ""}, files) == {
        "index-url": "c",
        "find-links": "b",
        "timeout": "2",
    }


def test_what_uvs_own_files_set(tmp_path):
    top, pip, index, damaged = (tmp_path / name for name in ("top", "pip", "index", "damaged"))
    top.write_text('index-url = "x"\nprerelease = "allow"\ncache-dir = "y"\n')
    pip.write_text("[pip]\nno-index = true\n")
    index.write_text('[[index]]\nurl = "x"\n[[index]]\nurl = "y"\ndefault = true\n')
    damaged.write_text("[")
    for path, says in (
        (top, {"UV_DEFAULT_INDEX", "UV_PRERELEASE"}),
        (pip, {"--no-index"}),
        (index, {"UV_INDEX", "UV_DEFAULT_INDEX"}),
        (damaged, set()),
        (tmp_path / "gone", set()),
    ):
        assert set_by_toml([str(path)]) == says


# ---- as uv has them ----

BEST = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
GONE, THERE = "file:///gone/simple", "file:///usr"


@pytest.mark.parametrize(
    ("settings", "environment", "options"),
    [
        ({}, {}, []),
        ({"index-url": "https://a"}, {"UV_DEFAULT_INDEX": "https://a"}, []),
        ({"extra-index-url": "https://a https://b"}, {"UV_INDEX": "https://a https://b", **BEST}, []),
        ({"extra-index-url": f"{GONE} {THERE}"}, {"UV_INDEX": THERE, **BEST}, []),
        ({"extra-index-url": GONE}, {}, []),
        ({"index-url": GONE, "extra-index-url": "https://a https://b"},
         {"UV_DEFAULT_INDEX": "https://a", "UV_INDEX": "https://b", **BEST}, []),
        ({"index-url": GONE, "extra-index-url": "https://a"}, {"UV_DEFAULT_INDEX": "https://a"}, []),
        ({"index-url": GONE}, {}, ["--no-index"]),
        ({"no-index": "true", "index-url": "https://a", "extra-index-url": "https://b"}, {}, ["--no-index"]),
        ({"no-index": "0"}, {}, []),
        ({"find-links": "/usr\nhttps://a /gone"}, {"UV_FIND_LINKS": "/usr,https://a"}, []),
        ({"find-links": "https://a/?b,c /usr"}, {}, ["--find-links", "https://a/?b,c", "--find-links", "/usr"]),
        ({"trusted-host": "a b:8080"}, {"UV_INSECURE_HOST": "a b:8080"}, []),
        ({"constraint": "/c.txt https://a/d.txt"}, {"UV_CONSTRAINT": "/c.txt https://a/d.txt"}, []),
        ({"cert": "/a.pem", "client-cert": "/b.pem"}, {"SSL_CERT_FILE": "/a.pem", "SSL_CLIENT_CERT": "/b.pem"}, []),
        ({"pre": "yes"}, {"UV_PRERELEASE": "allow"}, []),
        ({"pre": "no"}, {}, []),
        ({"default-timeout": "180"}, {"UV_HTTP_TIMEOUT": "180"}, []),
        ({"timeout": "0.5", "default-timeout": "180"}, {"UV_HTTP_TIMEOUT": "1"}, []),
        ({"timeout": "soon"}, {}, []),
        ({"timeout": "inf"}, {}, []),
        ({"break-system-packages": "true", "quiet": "1"}, {}, []),
    ],
)  # fmt: skip
def test_pips_settings_as_uvs(settings, environment, options):
    assert for_uv(settings, {}, frozenset(), []) == ForUv(environment, options)


ALL = {
    "index-url": "https://a", "extra-index-url": "https://b", "find-links": "/usr", "trusted-host": "c", "constraint": "/d",
    "cert": "/e", "client-cert": "/f", "pre": "1", "timeout": "3",
}  # fmt: skip


@pytest.mark.parametrize(
    ("own", "hides"),
    [
        ("UV_DEFAULT_INDEX", "UV_DEFAULT_INDEX"), ("UV_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("UV_INDEX", "UV_INDEX"), ("UV_EXTRA_INDEX_URL", "UV_INDEX"), ("UV_INDEX_STRATEGY", "UV_INDEX_STRATEGY"),
        ("UV_FIND_LINKS", "UV_FIND_LINKS"), ("UV_INSECURE_HOST", "UV_INSECURE_HOST"), ("UV_CONSTRAINT", "UV_CONSTRAINT"),
        ("SSL_CERT_FILE", "SSL_CERT_FILE"), ("SSL_CLIENT_CERT", "SSL_CLIENT_CERT"), ("UV_PRERELEASE", "UV_PRERELEASE"),
        ("UV_HTTP_TIMEOUT", "UV_HTTP_TIMEOUT"), ("UV_REQUEST_TIMEOUT", "UV_HTTP_TIMEOUT"), ("HTTP_TIMEOUT", "UV_HTTP_TIMEOUT"),
    ],
)  # fmt: skip
def test_uvs_own_settings_stand(own, hides):
    every = for_uv(ALL, {}, frozenset(), []).environment
    without = {name: value for name, value in every.items() if name != hides}
    if hides == "UV_INDEX":
        without.pop("UV_INDEX_STRATEGY")
    assert for_uv(ALL, {own: "mine"}, frozenset(), []).environment == without
    assert for_uv(ALL, {}, frozenset({own}), []).environment == without
    assert for_uv(ALL, {own: ""}, frozenset(), []).environment == every


def test_uvs_own_indexes_stand_where_pip_has_none():
    for own in ("UV_DEFAULT_INDEX", "UV_INDEX"):
        assert for_uv({"no-index": "1"}, {own: "https://x"}, frozenset(), []) == ForUv({}, [])
        assert for_uv({"no-index": "1"}, {}, frozenset({own}), []) == ForUv({}, [])


@pytest.mark.parametrize(
    ("settings", "words", "environment", "options"),
    [
        # What the step says of the index stands alone, as pip's own option does; all else adds to what is set.
        ({"index-url": "https://a"}, ["--index-url"], {}, []),
        ({"index-url": "https://a"}, ["-i"], {}, []),
        ({"index-url": "https://a"}, ["--default-index"], {}, []),
        ({"index-url": GONE}, ["--extra-index-url"], BEST, []),
        ({}, ["--extra-index-url"], BEST, []),
        ({"extra-index-url": "https://a"}, ["--extra-index-url"], {"UV_INDEX": "https://a", **BEST}, []),
        ({"find-links": "/usr /gone"}, ["-f"], {}, ["--find-links", "/usr"]),
        ({"constraint": "/c"}, ["-c"], {}, ["--constraints", "/c"]),
        ({"trusted-host": "a"}, ["--trusted-host"], {}, ["--allow-insecure-host", "a"]),
    ],
)
def test_beside_options_of_the_step(settings, words, environment, options):
    assert for_uv(settings, {}, frozenset(), words) == ForUv(environment, options)


def test_a_file_of_constraints_is_named_by_its_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    found = for_uv({"constraint": "c.txt ~/d.txt", "cert": "~/e.pem"}, {}, frozenset(), []).environment
    assert found == {"UV_CONSTRAINT": f"{tmp_path}/c.txt /home/me/d.txt", "SSL_CERT_FILE": "/home/me/e.pem"}


def test_certificates_of_a_company_reach_an_image_that_knows_none(tmp_path):
    own = tmp_path / "own.pem"
    own.touch()
    found = certificates({"PIP_CERT": str(own)})
    assert found.shown == [(str(own), "/run/greenroom.certificates.pem", False)]
    assert found.environment["SSL_CERT_FILE"] == found.environment["PIP_CERT"] == "/run/greenroom.certificates.pem"


def test_files_that_variables_name_are_shown_and_so_are_the_builds_that_a_list_names(tmp_path):
    for name in ("builds", "nowhere"):
        (tmp_path / name).mkdir()
    builds = {"one": {"url": f"file://{tmp_path}/builds/python.tar.gz"}, "two": {"url": "https://x/python.tar.gz"}}
    (tmp_path / "builds.json").write_text(json.dumps(builds))
    (tmp_path / "constraints.txt").write_text("")
    found = hand_in(
        {"UV_PYTHON_DOWNLOADS_JSON_URL": f"file://{tmp_path}/builds.json",
         "PIP_CONSTRAINT": f"{tmp_path}/constraints.txt", "PIP_CLIENT_CERT": "/nowhere"},
        None, places=NOWHERE,
    )  # fmt: skip
    names = ("builds.json", "constraints.txt", "builds")
    assert sorted(found.shown) == sorted((str(tmp_path / name), str(tmp_path / name), False) for name in names)


def test_a_list_of_builds_that_is_damaged_is_uvs_to_complain_of(tmp_path):
    listed = tmp_path / "builds.json"
    for text in ("[", "[]", '{"one": 1}', '{"one": {"url": 1}}', '{"one": {}}'):
        listed.write_text(text)
        found = hand_in({"UV_PYTHON_DOWNLOADS_JSON_URL": str(listed)}, None, places=NOWHERE)
        assert found.shown == [(str(listed), str(listed), False)]
