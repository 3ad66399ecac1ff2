import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The show together: sends the records that stdin has, says where each is, and prints what the topic has. */
final class Together {
    private static final HexFormat HEX = HexFormat.of();

    private final Cases cases;

    Together(Cases cases) {
        this.cases = cases;
    }

    void run(String bootstrap, String topic) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        send(bootstrap, topic, input);
        System.out.println("sent");
        read(bootstrap, topic, Integer.parseInt(input.readLine()));
    }

    private static void send(String bootstrap, String topic, BufferedReader input) throws Exception {
        Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (String line = input.readLine(); !line.isEmpty(); line = input.readLine()) {
            String[] words = line.split("\t", -1);
            var producer = producers.computeIfAbsent(words[0],
                    codec -> Cases.producer(bootstrap, Map.of("compression.type", codec)));
            sent.add(producer.send(new ProducerRecord<>(topic, null, Long.valueOf(words[1]), bytes(words[2]),
                    bytes(words[3]), headers(words[4]))));
        }
        producers.values().forEach(KafkaProducer::close);
        for (Future<RecordMetadata> one : sent) {
            System.out.println(one.get().partition() + "\t" + one.get().offset());
        }
    }

    private void read(String bootstrap, String topic, int count) throws IOException {
        try (var consumer = cases.consumer(bootstrap, null, Map.of("max.poll.records", "500"))) {
            List<TopicPartition> places = consumer.partitionsFor(topic).stream()
                    .map(one -> new TopicPartition(topic, one.partition())).toList();
            consumer.assign(places);
            consumer.seekToBeginning(places);
            Cases.take(consumer, count).forEach(record -> System.out.println(line(record)));
        }
    }

    private static byte[] bytes(String word) {
        return word.equals("-") ? null : HEX.parseHex(word);
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "-" : HEX.formatHex(bytes);
    }

    private static List<Header> headers(String word) {
        List<Header> headers = new ArrayList<>();
        for (String header : word.isEmpty() ? new String[0] : word.split(",")) {
            String[] both = header.split("=", -1);
            headers.add(new RecordHeader(both[0], bytes(both[1])));
        }
        return headers;
    }

    private static String line(ConsumerRecord<byte[], byte[]> record) {
        List<String> headers = new ArrayList<>();
        record.headers().forEach(header -> headers.add(header.key() + "=" + hex(header.value())));
        return String.join("\t", String.valueOf(record.partition()), String.valueOf(record.offset()),
                String.valueOf(record.timestamp()), hex(record.key()), hex(record.value()),
                String.join(",", headers));
    }
}
