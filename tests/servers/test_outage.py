"""How long a server that failed is left alone, and how often that is told."""

import pytest

from servers.outage import LEAST_REST, Outage


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("waited", "rest"), [(0.01, LEAST_REST), (6.0, 60.0), (180.0, 1_800.0)])
def test_a_rest_is_ten_times_the_wait_and_ends_by_itself(waited, rest):
    clock = Clock()
    outage = Outage(clock)
    assert outage.why() == "" and outage.begin("it hangs", waited) == rest
    clock.now += rest - 0.1
    assert outage.why() == "it hangs"
    clock.now += 0.2
    assert outage.why() == "" and outage.begin("it hangs again", waited) == rest


def test_a_server_that_answers_is_asked_at_once():
    outage = Outage(Clock())
    outage.begin("it hangs", 5.0)
    outage.end()
    assert outage.why() == "" and outage.begin("again", 5.0) == LEAST_REST


def test_only_the_first_of_several_threads_tells():
    outage = Outage(Clock())
    assert outage.first_sign() and not outage.first_sign()
    assert outage.begin("it hangs", 5.0) and outage.begin("it hangs", 7.0) == 0.0
    assert outage.why() == "it hangs"
    assert outage.first_sign()  # of the next outage
