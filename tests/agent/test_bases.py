"""What is said of a base that can't be made: reasons of other programs, as they gave them."""

import pytest

from greenroom.agent.bases import _why_no_debian, _why_not_pulled

FATAL = 'time="2026-01-01T00:00:00Z" level=fatal msg="'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            FATAL
            + "initializing source docker://gone:latest: reading manifest latest in registry.example/gone: errors:\\ndenied: "
            'requested access to the resource is denied\\nunauthorized: authentication required\\n"',
            "host asks for credentials: secret= with",
        ),
        (
            FATAL
            + 'initializing source docker://x: reading manifest 1 in registry.example/x/y: requested access to the resource is denied"',
            "host has no such image, or shows it to others: secret= with",
        ),
        (
            FATAL + 'pinging container registry host: Get \\"https://host/v2/\\": dial tcp: lookup host: no such host"',
            "no machine is called host",
        ),
        (
            FATAL + 'pinging container registry host: Get \\"https://host/v2/\\": dial tcp 1.2.3.4:443: i/o timeout"',
            "host doesn't answer",
        ),
        (
            FATAL
            + 'pinging container registry host: Get \\"https://host/v2/\\": http: server gave HTTP response to HTTPS client"',
            "host speaks no TLS: only a registry on this machine may",
        ),
        (
            FATAL + 'reading manifest 1 in host/x: toomanyrequests: You have reached your pull rate limit."',
            "reading manifest 1 in host/x: toomanyrequests: You have reached your pull rate limit.",
        ),
        ("Error: creating build container: a \\ b", "creating build container: a \\ b"),
        ("exit status 1", "exit status 1"),
    ],
)
def test_in_words_for_who_wrote_the_name(line, says):
    assert _why_not_pulled(line, "host").startswith(says)


def test_a_reason_is_no_longer_than_a_person_reads():
    said = _why_not_pulled(f'{FATAL}{"x" * 5000} at the end"', "host")
    assert len(said) < 500
    assert said.endswith("at the end")


def test_why_a_debian_can_not_be_made():
    failed = "E: Sub-process env returned an error code (2)"
    full = " cannot copy extracted data for './x' to '/x.dpkg-new': failed to write (No space left on device)"
    assert _why_no_debian(["I: x", failed, "E: mmdebstrap failed to run"]) == failed[3:]
    assert _why_no_debian([full, failed, "E: mmdebstrap failed to run"]) == "No space left on device, while it was made"
    assert _why_no_debian(["a", "b"]) == "b"
