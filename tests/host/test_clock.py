import time

from ottla.host.clock import SystemClock


def test_monotonic_never_goes_back():
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_time_is_the_wall_clock_in_milliseconds():
    before = time.time_ns() // 1_000_000
    reading = SystemClock().time_ms()
    assert before <= reading <= time.time_ns() // 1_000_000
