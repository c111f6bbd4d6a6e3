"""The whole pipeline of one partition under a random schedule of faults, and what must hold at the end.

`play(options, seed)` returns the violations found; an empty list means that every promise was kept. A process that
refuses to go on with a clear line ends the schedule with ["stopped: …"], which only disasters may cause.
"""

import collections
import random
from collections.abc import Callable

from schemas.headers import Provenance, Version, kind_of, number, raw_control, raw_data, raw_tick
from schemas.vocabulary import Kind
from tests.protocol.bridge_model import Bridge, Broker, Devices, messages_of
from tests.protocol.options import Options
from tests.protocol.parts import Log, Message, Stopped, fates_of
from tests.protocol.sink_model import Sink, Store, Zombie
from tests.protocol.stage_model import AWAITS, AccessState, WindowState, Worker

LAST_TICK = 1000
"""Ticks of the drain: far beyond those of the schedule, so that every window closes."""

Move = tuple[float, Callable[[], object]]


class Pipeline:
    def __init__(self, options: Options, seed: int) -> None:
        self.options, self.random, self.time_ms = options, random.Random(seed), 0
        self.raw, self.readings, self.windows = Log("telemetry.raw"), Log("telemetry.readings"), Log("windows")
        self.states = {"access": Log("state.access"), "windows": Log("state.windows")}
        self.devices = Devices(options, self.random)
        self.broker = Broker()
        self.bridge = Bridge(options, self.broker, self.raw, self.devices)
        self.policies, self.relayed, self.clock, self.logic = [""], 0, 0, 1
        self.stores = {
            "readings": Store(self.readings, ("accepted", "denied", "dead"), options.window),
            "windows": Store(self.windows, ("accepted",), options.window),
        }
        # the newest process is first; those behind it are zombies
        self.workers = {name: [self._worker(name)] for name in ("access", "windows")}
        self.sinks = {name: [Sink(store, self.random, options)] for name, store in self.stores.items()}
        self.replayed = self.noise_number = 0
        self.recreated = False

    def _worker(self, name: str) -> Worker:
        source, out = (self.raw, self.readings) if name == "access" else (self.readings, self.windows)
        make = AccessState if name == "access" else WindowState
        return Worker(name, source, out, self.states[name], make, self.logic, self.options)

    def tick_of_kafka(self) -> int:
        self.time_ms += 1
        return self.time_ms

    # --- devices, broker, bridge, relay

    def publish(self) -> None:
        message = self.devices.publish()
        if message is not None:
            self.broker.queue.append(message)

    def release(self) -> None:
        if self.devices.held_back:
            self.broker.queue.append(self.devices.held_back.pop(0))

    def resend(self) -> None:
        if self.devices.store:
            self.broker.queue.append(self.random.choice(self.devices.store))

    def autosave(self) -> None:
        self.broker.saved = list(self.broker.queue)

    def broker_crash(self) -> None:
        self.bridge.kill()
        self.broker.queue = list(self.broker.saved)

    def decide_policy(self) -> None:
        self.policies.append(self.random.choice(("", "a", "b")))

    def relay(self) -> None:
        if self.relayed < len(self.policies):
            self._control(self.relayed)
            self.relayed += 1

    def _control(self, offset: int) -> None:
        head = raw_control(Version(0, offset), "policy")
        self.raw.append(self.tick_of_kafka(), head, self.policies[offset].encode())

    def relay_repeats(self) -> None:
        self.relayed = max(0, self.relayed - self.random.randrange(3))

    def relay_zombie(self) -> None:
        if self.relayed:
            self._control(self.random.randrange(self.relayed))

    def tick(self) -> None:
        self.clock += 1
        back = self.options.clock_jump and self.random.random() < 0.3
        self.raw.append(self.tick_of_kafka(), raw_tick(max(0, self.clock - 2) if back else self.clock), b"")

    # --- workers

    def act(self, name: str, place: int, what: str) -> None:
        workers = self.workers[name]
        if place >= len(workers):
            return
        worker = workers[place]
        try:
            if what == "land":
                worker.land(self.tick_of_kafka())
            elif what == "snapshot lands":
                worker.snapshot_lands(self.tick_of_kafka())
            else:
                getattr(worker, what)()
        except Stopped:
            if not place:
                raise
            workers.pop(place)  # a zombie may stop alone

    def hand_over(self, name: str) -> None:
        """SIGTERM or a rebalance: cancel the snapshot under way, finish, snapshot, give away."""
        workers = self.workers[name]
        old = workers[0]
        old.cancel_snapshot(self.random.choice(AWAITS), self.tick_of_kafka())
        while old.land(self.tick_of_kafka()):
            pass
        old.snapshot()
        old.snapshot_lands(self.tick_of_kafka())
        workers[0] = self._worker(name)

    def kill_worker(self, name: str) -> None:
        """kill -9, or the group believes so: then the old one goes on as a zombie."""
        workers = self.workers[name]
        old = workers[0]
        if self.options.zombies and self.random.random() < 0.6:
            workers.insert(0, self._worker(name))
            del workers[3:]
            return
        if self.random.random() < 0.5 and old.flying:
            workers[0] = self._worker(name)
            for _ in range(self.random.randint(1, len(old.flying))):
                old.land(self.tick_of_kafka())  # what was on its way arrives after the successor has looked
        else:
            if self.random.random() < 0.5:
                old.snapshot_lands(self.tick_of_kafka())
            workers[0] = self._worker(name)

    def zombie_ends(self, name: str) -> None:
        if len(self.workers[name]) > 1:
            self.workers[name].pop()

    def upgrade(self) -> None:
        if self.logic == 1:
            self.logic = 2
            for name, workers in self.workers.items():
                # the whole group is stopped (here: killed), then started: a zombie of the old version may not go on
                del workers[1:]
                while self.random.random() < 0.5 and workers[0].land(self.tick_of_kafka()):
                    pass
                workers[0] = self._worker(name)

    # --- sinks

    def sink(self, name: str, place: int) -> bool:
        sinks = self.sinks[name]
        if place >= len(sinks):
            return False
        try:
            return sinks[place].step()
        except Zombie:
            if place or len(sinks) > 1:
                sinks.pop(place)
            else:
                sinks[0] = Sink(self.stores[name], self.random, self.options)
        except Stopped:
            if not place:
                raise
            sinks.pop(place)
        return True

    def kill_sink(self, name: str) -> None:
        new = Sink(self.stores[name], self.random, self.options)
        if self.options.zombies and self.random.random() < 0.5:
            self.sinks[name].insert(0, new)
            del self.sinks[name][3:]
        else:
            self.sinks[name][0] = new

    def late_insert(self, name: str) -> None:
        if self.stores[name].late:
            self.sinks[name][0].late_lands()

    def noise(self) -> None:
        for _ in range(self.options.noise):
            self.noise_number += 1
            for store in self.stores.values():
                for table in store.tables.values():
                    table.noise(self.noise_number)

    # --- disasters and operators

    def retain(self) -> None:
        log = self.random.choice((self.raw, self.readings))
        log.retain(len(log.records) // 2)

    def recreate(self) -> None:
        self.raw.recreate()
        self.recreated, self.relayed = True, 0

    def commits_expire(self) -> None:
        for name, store in self.stores.items():
            store.commit = None
            self.sinks[name] = [Sink(store, self.random, self.options)]

    def replay(self) -> None:
        """An operator replays a row of the denied or the dead letters, perhaps for the second time."""
        tables = self.stores["readings"].tables
        rows = tables["dead"].rows + tables["denied"].rows
        if not rows or self.replayed >= self.options.replay:
            return
        epoch, src, index, uid, _ = self.random.choice(rows)
        if src < self.raw.low or epoch != self.raw.epoch:
            return
        self.replayed += 1
        message = next(m for m in messages_of(self.raw.get(src).value) if m.uid == uid)
        again = Message(message.device, message.boot, message.seq, uid, f"{epoch}/0/{src}/{index}")
        copy = Bridge(self.options, Broker(queue=[again]), self.raw, self.devices)
        copy.receive(1)
        copy.close()
        _, record = copy.flying[0]
        self.raw.append(self.tick_of_kafka(), raw_data(record.rows, replayed=1), record.value)

    # --- the schedule

    def moves(self) -> list[Move]:
        o, bridge = self.options, self.bridge
        moves: list[Move] = [
            (6, self.publish), (6, lambda: bridge.receive(3)), (5, bridge.close),
            (6, lambda: bridge.land(self.tick_of_kafka())), (5, bridge.puback),
            (1, self.decide_policy), (3, self.relay), (3, self.tick), (0.5, self.relay_repeats),
        ]  # fmt: skip
        for name in self.workers:
            for what, weight in (("step", 8), ("land", 8), ("snapshot", 2), ("snapshot lands", 2)):
                moves.append((weight, lambda n=name, w=what: self.act(n, 0, w)))  # type: ignore[misc]
                moves += [(weight / 4, lambda n=name, w=what, p=p: self.act(n, p, w)) for p in (1, 2)]  # type: ignore[misc]
            moves += [(0.5, lambda n=name: self.hand_over(n)), (0.5, lambda n=name: self.zombie_ends(n))]  # type: ignore[misc]
            if o.kill:
                moves.append((0.8, lambda n=name: self.kill_worker(n)))  # type: ignore[misc]
        for name in self.sinks:
            moves += [(w, lambda n=name, p=p: self.sink(n, p)) for p, w in ((0, 14), (1, 4), (2, 1))]  # type: ignore[misc]
            if o.kill:
                moves.append((1, lambda n=name: self.kill_sink(n)))  # type: ignore[misc]
            if o.late_insert:
                moves.append((1, lambda n=name: self.late_insert(n)))  # type: ignore[misc]
        if o.kill:
            moves += [(0.8, bridge.kill), (2, lambda: bridge.orphan_lands(self.tick_of_kafka()))]
        optional: list[tuple[object, float, Callable[[], object]]] = [
            (o.relay_zombie, 0.6, self.relay_zombie), (o.noise, 2, self.noise), (o.reorder, 2, self.release),
            (o.end_to_end, 2, self.resend), (o.broker_crash, 3, self.autosave),
            (o.broker_crash, 0.5, self.broker_crash),
            (o.retention, 0.4, self.retain), (o.recreate, 0.3, self.recreate),
            (o.commits_expire, 0.3, self.commits_expire), (o.replay, 2, self.replay), (o.upgrade, 0.5, self.upgrade),
        ]  # fmt: skip
        return moves + [(weight, move) for on, weight, move in optional if on]

    def run(self) -> None:
        moves = self.moves()
        weights = [weight for weight, _ in moves]
        for _, move in self.random.choices(moves, weights, k=self.options.steps):
            move()
        self.drain()

    def drain(self) -> None:
        """Faults end: everything that is under way arrives, and every part catches up."""
        while self.devices.held_back:
            self.release()
        while self.bridge.orphans:
            self.bridge.orphan_lands(self.tick_of_kafka())
        self.bridge.kill()
        for _ in range(200):
            if not self.broker.queue and not self.devices.store:
                break
            self.bridge.receive(len(self.broker.queue))
            self.bridge.close()
            while self.bridge.flying:
                self.bridge.land(self.tick_of_kafka())
            self.bridge.puback()
            self.broker.queue += self.devices.store
        while self.relayed < len(self.policies):
            self.relay()
        for time in (LAST_TICK, LAST_TICK + 1):
            self.raw.append(self.tick_of_kafka(), raw_tick(time), b"")
        for name in ("access", "windows"):
            del self.workers[name][1:]
            worker = self.workers[name][0]
            while worker.land(self.tick_of_kafka()) or worker.step():
                pass
            worker.snapshot_lands(self.tick_of_kafka())
            worker.snapshot()  # sees that a topic was re-created
        for name, store in self.stores.items():
            self.sinks[name] = [Sink(store, self.random, self.options)]
            while store.late:
                self.sinks[name][0].late_lands()
            for _ in range(5000):
                if not self.sink(name, 0):
                    break

    # --- what must hold

    def violations(self) -> list[str]:
        found = [*self._fates(), *self._windows(), *self._ledger(), *self._replays()]
        if self.workers["access"][0].state.denied != self.policies[-1]:
            found.append("an old policy is in force")
        return sorted(set(found))

    def _counts(self, verdict: str) -> "collections.Counter[int]":
        return collections.Counter(row[3] for row in self.stores["readings"].tables[verdict].rows)

    def _fates(self) -> list[str]:
        accepted, denied, dead = (self._counts(v) for v in ("accepted", "denied", "dead"))
        found = []
        for uid in range(self.devices.uid):
            fates = [c[uid] for c in (accepted, denied, dead) if c[uid]]
            if not fates:
                found.append("lost")
            if accepted[uid] > 1 and self.options.seq:
                found.append("stored twice")
            if self.options.seq and not self.replayed and (len(fates) > 1 or denied[uid] > 1 or dead[uid] > 1):
                found.append("two fates")
        return found

    def _replays(self) -> list[str]:
        """The first replay of a row is judged again, whatever happened to its seq; later ones are duplicates."""
        fresh: dict[str, int] = {}
        for record in self.readings.records:
            src = Provenance.parse(record.found).src
            for _, verdict, replay_of in fates_of(record.value):
                if replay_of is not None and fresh.setdefault(replay_of, src) == src and verdict == "duplicate":
                    return ["a replay was dropped as a repeat"]
        return []

    def _windows(self) -> list[str]:
        accepted = self._counts("accepted")
        rows = self.stores["windows"].tables["accepted"].rows
        counted = collections.Counter(row[3] for row in rows)
        found = ["a window lost a reading"] if any(counted[u] < n for u, n in accepted.items()) else []
        if any(counted[u] > n for u, n in accepted.items()):
            found.append("a window counted a reading twice")
        emitted: dict[str, int] = {}
        for row in rows:
            if emitted.setdefault(row[4], row[1]) != row[1]:
                found.append("a window was closed twice")
        return found

    def _ledger(self) -> list[str]:
        """received (raw's own headers) = fates; readings produced = stored; each fact of the ledger once."""
        if self.raw.low or self.readings.low or self.recreated:
            return []
        received = sum(number(r.found, "rows") for r in self.raw.records if kind_of(r.found) is Kind.DATA)
        highest, fates = -1, collections.Counter[str]()
        for record in self.readings.records:
            origin = Provenance.parse(record.found)
            if origin.src > highest:
                highest = origin.src
                fates.update(verdict for _, verdict, _ in fates_of(record.value))
        found = [] if received == fates.total() else ["the ledger's messages differ"]
        stored = {v: sum(self._counts(v).values()) for v in ("accepted", "denied", "dead")}
        if any(fates[v] != n for v, n in stored.items()):
            found.append("the ledger's readings differ")
        facts = collections.Counter(row[:2] for row in self.stores["readings"].ledger.rows)
        wanted = {(0, r.offset) for r in self.raw.records if kind_of(r.found) is not Kind.TICK}
        if any(n > 1 for n in facts.values()) or wanted - set(facts):
            found.append("the ledger's facts are not one for each raw record")
        return found


def play(options: Options, seed: int) -> list[str]:
    """Run one schedule. Returns violations, or ["stopped: …"] where a process refused to go on."""
    try:
        pipeline = Pipeline(options, seed)
        pipeline.run()
    except Stopped as stop:
        return [f"stopped: {stop}"]
    return pipeline.violations()
