import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Laps, positions, overtakes, pit stops and each lap's telemetry maxima on Kafka Streams, from the raw topics that PitWall's engine reads.
 *
 * <p>One task a partition, one RocksDB store with its changelog, exactly_once_v2. Every record of every raw topic is read and its header
 * decoded; of those five derivations' collections the body is decoded too. Says "ready" once it has restored and processes its first
 * record. When as many records as it was told are processed, it commits, says "done" with its CPU seconds and peak memory in MB, and ends.
 */
public final class Peer {
    private static final String[] COLLECTIONS = {
        "car_data", "championship_drivers", "championship_teams", "drivers", "intervals", "laps", "location", "meetings", "overtakes", "pit",
        "position", "race_control", "session_result", "sessions", "starting_grid", "stints", "team_radio", "weather"
    };
    private static final String[] OUTPUTS = {"laps", "positions", "overtakes", "pit_stops", "maxima"};
    private static final Set<String> DECODED = Set.of("car_data", "laps", "pit", "position");
    /** The frame's five bytes, then the source's 32: what stands before `ingest_seq`. */
    private static final int FIXED_BYTES = 5 + 32;

    private static final AtomicLong PROCESSED = new AtomicLong();
    private static final CountDownLatch DONE = new CountDownLatch(1);

    private Peer() {}

    /** Arguments: brokers, prefix of the topics, application id, state directory, folder schemas/avsc, records to process. */
    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0];
        String prefix = arguments[1];
        String application = arguments[2];
        String state = arguments[3];
        Path schemas = Path.of(arguments[4]);
        long records = Long.parseLong(arguments[5]);
        Map<String, Schema> bodies = new HashMap<>();
        for (String collection : DECODED) {
            bodies.put(prefix + "openf1." + collection + ".v1", new Schema.Parser().parse(Files.readString(schemas.resolve("raw/" + collection + ".avsc"))));
        }

        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, state);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
        // A restart under the same name gets its partitions back at once, without waiting for the session timeout.
        settings.put(StreamsConfig.consumerPrefix("group.instance.id"), "peer");

        List<String> sources = new ArrayList<>();
        for (String collection : COLLECTIONS) {
            sources.add(prefix + "openf1." + collection + ".v1");
        }
        createOutputs(brokers, application, sources.get(0));
        var bytes = Serdes.ByteArray();
        Topology topology = new Topology();
        topology.addSource("raw", bytes.deserializer(), bytes.deserializer(), sources.toArray(String[]::new));
        topology.addProcessor("derive", () -> new Derive(bodies, records), "raw");
        topology.addStateStore(Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("race"), bytes, bytes).withCachingEnabled(), "derive");
        for (String output : OUTPUTS) {
            topology.addSink(output, application + "." + output, bytes.serializer(), bytes.serializer(), "derive");
        }
        try (KafkaStreams streams = new KafkaStreams(topology, settings)) {
            streams.setUncaughtExceptionHandler(error -> {
                error.printStackTrace();
                return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
            });
            streams.start();
            DONE.await();
        }
        double cpu = ProcessHandle.current().info().totalCpuDuration().orElseThrow().toMillis() / 1e3;
        String peak = Files.readAllLines(Path.of("/proc/self/status")).stream().filter(line -> line.startsWith("VmHWM")).findFirst().orElseThrow();
        System.out.printf("done %.1f %d%n", cpu, Long.parseLong(peak.replaceAll("\\D", "")) / 1024);
    }

    private static void createOutputs(String brokers, String application, String source) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            int partitions = admin.describeTopics(List.of(source)).allTopicNames().get().get(source).partitions().size();
            Set<String> there = admin.listTopics().names().get();
            List<NewTopic> topics = new ArrayList<>();
            for (String output : OUTPUTS) {
                if (!there.contains(application + "." + output)) {
                    topics.add(new NewTopic(application + "." + output, partitions, (short) 1).configs(Map.of("retention.ms", "-1")));
                }
            }
            admin.createTopics(topics).all().get();
        }
    }

    /** All five derivations: they share what they remember, so they are one processor, as they would be one task. */
    private static final class Derive implements Processor<byte[], byte[], byte[], byte[]> {
        private final Map<String, GenericDatumReader<GenericRecord>> readers = new HashMap<>();
        private final Map<String, GenericRecord> reused = new HashMap<>();
        private final long records;
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> store;
        private BinaryDecoder decoder;
        private long firstSeq = -1;

        Derive(Map<String, Schema> bodies, long records) {
            bodies.forEach((topic, schema) -> readers.put(topic, new GenericDatumReader<>(schema)));
            this.records = records;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            store = context.getStateStore("race");
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            String topic = context.recordMetadata().orElseThrow().topic();
            try {
                decoder = DecoderFactory.get().binaryDecoder(record.value(), FIXED_BYTES, record.value().length - FIXED_BYTES, decoder);
                long ingestSeq = decoder.readLong();
                decoder.readLong();
                if (firstSeq < 0) {
                    firstSeq = ingestSeq;
                    System.out.println("ready");
                }
                GenericDatumReader<GenericRecord> reader = readers.get(topic);
                if (reader != null) {
                    GenericRecord body = reader.read(reused.get(topic), decoder);
                    reused.put(topic, body);
                    derive(record, body);
                }
            } catch (IOException error) {
                throw new IllegalStateException(topic, error);
            }
            if (PROCESSED.incrementAndGet() == records) {
                DONE.countDown();
            }
        }

        private void derive(Record<byte[], byte[]> record, GenericRecord body) {
            int driver = (int) body.get("driver_number");
            switch (body.getSchema().getName()) {
                case "CarData" -> carData(record, driver, body);
                case "Lap" -> lap(record, driver, body);
                case "Position" -> position(record, driver, (int) body.get("position"));
                case "Pit" -> pit(record, driver, body);
                default -> throw new IllegalStateException(body.getSchema().getName());
            }
        }

        /** The current lap's number and greatest speed, engine speed and throttle. */
        private void carData(Record<byte[], byte[]> record, int driver, GenericRecord body) {
            byte[] key = key(record, "maxima", driver);
            byte[] known = store.get(key);
            ByteBuffer maxima = ByteBuffer.wrap(known == null ? new byte[16] : known.clone());
            String[] fields = {"speed", "rpm", "throttle"};
            for (int field = 0; field < fields.length; field++) {
                int at = 4 * (field + 1);
                maxima.putInt(at, Math.max(maxima.getInt(at), (int) body.get(fields[field])));
            }
            store.put(key, maxima.array());
        }

        private void lap(Record<byte[], byte[]> record, int driver, GenericRecord body) {
            int number = (int) body.get("lap_number");
            byte[] key = key(record, "maxima", driver);
            byte[] maxima = store.get(key);
            if (maxima == null || ByteBuffer.wrap(maxima).getInt(0) < number) {
                if (maxima != null && ByteBuffer.wrap(maxima).getInt(0) > 0) {
                    say(record, "maxima", "driver %d lap %d speed %d rpm %d throttle %d", driver, ByteBuffer.wrap(maxima).getInt(0),
                            ByteBuffer.wrap(maxima).getInt(4), ByteBuffer.wrap(maxima).getInt(8), ByteBuffer.wrap(maxima).getInt(12));
                }
                store.put(key, ByteBuffer.allocate(16).putInt(0, number).array());
            }
            byte[] lapKey = key(record, "lap " + number, driver);
            byte[] version = (body.get("lap_duration") + " " + body.get("duration_sector_1") + " " + body.get("duration_sector_2") + " "
                    + body.get("duration_sector_3")).getBytes(StandardCharsets.UTF_8);
            byte[] before = store.get(lapKey);
            if (before == null || !java.util.Arrays.equals(before, version)) {
                store.put(lapKey, version);
                say(record, "laps", "driver %d lap %d %s", driver, number, new String(version, StandardCharsets.UTF_8));
            }
        }

        /** A car that comes forward has overtaken every car that it finds between its places. */
        private void position(Record<byte[], byte[]> record, int driver, int position) {
            byte[] key = key(record, "order", 0);
            byte[] known = store.get(key);
            byte[] order = known == null ? new byte[100] : known.clone();
            int before = order[driver];
            if (before == position) {
                return;
            }
            Map<Integer, Integer> passed = new TreeMap<>();
            for (int other = 0; other < order.length; other++) {
                if (before > position && other != driver && order[other] >= position && order[other] < before) {
                    passed.put((int) order[other], other);
                }
            }
            order[driver] = (byte) position;
            store.put(key, order);
            say(record, "positions", "driver %d position %d", driver, position);
            passed.forEach((place, other) -> say(record, "overtakes", "driver %d passes %d for %d", driver, other, place));
        }

        private void pit(Record<byte[], byte[]> record, int driver, GenericRecord body) {
            byte[] key = key(record, "stops", driver);
            byte[] known = store.get(key);
            int stops = known == null ? 1 : ByteBuffer.wrap(known).getInt(0) + 1;
            store.put(key, ByteBuffer.allocate(4).putInt(0, stops).array());
            say(record, "pit_stops", "driver %d lap %d stop %d lane %s", driver, body.get("lap_number"), stops, body.get("lane_duration"));
        }

        private static byte[] key(Record<byte[], byte[]> record, String what, int driver) {
            return (new String(record.key(), StandardCharsets.UTF_8) + " " + what + " " + driver).getBytes(StandardCharsets.UTF_8);
        }

        private void say(Record<byte[], byte[]> record, String output, String format, Object... values) {
            context.forward(record.withValue(String.format(format, values).getBytes(StandardCharsets.UTF_8)), output);
        }
    }
}
