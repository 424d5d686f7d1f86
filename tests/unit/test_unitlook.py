"""What a supervisor says of the server that it runs: constructed answers, as the manuals print."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ds4top.core.launch_units import UnitSeen, exec_names, units_of
from ds4top.core.process import ServerProcess
from ds4top.core.supervision import Owner, owner_of
from ds4top.core.target import Target
from ds4top.sources.abilities import AbilitiesSeen, LaunchAbilities
from ds4top.sources.ask import Answer
from ds4top.sources.base import SourceFault
from ds4top.sources.mounts import mount_of
from ds4top.sources.unitlook import unit_of

TARGET = Target(7, 1, "b", "ds4-server")
CAT = """# /etc/systemd/system/ds4.service
[Service]
Environment=ARGS="--ctx 65536 --port=8001" OTHER=1
ExecStart=/bin/sh -c "exec ds4-server --no-mmap $ARGS ${NOWHERE}"

# /etc/systemd/system/ds4.service.d/50-ds4top.conf
[Service]
Environment="ARGS=--ctx 131072"
"""
CTX, MMAP = "--ctx", "--no-mmap"


class Asked:
    """Answers by the verb; keeps what was asked."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str]) -> Answer:
        """One answer."""
        self.asked.append(tuple(argv))
        verbs = [word for word in argv if word in self.answers]
        return self.answers[verbs[0]] if verbs else Answer(None, err=f"{argv[0]}: no such program")


def server(owner: Owner, *, uid: int | None = None, argv: bool = True) -> ServerProcess:
    """A server of an owner."""
    words = ("ds4-server", CTX, "131072", MMAP) if argv else None
    return ServerProcess(
        TARGET, 0.0, "ds4", os.getuid() if uid is None else uid, "ana", argv=words, owner=owner
    )


def limit(text: str) -> Answer:
    """What ``show`` prints of the limit."""
    return Answer(0, f"TimeoutStopUSec={text}\n")


@pytest.mark.parametrize(
    ("owner", "first"),
    [
        (Owner("systemd-system", "ds4.service"), ("systemctl",)),
        (Owner("systemd-user", "ds4.service"), ("systemctl", "--user")),
        (Owner("transient", "run-r12.service", of_user=True), ("systemctl", "--user")),
        (Owner("transient", "run-r12.service"), ("systemctl",)),
    ],
)
def test_constructed_unit_is_asked_for_its_files_and_its_limit(
    owner: Owner, first: tuple[str, ...]
) -> None:
    run = Asked(cat=Answer(0, CAT), show=limit("1min 30s"))
    seen = unit_of(server(owner), run)
    assert seen == UnitSeen(TARGET, units_of(CAT), 90.0)
    assert seen.stop_limit_s == 90.0
    assert [file.kind for file in seen.files] == ["unit file", "drop-in"]
    assert run.asked == [
        (*first, "cat", "--no-pager", "--", owner.name),
        (*first, "show", "--no-pager", "-p", "TimeoutStopUSec", "--", owner.name),
    ]


def test_constructed_limit_of_infinity_and_one_that_is_not_told() -> None:
    unit = server(Owner("systemd-system", "ds4.service"))
    seen = unit_of(unit, Asked(cat=Answer(0, CAT), show=limit("infinity")))
    assert (seen.stop_timeout_s, seen.stop_limit_s) == (None, float("inf"))
    seen = unit_of(unit, Asked(cat=Answer(0, CAT), show=Answer(1, err="Access denied")))
    assert (seen.stop_limit_s, seen.why) == (None, "ds4.service: Access denied")
    assert len(seen.files) == 2


def test_constructed_machine_without_systemctl() -> None:
    seen = unit_of(server(Owner("systemd-system", "ds4.service")), Asked())
    assert seen == UnitSeen(TARGET, why="ds4.service: systemctl: no such program")


def test_a_unit_of_another_user_is_not_asked_for_but_how_is_said() -> None:
    run = Asked()
    seen = unit_of(server(Owner("systemd-user", "ds4.service"), uid=os.getuid() + 1), run)
    assert run.asked == []
    assert seen.why.endswith(
        f"sudo -u ana XDG_RUNTIME_DIR=/run/user/{os.getuid() + 1} systemctl --user cat ds4.service"
    )


@pytest.mark.parametrize(
    ("config", "limit_s"),
    [
        ({}, 10.0),
        ({"StopTimeout": None}, 10.0),
        ({"StopTimeout": 600}, 600.0),
        ({"StopTimeout": 0}, 0.0),
        ({"StopTimeout": -1}, float("inf")),
    ],
)
def test_constructed_container_is_killed_after(config: dict[str, object], limit_s: float) -> None:
    run = Asked(inspect=Answer(0, json.dumps([{"Config": config}])))
    seen = unit_of(server(Owner("docker", "0123456789ab")), run)
    assert (seen.stop_limit_s, seen.why, seen.files) == (limit_s, "", ())
    assert run.asked == [("docker", "inspect", "--type", "container", "0123456789ab")]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[7]", '[{"Config": 7}]', '[{"Config": []}]'])
def test_constructed_answers_that_are_no_container(text: str) -> None:
    seen = unit_of(server(Owner("podman", "ab")), Asked(inspect=Answer(0, text)))
    assert (seen.stop_limit_s, seen.why) == (None, "what inspect says cannot be read")
    odd = Answer(0, '[{"Config": {"StopTimeout": "soon"}}]')
    assert unit_of(server(Owner("podman", "ab")), Asked(inspect=odd)).why == (
        "inspect says StopTimeout 'soon'"
    )


def test_a_container_that_may_not_be_asked_for_says_why() -> None:
    run = Asked(inspect=Answer(1, err="permission denied while trying to connect"))
    assert unit_of(server(Owner("docker", "ab")), run).why == (
        "docker inspect --type container ab: permission denied while trying to connect"
    )


def test_a_shell_is_not_asked() -> None:
    run = Asked()
    assert unit_of(server(Owner("none", "bash")), run) == UnitSeen(TARGET)
    assert run.asked == []


def test_constructed_command_line_is_looked_into() -> None:
    files = units_of(CAT)
    names = exec_names(files)
    assert names[MMAP] is files[0]
    # The drop-in sets the variable that the unit's own command names.
    assert names[CTX] is files[1]
    assert "--port" not in names
    assert exec_names(()) == {}


def test_of_which_systemd_a_unit_is() -> None:
    of_user = owner_of("0::/user.slice/user-7.slice/user@7.service/app.slice/run-r1.service", ())
    assert (of_user.kind, of_user.of_user) == ("transient", True)
    assert not owner_of("0::/system.slice/run-r1.service", ()).of_user


# the source --------------------------------------------------------------------------------------


class Help:
    """Stands in for who runs ``--help``."""

    def __init__(self) -> None:
        self.asked = 0

    def read(self, *_: object) -> AbilitiesSeen:
        """No flags."""
        self.asked += 1
        return AbilitiesSeen(TARGET, None, None, "not asked")


def launch(watched: list[ServerProcess], asker: Help | None = None) -> LaunchAbilities:
    """The source over whichever server is last in a list."""
    return LaunchAbilities(
        lambda: watched[-1] if watched else None,
        asker or Help(),  # type: ignore[arg-type]
        lambda server: UnitSeen(server.target, why="asked"),
    )


def test_help_first_then_the_supervisor_each_once() -> None:
    watched: list[ServerProcess] = []
    asker = Help()
    source = launch(watched, asker)
    assert (source.read(0.0), source.interval_s) == ((), 2.0)
    watched.append(server(Owner("docker", "ab")))
    assert [type(each) for each in source.read(1.0)] == [AbilitiesSeen]
    assert source.interval_s < 1.0
    assert source.read(2.0) == (UnitSeen(TARGET, why="asked"),)
    assert (source.read(3.0), source.interval_s, asker.asked) == ((), 2.0, 1)
    other = server(Owner("none", "bash"))
    watched.append(ServerProcess(Target(8, 2, "b", "ds4-server"), 0.0, "ds4", 0, "ana",
                                 argv=other.argv, owner=other.owner))  # fmt: skip
    assert [len(source.read(at)) for at in (4.0, 5.0, 6.0)] == [1, 0, 0]
    assert asker.asked == 2


def test_what_raised_is_asked_again() -> None:
    class Fails(Help):
        def read(self, *_: object) -> AbilitiesSeen:
            seen = super().read()
            if self.asked == 1:
                raise OSError("no more processes")
            return seen

    asker = Fails()
    source = launch([server(Owner("docker", "ab"))], asker)
    with pytest.raises(OSError, match="no more processes"):
        source.read(0.0)
    assert not source.has_told
    assert [type(each) for each in source.read(1.0)] == [AbilitiesSeen]
    assert source.read(2.0) == (UnitSeen(TARGET, why="asked"),)
    assert (source.has_told, asker.asked) == (True, 2)


def test_without_its_command_line_the_supervisor_is_asked_all_the_same() -> None:
    asker = Help()
    source = launch([server(Owner("docker", "ab"), argv=False)], asker)
    assert source.read(0.0) == ()
    assert source.read(1.0) == (UnitSeen(TARGET, why="asked"),)
    with pytest.raises(SourceFault, match="its command line cannot be read"):
        source.read(2.0)
    assert asker.asked == 0


# filesystems -------------------------------------------------------------------------------------


def test_the_mount_of_a_path_here_and_inside_another_root(tmp_path: Path) -> None:
    proc, model = tmp_path / "proc", tmp_path / "m.gguf"
    inside = proc / "7" / "root" / "models" / "m.gguf"
    inside.parent.mkdir(parents=True)
    (proc / "self").mkdir()
    for path in (model, inside):
        path.touch()
    (proc / "self" / "mounts").write_text(f"/dev/a / ext4 rw 0 0\nnas:/m {tmp_path} nfs4 rw 0 0\n")
    (proc / "7" / "mounts").write_text("overlay / overlay rw 0 0\nd /models xfs rw 0 0\n")
    kinds = [getattr(mount_of(str(path), proc), "type", None) for path in (model, inside)]
    assert kinds == ["nfs4", "xfs"]
    assert mount_of(None, proc) is None
    assert mount_of(str(tmp_path / "gone"), proc) is None
    (proc / "7" / "mounts").unlink()
    assert mount_of(str(inside), proc) is None
