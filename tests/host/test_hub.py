"""The idle sweep on a clock that the test moves."""

from ottla.host.hub import Hub


class Timer:
    def __init__(self, when, call):
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self):
        self.cancelled = True


class Loop:
    """The part of a loop that a hub uses, with a clock of its own."""

    def __init__(self):
        self.now = 1000.0
        self.timers = []

    def time(self):
        return self.now

    def call_later(self, delay, call):
        self.timers.append(Timer(self.now + delay, call))
        return self.timers[-1]

    def advance(self, seconds):
        end = self.now + seconds
        while True:
            due = [t for t in self.timers if not t.cancelled and t.when <= end]
            if not due:
                break
            timer = min(due, key=lambda t: t.when)
            self.timers.remove(timer)
            self.now = timer.when
            timer.call()
        self.now = end


class Idler:
    """As a connection: stamped when active, asked by the sweep."""

    def __init__(self, hub, idle_seconds):
        self.hub, self.idle_seconds = hub, idle_seconds
        self.closed_at = None
        hub.add(self, None)
        self.act()

    def act(self):
        self.stamp = self.hub.now
        self.acted_at = self.hub.loop.now

    def close_if_idle(self, stamped_before):
        if self.stamp + self.idle_seconds <= stamped_before:
            self.closed_at = self.hub.loop.now
            self.hub.remove(self, None)


def test_idle_ones_are_closed_soon_after_their_time_and_never_before():
    loop = Loop()
    hub = Hub(loop)
    hub.sweep_every(80)
    late = [Idler(hub, 80)]
    for step in range(100):
        loop.advance(3.7)
        if step < 40:
            late.append(Idler(hub, 80))
        if step % 2:
            late[7 if step > 7 else 0].act()
    for idler in late:
        if idler.closed_at is not None:
            assert 80 <= idler.closed_at - idler.acted_at <= 80 * 10 / 8
    open_ones = [idler for idler in late if idler.closed_at is None]
    assert open_ones == [late[7]]


def test_one_timer_for_all_and_the_shortest_time_sets_its_pace():
    loop = Loop()
    hub = Hub(loop)
    assert not loop.timers
    hub.sweep_every(80)
    hub.sweep_every(800)
    hub.sweep_every(8)
    alive = [timer for timer in loop.timers if not timer.cancelled]
    assert [timer.when for timer in alive] == [1001.0]
    hub.close()
    assert all(timer.cancelled for timer in loop.timers)


def test_connections_are_counted_by_the_address_they_came_from():
    hub = Hub(Loop())
    first, second = Idler(hub, 1), Idler(hub, 1)
    hub.add(first, "a")
    hub.add(second, "a")
    assert hub.accepted_from == {"a": 2}
    hub.remove(first, "a")
    assert hub.accepted_from == {"a": 1}
    hub.remove(second, "a")
    assert hub.accepted_from == {}
    assert hub.connections == {}
