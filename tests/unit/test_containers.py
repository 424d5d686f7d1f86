"""Containers at the boundary: constructed answers of ``inspect``, and the command made of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.control.containers import failed, inspected, recreate, supervisor_of
from ds4top.core.plan import Supervisor
from ds4top.sources.ask import Answer

BOX = Supervisor("docker", "0123456789ab")
CONSTRUCTED: dict[str, Any] = {
    "Id": "0123456789abcdef",
    "Name": "/ds4",
    "Path": "/ds4-server",
    "Args": ["-m", "/models/q2.gguf", "--api-key", "hush"],
    "State": {"Status": "running", "OOMKilled": False, "ExitCode": 0},
    "Config": {
        "Image": "ds4:q2",
        "Entrypoint": ["/ds4-server"],
        "Cmd": ["-m", "/models/q2.gguf", "--api-key", "hush"],
        "Env": ["PATH=/bin", "HF_TOKEN=secret", "DS4_X=a b"],
        "Labels": {},
    },
    "HostConfig": {
        "AutoRemove": False,
        "RestartPolicy": {"Name": "unless-stopped"},
        "Binds": ["/srv/models:/models:ro"],
        "PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]},
        "NetworkMode": "bridge",
        "IpcMode": "host",
        "DeviceRequests": [{"Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]}],
        "Devices": [],
    },
}


def changed(**parts: dict[str, Any]) -> dict[str, Any]:
    """The constructed container with parts of its sections changed."""
    return CONSTRUCTED | {name: CONSTRUCTED[name] | part for name, part in parts.items()}


class Engine:
    """A constructed docker."""

    def __init__(
        self, data: dict[str, Any] | None = None, trouble: str = "", out: str = ""
    ) -> None:
        self.out = out or json.dumps([data or CONSTRUCTED])
        self.trouble = trouble
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str]) -> Answer:
        """One answer."""
        self.asked.append(tuple(argv))
        return Answer(1, err=self.trouble) if self.trouble else Answer(0, self.out)


def test_constructed_container_is_made_anew_by_one_command() -> None:
    words = shlex.split(recreate("docker", CONSTRUCTED).rpartition("&& ")[2])
    assert words == [
        "docker", "run", "-d", "--name", "ds4", "--restart", "unless-stopped", "--gpus", "all",
        "-v", "/srv/models:/models:ro", "-p", "127.0.0.1:8000:8000/tcp", "--ipc", "host",
        "-e", "PATH=/bin", "-e", "HF_TOKEN", "-e", "DS4_X=a b", "ds4:q2",
        "-m", "/models/q2.gguf", "--api-key", "***",
    ]  # fmt: skip
    assert recreate("podman", CONSTRUCTED).startswith("podman stop -t 600 ds4 && podman rm ds4 && ")


def test_the_mode_is_changed_in_it_and_nothing_else() -> None:
    argv = ("/ds4-server", "-m", "/models/q2.gguf", "--no-mmap")
    plain, other = recreate("docker", CONSTRUCTED), recreate("docker", CONSTRUCTED, argv)
    assert other == plain.replace("--api-key '***'", "--no-mmap")
    env = recreate("docker", CONSTRUCTED, None, (("DS4_CUDA_DIRECT_MODEL", "1"),), ("DS4_X",))
    assert env == plain.replace("-e 'DS4_X=a b'", "-e DS4_CUDA_DIRECT_MODEL=1")


def test_compose_says_which_file_to_edit() -> None:
    labels = {
        "com.docker.compose.project": "ai",
        "com.docker.compose.project.config_files": "/srv/compose.yml",
    }
    made = recreate("docker", changed(Config={"Labels": labels}), ("/ds4-server", "--no-mmap"))
    assert made.startswith("edit /srv/compose.yml (")
    assert made.endswith("docker compose -p ai up -d")


def test_constructed_answers() -> None:
    found = supervisor_of(BOX, run=(engine := Engine()))
    assert engine.asked == [("docker", "inspect", "--type", "container", "0123456789ab")]
    assert (found.refusal, found.no_restart, found.restart_policy) == (None, None, "unless-stopped")
    assert "docker run" in (found.recreate or "")
    removed = supervisor_of(BOX, run=Engine(changed(HostConfig={"AutoRemove": True})))
    assert (removed.no_restart or "").startswith("it is removed when it stops (--rm)")


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (
            Engine(trouble="permission denied while trying to connect to the Docker daemon socket"),
            "run it with sudo, or as a member of its group",
        ),
        (Engine(trouble="Error: No such container: 0123456789ab"), "No such container"),
        (Engine(out="[]"), "its answer cannot be read"),
        (Engine(out="{}"), "its answer cannot be read"),
        (Engine(out="[3]"), "its answer is no container"),
    ],
)
def test_constructed_refusals(engine: Engine, said: str) -> None:
    assert said in (supervisor_of(BOX, run=engine).refusal or "")


def test_constructed_end_of_a_container() -> None:
    ended = {"Status": "exited", "ExitCode": 137, "OOMKilled": True}
    run = Engine(changed(State=ended))
    assert failed("docker", "x", run) == "the container ended with exit status 137 (out of memory)"
    assert failed("docker", "x", Engine()) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["Config", "HostConfig", "State", "Name", "Env", "Cmd", "Path"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_JSON)
def test_any_json_is_an_answer(value: object) -> None:
    data, trouble = inspected("docker", "x", Engine(out=json.dumps([value])))
    assert (trouble is None) == isinstance(value, dict)
    assert failed("docker", "x", Engine(out=json.dumps([value]))) is None or data
