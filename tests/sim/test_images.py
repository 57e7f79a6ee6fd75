import random

from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive
from ottla.sim.images import TENSE, Camera, Film, Shot
from ottla.sim.trace import Trace


def disk_of(drive: Drive) -> SimDisk:
    return SimDisk(drive, random.Random(1), Trace(lambda: 0.0), "node")


def test_a_film_holds_shots_from_all_over_a_run() -> None:
    places: list[int] = []
    for seed in range(200):
        film: Film[int] = Film(random.Random(seed), 5)
        for call in range(100):
            film.expose(lambda call=call: Shot(Drive(), "", call))  # type: ignore[misc]
        assert len(film.shots) == 5
        places += [shot.promised for shot in film.shots]
    for quarter in range(4):
        assert 200 < sum(place // 25 == quarter for place in places) < 300


def test_half_of_the_shots_are_taken_when_most_is_at_stake() -> None:
    promised = 0
    camera = Camera(random.Random(1), lambda: promised, count=20)
    disk = disk_of(Drive())
    camera.watch(disk)
    file = disk.open("file", create=True)
    for number in range(300):
        file.pwrite(bytes([number % 256]), number)
        if number % 10 == 9:
            file.sync()
            promised = number + 1
    assert len(camera.shots) == 20
    tense = [shot for shot in camera.shots if shot.moment.split()[3] in TENSE]
    assert len(tense) >= 10
    lost = 0
    for shot in camera.develop():
        found = shot.drive.find("file")
        size = 0 if found is None else len(shot.drive.file("file").live)
        lost += size < shot.promised
    assert lost, "the name was never made durable"


def test_an_image_does_not_feel_what_comes_after_it() -> None:
    camera = Camera(random.Random(1), lambda: None, count=10)
    disk = disk_of(Drive())
    disk.open("file", create=True)
    disk.sync_directory("/")
    camera.watch(disk)
    file = disk.open("file")
    file.pwrite(b"one", 0)
    file.sync()
    file.pwrite(b"two", 0)
    contents = [bytes(shot.drive.file("file").live) for shot in camera.shots]
    assert sorted(contents) == [b"", b"", b"one", b"one", b"one"]
