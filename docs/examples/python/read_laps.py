"""Reads a session's laps with the schemas that a registry has, and says which was the fastest."""

import os

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

PREFIX = os.environ.get("PREFIX", "")
SESSION = os.environ.get("SESSION", "9920")
EPOCH = os.environ.get("EPOCH", "0")
TOPIC = f"{PREFIX}pitwall.laps.v1"

# Asks the registry once for each id that it meets in a frame.
deserialize = AvroDeserializer(SchemaRegistryClient({"url": os.environ.get("REGISTRY", "http://127.0.0.1:18081/apis/ccompat/v7")}))
context = SerializationContext(TOPIC, MessageField.VALUE)
consumer = Consumer({
    "bootstrap.servers": os.environ.get("BROKERS", "127.0.0.1:19092"),
    "group.id": f"{PREFIX}read-laps-python",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
})
partitions, at_end, laps = set(), set(), {}
consumer.subscribe([TOPIC], on_assign=lambda _, assigned: partitions.update(p.partition for p in assigned))
while not partitions or at_end != partitions:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        if message.error().code() != KafkaError._PARTITION_EOF:
            raise KafkaException(message.error())
        at_end.add(message.partition())
        continue
    if message.key() == SESSION.encode() and dict(message.headers())["epoch"] == EPOCH.encode():
        fact = deserialize(message.value(), context)
        laps[fact["driver_number"], fact["lap_number"]] = fact
consumer.close()
fastest = min((lap for lap in laps.values() if lap["lap_ms"] and not lap["is_deleted"]), key=lambda lap: lap["lap_ms"])
print(f"fastest lap: car {fastest['driver_number']}, lap {fastest['lap_number']}, {fastest['lap_ms']} ms")
