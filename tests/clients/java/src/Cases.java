import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The cases of producer and consumer, with groups of one or the other protocol. */
final class Cases {
    private final String groupProtocol;

    Cases(String groupProtocol) {
        this.groupProtocol = groupProtocol;
    }

    static Admin admin(String bootstrap) {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    static void create(String bootstrap, String topic, int partitions, int replicas,
            Map<String, String> configs) throws Exception {
        try (Admin admin = admin(bootstrap)) {
            NewTopic made = new NewTopic(topic, partitions, (short) replicas).configs(configs);
            admin.createTopics(List.of(made)).all().get();
            Main.until(topic + " is there", () -> admin.listTopics().names().get().contains(topic));
        }
    }

    static KafkaProducer<byte[], byte[]> producer(String bootstrap, Map<String, Object> more) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("linger.ms", "50");
        config.putAll(more);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static void produce(KafkaProducer<byte[], byte[]> producer,
            List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        List<Future<RecordMetadata>> sent = records.stream().map(producer::send).toList();
        producer.flush();
        for (Future<RecordMetadata> one : sent) {
            one.get();
        }
    }

    static List<ProducerRecord<byte[], byte[]>> numbered(String topic, int from, int to, int partitions) {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int n = from; n < to; n++) {
            records.add(new ProducerRecord<>(topic, n % partitions, null, bytes(String.valueOf(n))));
        }
        return records;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    KafkaConsumer<byte[], byte[]> consumer(String bootstrap, String group) {
        return consumer(bootstrap, group, Map.of());
    }

    KafkaConsumer<byte[], byte[]> consumer(String bootstrap, String group, Map<String, Object> more) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        config.put("max.poll.records", "5"); // so that half of ten is a whole poll
        if (group != null) {
            config.put("group.id", group);
            config.put("group.protocol", groupProtocol);
        }
        config.putAll(more);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> consumer, long count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long end = System.nanoTime() + 30_000_000_000L;
        while (records.size() < count) {
            if (System.nanoTime() > end) {
                throw new AssertionError(records.size() + " of " + count + " records within 30 s");
            }
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        return records;
    }

    static List<Integer> values(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(record -> Integer.valueOf(new String(record.value()))).toList();
    }

    private List<ConsumerRecord<byte[], byte[]>> readAll(String bootstrap, String topic) {
        TopicPartition place = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(bootstrap, null)) {
            consumer.assign(List.of(place));
            consumer.seekToBeginning(List.of(place));
            return take(consumer, consumer.endOffsets(List.of(place)).get(place));
        }
    }

    /** What each codec has packed reads back equal, out of one log. */
    void codecs(String bootstrap, String topic) throws Exception {
        create(bootstrap, topic, 1, 1, Map.of());
        List<String> sent = new ArrayList<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int n = 0; n < 20; n++) {
                String value = (codec + " " + n + " ").repeat(50);
                records.add(new ProducerRecord<>(topic, bytes(value)));
                sent.add(value);
            }
            try (var producer = producer(bootstrap, Map.of("compression.type", codec))) {
                produce(producer, records);
            }
        }
        List<String> found = readAll(bootstrap, topic).stream().map(r -> new String(r.value())).toList();
        Main.equal(found, sent, "records of all codecs");
    }

    /** A consumer begins wherever it is told to: at both ends, within a batch, at a time. */
    void offsets(String bootstrap, String topic) throws Exception {
        create(bootstrap, topic, 1, 1, Map.of());
        TopicPartition place = new TopicPartition(topic, 0);
        long start = System.currentTimeMillis() - 60_000;
        List<ProducerRecord<byte[], byte[]>> batch = new ArrayList<>();
        for (int n = 0; n < 10; n++) {
            batch.add(new ProducerRecord<>(topic, 0, start + n * 1000, null, bytes(String.valueOf(n))));
        }
        try (var producer = producer(bootstrap, Map.of("linger.ms", "500"));
                var consumer = consumer(bootstrap, null)) {
            produce(producer, batch);
            consumer.assign(List.of(place));
            consumer.seekToBeginning(List.of(place));
            Main.equal(values(take(consumer, 1)).get(0), 0, "at the beginning");
            consumer.seek(place, 5);
            Main.equal(values(take(consumer, 1)).get(0), 5, "in the middle of a batch");
            consumer.seek(place, consumer.offsetsForTimes(Map.of(place, start + 6500)).get(place).offset());
            Main.equal(values(take(consumer, 1)).get(0), 7, "by timestamp");
            consumer.seekToEnd(List.of(place));
            int early = consumer.poll(Duration.ofSeconds(2)).count();
            Main.equal(early, 0, "at the end, before there is more");
            produce(producer, numbered(topic, 10, 11, 1));
            Main.equal(values(take(consumer, 1)), List.of(10), "at the end");
        }
    }

    /** Headers, and keys and values that are null or empty, come back as they were. */
    void fields(String bootstrap, String topic) throws Exception {
        create(bootstrap, topic, 1, 1, Map.of());
        byte[] every = new byte[256];
        for (int i = 0; i < every.length; i++) {
            every[i] = (byte) i;
        }
        List<Header> headers = List.of(new RecordHeader("a", bytes("1")), new RecordHeader("b", every),
                new RecordHeader("a", bytes("2")), new RecordHeader("null", null),
                new RecordHeader("", new byte[0]));
        List<ProducerRecord<byte[], byte[]>> records = List.of(
                new ProducerRecord<>(topic, 0, bytes("key"), bytes("value"), headers),
                new ProducerRecord<>(topic, 0, null, bytes("null key")),
                new ProducerRecord<>(topic, 0, bytes("null value"), null),
                new ProducerRecord<>(topic, 0, bytes("empty value"), new byte[0]),
                new ProducerRecord<>(topic, 0, new byte[0], bytes("empty key")));
        try (var producer = producer(bootstrap, Map.of())) {
            produce(producer, records);
        }
        List<String> sent = records.stream().map(r -> text(r.key(), r.value(), r.headers())).toList();
        List<String> found = readAll(bootstrap, topic).stream()
                .map(r -> text(r.key(), r.value(), r.headers())).toList();
        Main.equal(found, sent, "fields");
    }

    private static String text(byte[] key, byte[] value, Iterable<Header> headers) {
        StringBuilder text = new StringBuilder(Arrays.toString(key) + Arrays.toString(value));
        headers.forEach(header -> text.append(header.key()).append(Arrays.toString(header.value())));
        return text.toString();
    }

    /** A record of 900 KB. */
    void large(String bootstrap, String topic) throws Exception {
        create(bootstrap, topic, 1, 1, Map.of());
        byte[] value = new byte[900_000];
        new Random(1).nextBytes(value);
        try (var producer = producer(bootstrap, Map.of())) {
            produce(producer, List.of(new ProducerRecord<>(topic, value)));
        }
        Main.equal(Arrays.equals(readAll(bootstrap, topic).get(0).value(), value), true, "the large record");
    }

    /** 10 000 records of an idempotent producer (which it is by default): all, in order, none twice. */
    void idempotence(String bootstrap, String topic) throws Exception {
        create(bootstrap, topic, 1, 1, Map.of());
        try (var producer = producer(bootstrap, Map.of("enable.idempotence", "true", "linger.ms", "1"))) {
            produce(producer, numbered(topic, 0, 10_000, 1));
        }
        Main.equal(values(readAll(bootstrap, topic)), Main.numbers(0, 10_000), "10 000 records");
    }

    /** Two members share 4 partitions; one comes, one goes, and every record is read once. */
    void group(String bootstrap, String topic) throws Exception {
        create(bootstrap, topic, 4, 1, Map.of());
        List<Member> everyone = new ArrayList<>();
        try (var producer = producer(bootstrap, Map.of())) {
            everyone.add(new Member(consumer(bootstrap, topic + "-group"), topic));
            Member.share(everyone, List.of(4));
            produce(producer, numbered(topic, 0, 200, 4));
            Member.read(everyone, 200);
            everyone.add(new Member(consumer(bootstrap, topic + "-group"), topic));
            Member.share(everyone, List.of(2, 2));
            produce(producer, numbered(topic, 200, 400, 4));
            Member.read(everyone, 400);
            Main.equal(everyone.get(1).records.isEmpty(), false, "the second has read nothing");
            everyone.get(1).leave();
            Member.share(everyone.subList(0, 1), List.of(4));
            produce(producer, numbered(topic, 400, 600, 4));
            Member.read(everyone, 600);
            Thread.sleep(1000); // for what would come twice
            everyone.get(0).leave();
        }
        Main.equal(Member.recordsOf(everyone), Main.numbers(0, 600), "all records, each once");
    }

    /** The show mixed: one member of a group that others are in, too, until stdin ends; what it has read. */
    void mixed(String bootstrap, String topic) throws Exception {
        var consumer = consumer(bootstrap, topic + "-group", Map.of("max.poll.records", "100"));
        Member member = new Member(consumer, topic);
        System.in.read();
        member.leave();
        Member.recordsOf(List.of(member)).forEach(System.out::println);
    }

    /** A group that stopped goes on where it had committed, and finds the note it left there. */
    void commit(String bootstrap, String topic) throws Exception {
        create(bootstrap, topic, 1, 1, Map.of());
        TopicPartition place = new TopicPartition(topic, 0);
        try (var producer = producer(bootstrap, Map.of())) {
            produce(producer, numbered(topic, 0, 10, 1));
        }
        try (var consumer = consumer(bootstrap, topic + "-group")) {
            consumer.subscribe(List.of(topic));
            take(consumer, 5);
            consumer.commitSync(Map.of(place, new OffsetAndMetadata(5, Optional.empty(), "half")));
        }
        try (var consumer = consumer(bootstrap, topic + "-group")) {
            OffsetAndMetadata found = consumer.committed(Set.of(place)).get(place);
            Main.equal(List.of(found.offset(), found.metadata()), List.of(5L, "half"), "committed");
            consumer.subscribe(List.of(topic));
            Main.equal(values(take(consumer, 5)), Main.numbers(5, 10), "the other half");
        }
    }

    /** The leader is killed under load: every acknowledged record is read back. */
    void failover(String bootstrap, String topic) throws Exception {
        create(bootstrap, topic, 1, 3, Map.of());
        Set<Integer> acknowledged = ConcurrentHashMap.newKeySet();
        int number = 0;
        try (var producer = producer(bootstrap, Map.of("acks", "all", "linger.ms", "5"))) {
            long end = Long.MAX_VALUE;
            for (; System.currentTimeMillis() < end; number++) {
                int sent = number;
                producer.send(numbered(topic, sent, sent + 1, 1).get(0), (place, error) -> {
                    if (error == null) {
                        acknowledged.add(sent);
                    }
                });
                Thread.sleep(1);
                if (end == Long.MAX_VALUE && acknowledged.size() >= 100) {
                    System.out.println("ready " + topic + " 0");
                    end = System.currentTimeMillis() + 10_000;
                }
            }
            producer.flush();
            produce(producer, numbered(topic, number, number + 1, 1));
            acknowledged.add(number);
        }
        List<Integer> found = values(readAll(bootstrap, topic));
        System.err.println(acknowledged.size() + " acknowledged, " + found.size() + " found");
        found.forEach(acknowledged::remove);
        Main.equal(acknowledged.size(), 0, "acknowledged and not there");
    }
}
