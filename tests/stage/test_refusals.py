"""A worker that must not go on stops with one clear line, and what the line says to do works. Real Kafka."""

import json

import pytest
from confluent_kafka.admin import NewPartitions

from runtime.errors import EXIT_FATAL, EXIT_REFUSED
from runtime.stage.snapshot import is_manifest
from schemas import topics as names
from schemas.headers import Provenance, raw_data, raw_tick
from tests.stage.bed import PARTITIONS, Bed, Worker
from tests.stage.conftest import Start

LONG = {"MILLRACE_SNAPSHOT_INTERVAL_S": "600"}


def _refused(worker: Worker, *says: str) -> None:
    assert worker.code() == EXIT_REFUSED, worker.text()
    for words in says:
        assert words in worker.text()


def _some_work(bed: Bed, start: Start, stage: str, **environment: str) -> None:
    bed.virgin(stage)
    bed.feed(60)
    worker = start(stage, **environment)
    bed.wait_applied(stage)
    worker.stop()


def test_a_new_logic_version_waits_until_the_old_one_has_drained(bed: Bed, start: Start) -> None:
    _some_work(bed, start, "versions")
    bed.feed(60)
    ends = bed.ends("versions.out")
    worker = start("versions", **LONG).wait_ready()
    bed.wait_written("versions.out", names.RAW)
    worker.kill()  # outputs beyond the snapshot are in the topic now
    assert bed.ends("versions.out") > ends
    _refused(start("versions", TOY_VERSION="2"), "logic version 1", "--drain")
    drained = start("versions", "--drain")
    assert drained.code() == 0, drained.text()
    bed.check("versions")
    second = start("versions", TOY_VERSION="2").wait_ready()
    second.stop()


def test_a_topic_made_anew_is_noticed_twice(bed: Bed, start: Start) -> None:
    """First without init, then registered by it: the snapshot is still of the old one."""
    _some_work(bed, start, "recreated")
    bed.delete(names.RAW)
    bed.create(names.RAW)
    _refused(start("recreated"), "re-created", "millrace init")
    bed.make_topics("recreated")
    bed.feed(60)
    _refused(start("recreated"), "re-created", "--from-oldest")
    worker = start("recreated", "--from-oldest").wait_ready()
    bed.wait_applied("recreated")
    assert bed.newest("recreated.out", 0) == (bed.facts[names.RAW].epoch, bed.ends(names.RAW)[0] - 1)
    worker.stop()


@pytest.mark.parametrize(("stage", "topic"), [("gone", "gone.out"), ("stateless", "state.stateless")])
def test_a_deleted_topic_names_the_commands_that_resolve_it_and_is_no_crash_loop(
    bed: Bed, start: Start, stage: str, topic: str
) -> None:
    _some_work(bed, start, stage)
    bed.delete(topic)
    commands = (
        "`millrace init`",
        f"`millrace stage reset {stage} --from-oldest --reason '...'`",
        f"`millrace restart {stage}`",
    )
    _refused(start(stage), f"topic {topic} is gone from Kafka", *commands)
    bed.make_topics(stage)  # what `millrace init` does
    _refused(start(stage), "--from-oldest")
    worker = start(stage, "--from-oldest").wait_ready()
    bed.wait_applied(stage)
    worker.stop()
    start(stage).wait_ready().stop()


def test_a_running_worker_whose_output_topic_is_deleted_stays_down(bed: Bed, start: Start) -> None:
    bed.virgin("cut")
    bed.feed(20)
    worker = start("cut").wait_ready()
    bed.wait_applied("cut")
    bed.delete("cut.rare")
    bed.feed(20)
    code = worker.code(60)
    assert code == EXIT_REFUSED or start("cut").code(60) == EXIT_REFUSED, worker.text()


def test_a_topic_with_another_number_of_partitions_is_named_with_the_commands(bed: Bed, start: Start) -> None:
    _some_work(bed, start, "wide")
    bed.admin.create_partitions([NewPartitions("wide.out", PARTITIONS + 1)])["wide.out"].result(20)
    says = f"topic wide.out has {PARTITIONS + 1} partitions, registered are {PARTITIONS}"
    _refused(start("wide"), says, "--delete --topic wide.out", "`millrace init`", "stage reset wide --from-oldest")
    bed.delete("wide.out")
    bed.make_topics("wide")
    start("wide", "--from-oldest").wait_ready().stop()


def test_retention_that_overtook_is_no_silent_skip(bed: Bed, start: Start) -> None:
    _some_work(bed, start, "kept")
    bed.feed(60)
    ends = bed.ends(names.RAW)
    bed.lose(names.RAW, before=min(ends))
    assert min(ends) > min(bed.committed("kept"))
    _refused(start("kept"), "retention deleted offsets", "--skip-lost")
    worker = start("kept", "--skip-lost").wait_ready()
    bed.wait_applied("kept")
    worker.stop()
    start("kept").wait_ready().stop()


def test_a_damaged_snapshot_falls_back_to_the_one_before(bed: Bed, start: Start) -> None:
    """First the manifests, then the chunks of those that are left."""
    large = {"TOY_BALLAST": "700000"}
    _some_work(bed, start, "damaged", **large)
    for partition in range(PARTITIONS):
        bed.put("state.damaged", partition, b"MRS2 and then rubbish", key=b"%d/a" % partition)
    bed.feed(60)
    worker = start("damaged", **large).wait_ready()
    assert "trying the one before" in worker.text()
    bed.wait_applied("damaged")
    worker.stop()
    bed.check("damaged")
    for partition in range(PARTITIONS):
        for key in {m.key() for m in bed.read("state.damaged", partition)}:
            if not is_manifest(key or b""):
                bed.put("state.damaged", partition, None, key=key)
    _refused(start("damaged", **large), "no snapshot of state.damaged/", "can be read", "was dropped", "--from-oldest")
    again = start("damaged", "--from-oldest", **large).wait_ready()
    again.stop()
    start("damaged", **large).wait_ready().stop()


def test_lost_snapshots_are_not_taken_for_a_first_start(bed: Bed, start: Start) -> None:
    _some_work(bed, start, "lost")
    bed.delete("state.lost")
    bed.make_topics("lost")
    _refused(start("lost"), "there is no snapshot, but lost.out holds records")


def test_a_bug_that_hits_every_row_ends_the_process_before_anything_is_committed(bed: Bed, start: Start) -> None:
    bed.virgin("poisoned")
    bed.put(names.RAW, 0, json.dumps([*"abcdefghijklmnop"]).encode(), headers=raw_data(16))
    worker = start("poisoned", TOY_POISON="*")
    assert worker.code() == EXIT_FATAL
    assert "a poisoned word" in worker.text()
    assert bed.committed("poisoned")[0] <= 0
    assert bed.ends("poisoned.out")[0] == 0
    healed = start("poisoned").wait_ready()
    bed.wait_applied("poisoned")
    bed.check("poisoned")
    healed.stop()


def test_rows_on_which_the_stage_raises_cost_themselves_also_through_a_kill(bed: Bed, start: Start) -> None:
    """The record is met again after the kill, and its rows are left out again: what was written stays the truth."""
    bed.virgin("fussy")
    bed.poison = "bad"
    slow = {"TOY_POISON": "bad", "MILLRACE_SNAPSHOT_INTERVAL_S": "60"}
    worker = start("fussy", **slow).wait_ready()
    refused = 0
    for number in range(12):
        bed.feed(5)
        bed.put(names.RAW, 0, b'["a","bad","b","bad"]' if number % 3 else b'["c"]', headers=raw_data(4))
        refused += 2 if number % 3 else 0
    bed.wait_written("fussy.out", names.RAW)
    assert worker.figure('millrace_stage_refused_rows_total{stage="fussy"}') == refused
    worker.kill()
    again = start("fussy", TOY_POISON="bad").wait_ready()
    bed.feed(20)
    bed.wait_applied("fussy")
    assert again.figure('millrace_stage_refused_rows_total{stage="fussy"}') == refused
    print(bed.check("fussy"))
    again.stop()
    bed.poison = ""


def test_an_output_that_kafka_refuses_leaves_no_gap(bed: Bed, start: Start) -> None:
    """What was sent after it must not be taken either."""
    bed.virgin("huge")
    for words in (b'["a"]', b'["huge"]', b'["b"]', b'["c"]'):
        bed.put(names.RAW, 0, words, headers=raw_data(1))
    worker = start("huge")
    assert worker.code() == EXIT_FATAL
    assert "Kafka rejected an output" in worker.text()
    assert [src for src, _ in bed.kept("huge.out", 0)[0]] == [0]


def test_a_record_that_breaks_the_contract_stops_the_worker(bed: Bed, start: Start) -> None:
    bed.virgin("broken")
    bed.put(names.RAW, 1, b"", headers=[("kind", b"novelty")])
    _refused(start("broken"), "telemetry.raw/1 offset 0 breaks the contract", "'kind' is unknown")


def test_a_gap_before_a_derived_record_stops_the_reader_until_told_otherwise(bed: Bed, start: Start) -> None:
    bed.virgin("writer", "reader")
    for src, prev in ((0, -1), (0, -1), (1, 0), (3, 2)):
        headers = [*raw_tick(src), *Provenance(bed.facts[names.RAW].epoch, src, prev).encode()]
        bed.put("writer.out", 0, b"0", headers=headers)
    _refused(
        start("reader", TOY_SOURCE="writer.out"),
        "writer.out/0 offset 3: gap in provenance",
        "millrace stage reset reader --partition 0 --skip-lost",
    )
    worker = start("reader", "--skip-lost", TOY_SOURCE="writer.out").wait_ready()
    bed.wait_applied("reader", "writer.out")
    assert "continuing because of --skip-lost" in worker.text()
    assert [src for src, _ in bed.kept("reader.out", 0)[0]] == [0, 1, 3]


def test_a_second_process_of_the_same_instance_is_refused(bed: Bed, start: Start) -> None:
    bed.virgin("alone")
    start("alone").wait_ready()
    _refused(start("alone"), "another process is instance '0' of alone", "MILLRACE_INSTANCE")
