"""Reads a session's facts in their order and says what stands at its end."""

import heapq
import io
import json
import os
from collections import Counter
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException
from fastavro import parse_schema, schemaless_reader

BROKERS = os.environ.get("BROKERS", "127.0.0.1:19092")
PREFIX = os.environ.get("PREFIX", "")
SESSION = os.environ.get("SESSION", "9920")
EPOCH = os.environ.get("EPOCH", "0")
SCHEMAS = Path(os.environ.get("SCHEMAS", "schemas/avsc"))

# The kinds of which this program reads more than their number.
DECODED = ("laps", "pit_stops", "overtakes")

shared = {}
for path in SCHEMAS.glob("shared/*.avsc"):
    parse_schema(json.loads(path.read_text()), shared)
schemas = {path.stem: parse_schema(json.loads(path.read_text()), dict(shared)) for path in SCHEMAS.glob("facts/*.avsc")}
kind_of = {f"{PREFIX}pitwall.{kind}.v1": kind for kind in schemas}

counts, corrections, laps = Counter(), 0, {}


def take(kind, message):
    """One fact after the other, of all kinds, in the order in which the engine said them."""
    global corrections
    if kind in DECODED:
        # Confluent framing: a zero byte and the schema's id in four, then the Avro record.
        fact = schemaless_reader(io.BytesIO(message[5:]), schemas[kind])
        header = fact["header"]
        if header["kind_seq"] != counts[kind]:
            raise SystemExit(f"{kind}: fact {counts[kind]} of this kind is missing")
        corrections += header["supersedes"] is not None
        if kind == "laps":
            # A later fact about the same lap replaces the earlier one, or takes it back.
            if header["withdrawn"]:
                laps.pop((fact["driver_number"], fact["lap_number"]), None)
            else:
                laps[fact["driver_number"], fact["lap_number"]] = fact
    counts[kind] += 1


consumer = Consumer({
    "bootstrap.servers": BROKERS,
    "group.id": f"{PREFIX}read-session-python",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    # What a transaction left behind that was aborted is not there.
    "isolation.level": "read_committed",
    # Partition p of every topic comes to the same reader, and a session is in the same partition of all.
    "partition.assignment.strategy": "range",
    "enable.partition.eof": True,
})
partitions, at_end = set(), set()
consumer.subscribe(list(kind_of), on_assign=lambda _, assigned: partitions.update((p.topic, p.partition) for p in assigned))
waiting, next_fact_seq = [], 0
while not partitions or at_end != partitions:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        if message.error().code() != KafkaError._PARTITION_EOF:
            raise KafkaException(message.error())
        at_end.add((message.topic(), message.partition()))
        continue
    headers = dict(message.headers() or [])
    if message.key() != SESSION.encode() or headers["epoch"] != EPOCH.encode():
        continue
    heapq.heappush(waiting, (int(headers["fact_seq"]), kind_of[message.topic()], message.value()))
    # Topics are read at their own pace; a fact is passed on when all before it were.
    while waiting and waiting[0][0] == next_fact_seq:
        take(*heapq.heappop(waiting)[1:])
        next_fact_seq += 1
consumer.close()
if waiting:
    raise SystemExit(f"fact {next_fact_seq} is missing")

print(f"{next_fact_seq} facts")
for kind in DECODED:
    print(f"{counts[kind]} {kind}")
print(f"{corrections} of them corrections")
fastest = min((lap for lap in laps.values() if lap["lap_ms"] and not lap["is_deleted"]), key=lambda lap: lap["lap_ms"])
print(f"fastest lap: car {fastest['driver_number']}, lap {fastest['lap_number']}, {fastest['lap_ms']} ms")
