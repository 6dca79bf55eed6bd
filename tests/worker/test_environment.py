"""What a container's processes find in their environment."""

from greenroom.worker.environment import container_environment


def test_only_what_programs_need_and_what_was_asked_for() -> None:
    host = {"PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "AWS_SECRET_ACCESS_KEY": "s", "GREENROOM_HOME": "/h"}
    assert container_environment(host, {"A": "1"}, "ta-1", "/run/x") == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "https_proxy": "p",
        "PYTHONUNBUFFERED": "1",
        "A": "1",
        "GREENROOM_CONTAINER_ID": "ta-1",
        "GREENROOM_RUN": "/run/x",
    }


def test_what_was_asked_for_wins_but_the_marks_stay() -> None:
    asked = {"PATH": "/mine", "GREENROOM_CONTAINER_ID": "none", "GREENROOM_RUN": "none"}
    made = container_environment({"PATH": "/bin"}, asked, "ta-1", "/run/x")
    assert (made["PATH"], made["GREENROOM_CONTAINER_ID"], made["GREENROOM_RUN"]) == ("/mine", "ta-1", "/run/x")
