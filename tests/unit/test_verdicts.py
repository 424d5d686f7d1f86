"""The count of settings that hurt, beside how the sources are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ds4top.session import Session
from ds4top.view import launch
from ds4top.view.header import alert_row
from ds4top.view.look import Look
from ds4top.view.text import row_text
from ds4top.view.verdicts import VerdictBook
from tests.screenshots import recorded, session_at


@pytest.fixture
def session() -> Iterator[Session]:
    made = recorded()
    yield made
    made.close()


def test_the_recorded_demo_has_two(session: Session) -> None:
    book, model = VerdictBook(), session.model
    assert book.hurting(model) == 2
    said = [each.rule for each in launch.judged(model)[1] if each.severity in ("bad", "warning")]
    assert said == ["swap-on", "oom-score"]
    assert "  2 settings hurt (5)  " in row_text(alert_row((), model, 120, Look(), 2))
    assert "  1 setting hurts (5)  " in row_text(alert_row((), model, 120, Look(), 1))
    assert "hurt" not in row_text(alert_row((), model, 120, Look()))


def test_judged_now_and_then(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    book, model = VerdictBook(), session.model
    calls: list[float] = []
    real = launch.judged
    monkeypatch.setattr(launch, "judged", lambda model: (calls.append(model.now), real(model))[1])
    begin = model.now
    for second in range(25):
        model.now = begin + second
        book.hurting(model)
    assert [at - begin for at in calls] == [0.0, 10.0, 20.0]
    # Another server is judged at once, and none has no settings.
    model.machine.server = None
    assert book.hurting(model) == 0
    assert len(calls) == 3


def test_without_a_server_there_is_nothing_to_judge() -> None:
    session = session_at("18:27:52")
    assert VerdictBook().hurting(session.model) == 0
    session.close()
