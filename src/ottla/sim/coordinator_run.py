"""A run that tries the coordinators: it is played, its history is checked, they are replayed."""

from ottla.sim.history import Fate
from ottla.sim.logbook import Logbook
from ottla.sim.nemesis import Nemesis
from ottla.sim.replayed import compare_replayed
from ottla.sim.stage import Stage
from ottla.sim.workload import Report


class CoordinatorRun(Stage):
    async def play(self) -> Nemesis:
        raise NotImplementedError

    def fates(self) -> list[Fate]:
        """Of what the clients asked for."""
        raise NotImplementedError

    async def judged(self) -> Report:
        """Play it. Raises `Violation`."""
        with Logbook(self.sim.trace) as logbook:
            nemesis = await self.play()
            self.check(logbook)
            await compare_replayed(self.server)
            logbook.check()
            self.server.kill()
        fates = self.fates()
        return Report(
            power_cuts=nemesis.counts["power cut"],
            operations=len(fates),
            acknowledged=fates.count(Fate.OK),
        )
