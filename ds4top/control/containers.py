"""What docker or podman says of a container, and the command that makes it anew.

A container keeps the command it was made with. ds4top never recreates one: what ``inspect`` shows
is not all of how it was made (compose files, GPU runtimes, secrets), so it says the command.
Sources: docker-inspect(1), docker-run(1), podman-inspect(1).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ds4top.control.units import explained
from ds4top.core.plan import Env, Supervisor
from ds4top.core.secrets import is_secret, shown_argv
from ds4top.sources.ask import Ask, ask

_COMPOSE = "com.docker.compose.project"
_FILES = "com.docker.compose.project.config_files"


def inspected(kind: str, name: str, run: Ask = ask) -> tuple[dict[str, Any], str | None]:
    """What ``inspect`` says, and what is wrong where it says nothing."""
    argv = (kind, "inspect", "--type", "container", name)
    answer = run(argv)
    if not answer.good:
        return {}, explained(argv, answer.trouble)
    try:
        found = json.loads(answer.out)[0]
        return (found, None) if isinstance(found, dict) else ({}, "its answer is no container")
    except (ValueError, LookupError, TypeError):
        return {}, "its answer cannot be read"


def _part(data: Mapping[str, Any], *names: str) -> Any:
    found: Any = data
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _list(data: Mapping[str, Any], *names: str) -> list[Any]:
    found = _part(data, *names)
    return found if isinstance(found, list) else []


def _ports(data: Mapping[str, Any]) -> Iterator[str]:
    bindings = _part(data, "HostConfig", "PortBindings")
    for port, places in bindings.items() if isinstance(bindings, Mapping) else ():
        for place in places or ():
            host, number = place.get("HostIp", ""), place.get("HostPort", "")
            yield f"{host}:{number}:{port}" if host else f"{number}:{port}"


def _devices(data: Mapping[str, Any]) -> Iterator[str]:
    for request in _list(data, "HostConfig", "DeviceRequests"):
        if any("gpu" in words for words in request.get("Capabilities") or ()):
            ids = request.get("DeviceIDs")
            yield f"device={','.join(ids)}" if ids else "all"
    for device in _list(data, "HostConfig", "Devices"):
        yield f"dev:{device.get('PathOnHost')}:{device.get('PathInContainer')}"


def recreate(
    kind: str,
    data: Mapping[str, Any],
    command: Sequence[str] | None = None,
    env_set: Env = (),
    env_unset: Sequence[str] = (),
) -> str:
    """The command that makes the container anew, its own command or environment changed.

    ``command`` is what runs, entrypoint first. Values of secrets are left out: ``-e NAME`` takes
    them from the shell.
    """
    name = str(data.get("Name", "")).removeprefix("/")
    if project := _part(data, "Config", "Labels", _COMPOSE):
        files = _part(data, "Config", "Labels", _FILES) or "its compose file"
        changes = shlex.join([*(command or ())[-2:], *(f"{n}={v}" for n, v in env_set)])
        return f"edit {files} ({changes}), then: docker compose -p {project} up -d"
    words = [kind, "run", "-d", "--name", name]
    policy = _part(data, "HostConfig", "RestartPolicy", "Name")
    if policy and policy != "no":
        words += ["--restart", str(policy)]
    for device in _devices(data):
        words += ["--device", device[4:]] if device.startswith("dev:") else ["--gpus", device]
    for bind in _list(data, "HostConfig", "Binds"):
        words += ["-v", str(bind)]
    for port in _ports(data):
        words += ["-p", port]
    for key, flag, usual in (
        ("NetworkMode", "--network", ("default", "bridge")),
        ("IpcMode", "--ipc", ("private", "shareable", "")),
        ("PidMode", "--pid", ("", "private")),
    ):
        value = _part(data, "HostConfig", key)
        if value is not None and value not in usual:
            words += [flag, str(value)]
    env = dict(pair.partition("=")[::2] for pair in _list(data, "Config", "Env"))
    env = {key: value for key, value in env.items() if key not in env_unset} | dict(env_set)
    for key, value in env.items():
        words += ["-e", key if is_secret(key) else f"{key}={value}"]
    entry = _list(data, "Config", "Entrypoint")
    given = [str(word) for word in _list(data, "Config", "Cmd")]
    whole = [str(data.get("Path", "")), *map(str, _list(data, "Args"))]
    if command is not None and len(command) >= len(entry):
        given = list(command[len(entry) :]) if entry else list(command)
    if entry and whole[: len(entry)] != [str(word) for word in entry]:
        words += ["--entrypoint", whole[0]]
    image = str(_part(data, "Config", "Image") or data.get("Image", ""))
    made = shlex.join([*words, image, *shown_argv(given)])
    return f"{kind} stop -t 600 {name} && {kind} rm {name} && {made}"


def supervisor_of(
    container: Supervisor,
    *,
    command: Sequence[str] | None = None,
    env_set: Env = (),
    env_unset: Sequence[str] = (),
    run: Ask = ask,
) -> Supervisor:
    """What is known of a container. ``command`` and ``env_*``: what is wanted of it."""
    data, trouble = inspected(container.kind, container.name, run)
    if trouble is not None:
        return replace(container, refusal=f"{container.kind} does not answer: {trouble}")
    again = recreate(container.kind, data, command, env_set, env_unset)
    removed = _part(data, "HostConfig", "AutoRemove") is True
    return replace(
        container,
        restart_policy=_part(data, "HostConfig", "RestartPolicy", "Name") or None,
        active_state=_part(data, "State", "Status"),
        recreate=again,
        no_restart=f"it is removed when it stops (--rm); start it anew: {again}"
        if removed
        else None,
    )


def failed(kind: str, name: str, run: Ask = ask) -> str | None:
    """The container's own word that it has ended; ``None`` while it runs or does not say."""
    data, trouble = inspected(kind, name, run)
    state = _part(data, "State", "Status") if trouble is None else None
    if state not in ("exited", "dead"):
        return None
    killed = " (out of memory)" if _part(data, "State", "OOMKilled") else ""
    return f"the container ended with exit status {_part(data, 'State', 'ExitCode')}{killed}"
