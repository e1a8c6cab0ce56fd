import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.PriorityQueue;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Reads a session's facts in their order and says what stands at its end. */
public final class ReadSession {
    private static final String BROKERS = setting("BROKERS", "127.0.0.1:19092");
    private static final String PREFIX = setting("PREFIX", "");
    private static final String SESSION = setting("SESSION", "9920");
    private static final String EPOCH = setting("EPOCH", "0");
    private static final Path SCHEMAS = Path.of(setting("SCHEMAS", "schemas/avsc"));

    /** The kinds of which this program reads more than their number. */
    private static final List<String> DECODED = List.of("laps", "pit_stops", "overtakes");

    private record Fact(long factSeq, String kind, byte[] message) {}

    private record Lap(int driver, int number) {}

    private final Map<String, Schema> schemas = new HashMap<>();
    private final Map<String, Long> counts = new HashMap<>();
    private final Map<Lap, GenericRecord> laps = new HashMap<>();
    private long corrections = 0;
    private long nextFactSeq = 0;

    public static void main(String[] arguments) throws IOException {
        new ReadSession().run();
    }

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    private void run() throws IOException {
        List<String> shared = new ArrayList<>();
        for (Path path : avsc("shared")) {
            shared.add(Files.readString(path));
        }
        Map<String, String> kindOf = new HashMap<>();
        for (Path path : avsc("facts")) {
            Schema.Parser parser = new Schema.Parser();
            shared.forEach(parser::parse);
            String kind = path.getFileName().toString().replace(".avsc", "");
            schemas.put(kind, parser.parse(Files.readString(path)));
            kindOf.put(PREFIX + "pitwall." + kind + ".v1", kind);
        }
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", BROKERS,
                "group.id", PREFIX + "read-session-java",
                "auto.offset.reset", "earliest",
                "enable.auto.commit", "false",
                // What a transaction left behind that was aborted is not there.
                "isolation.level", "read_committed",
                // Partition p of every topic comes to the same reader, and a session is in the same partition of all.
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        PriorityQueue<Fact> waiting = new PriorityQueue<>(Comparator.comparingLong(Fact::factSeq));
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(kindOf.keySet());
            do {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (!SESSION.equals(record.key()) || !EPOCH.equals(header(record, "epoch"))) {
                        continue;
                    }
                    long factSeq = Long.parseLong(header(record, "fact_seq"));
                    waiting.add(new Fact(factSeq, kindOf.get(record.topic()), record.value()));
                    // Topics are read at their own pace; a fact is passed on when all before it were.
                    while (!waiting.isEmpty() && waiting.peek().factSeq() == nextFactSeq) {
                        take(waiting.remove());
                        nextFactSeq++;
                    }
                }
            } while (!isAtEnd(consumer));
        }
        if (!waiting.isEmpty()) {
            throw new IllegalStateException("fact " + nextFactSeq + " is missing");
        }
        report();
    }

    private static List<Path> avsc(String directory) throws IOException {
        try (DirectoryStream<Path> found = Files.newDirectoryStream(SCHEMAS.resolve(directory), "*.avsc")) {
            List<Path> paths = new ArrayList<>();
            found.forEach(paths::add);
            return paths;
        }
    }

    private static String header(ConsumerRecord<String, byte[]> record, String name) {
        return new String(record.headers().lastHeader(name).value(), StandardCharsets.UTF_8);
    }

    /** Offsets have holes where transactions end, so the end is where the reader stands, not a record's number. */
    private static boolean isAtEnd(KafkaConsumer<String, byte[]> consumer) {
        var assigned = consumer.assignment();
        if (assigned.isEmpty()) {
            return false;
        }
        var ends = consumer.endOffsets(assigned);
        return assigned.stream().allMatch(partition -> consumer.position(partition) >= ends.get(partition));
    }

    /** One fact after the other, of all kinds, in the order in which the engine said them. */
    private void take(Fact fact) throws IOException {
        long count = counts.getOrDefault(fact.kind(), 0L);
        if (DECODED.contains(fact.kind())) {
            // Confluent framing: a zero byte and the schema's id in four, then the Avro record.
            var decoder = DecoderFactory.get().binaryDecoder(fact.message(), 5, fact.message().length - 5, null);
            var body = new GenericDatumReader<GenericRecord>(schemas.get(fact.kind())).read(null, decoder);
            var header = (GenericRecord) body.get("header");
            if ((long) header.get("kind_seq") != count) {
                throw new IllegalStateException(fact.kind() + ": fact " + count + " of this kind is missing");
            }
            corrections += header.get("supersedes") == null ? 0 : 1;
            if (fact.kind().equals("laps")) {
                // A later fact about the same lap replaces the earlier one, or takes it back.
                var lap = new Lap((int) body.get("driver_number"), (int) body.get("lap_number"));
                if ((boolean) header.get("withdrawn")) {
                    laps.remove(lap);
                } else {
                    laps.put(lap, body);
                }
            }
        }
        counts.put(fact.kind(), count + 1);
    }

    private void report() {
        System.out.println(nextFactSeq + " facts");
        DECODED.forEach(kind -> System.out.println(counts.getOrDefault(kind, 0L) + " " + kind));
        System.out.println(corrections + " of them corrections");
        laps.values().stream()
                .filter(lap -> lap.get("lap_ms") != null && !(boolean) lap.get("is_deleted"))
                .min(Comparator.comparingInt(lap -> (int) lap.get("lap_ms")))
                .ifPresent(lap -> System.out.printf("fastest lap: car %d, lap %d, %d ms%n",
                        lap.get("driver_number"), lap.get("lap_number"), lap.get("lap_ms")));
    }
}
