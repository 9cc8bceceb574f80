"""What is shown in Prefect is sent in the background, however long a message takes."""

from __future__ import annotations

import threading

from flows.orchestration.publishing import Publisher
from tests.waiting import wait_until


def test_a_server_that_does_not_answer_holds_nobody_up_and_then_gets_the_latest() -> None:
    begun, answers = threading.Event(), threading.Event()
    sent: list[int] = []

    def send(message: int) -> None:
        begun.set()
        assert answers.wait(60)
        sent.append(message)

    publisher = Publisher(interval_seconds=0.0)
    publisher.publish("bar", lambda: send(1))
    assert begun.wait(60)
    publisher.publish("bar", lambda: send(2))
    publisher.publish("bar", lambda: send(3))
    publisher.publish("report", lambda: send(100))
    assert not publisher.flush(0.01)
    answers.set()

    assert publisher.flush(10)
    assert sorted(sent) == [1, 3, 100]


def test_a_message_that_cannot_be_sent_is_dropped_and_the_next_one_is_sent() -> None:
    sent: list[str] = []

    def fail() -> None:
        raise ConnectionError("away")

    publisher = Publisher(interval_seconds=0.0)
    publisher.publish("bar", fail)
    publisher.publish("report", lambda: sent.append("report"))

    assert publisher.flush(10)
    assert sent == ["report"]


def test_messages_of_one_kind_keep_their_distance_and_delay_no_other() -> None:
    sent: list[str] = []
    publisher = Publisher(interval_seconds=3600.0)
    publisher.publish("bar", lambda: sent.append("first"))
    wait_until(lambda: sent, what="the first was sent")

    publisher.publish("bar", lambda: sent.append("second"))
    publisher.publish("report", lambda: sent.append("report"))

    wait_until(lambda: len(sent) == 2, what="the other was sent")
    assert sent == ["first", "report"]
