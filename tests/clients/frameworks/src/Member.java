import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member of a group: prints `has` with its partitions, and `read` with the value of each record. */
final class Member {
    static void run(String bootstrap, String topic, String group, String client, String assignors)
            throws Exception {
        Map<String, Object> config = Map.of(
                "bootstrap.servers", bootstrap,
                "group.id", group,
                "client.id", client,
                "partition.assignment.strategy", assignors,
                "enable.auto.commit", "false",
                "auto.offset.reset", "earliest",
                "max.poll.records", "100");
        String[] told = {""};
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            Main.untilInputEnds(() -> {
                var polled = consumer.poll(Duration.ofMillis(100));
                polled.forEach(record -> System.out.println("read " + record.value()));
                if (!polled.isEmpty()) {
                    consumer.commitSync();
                }
                String partitions = consumer.assignment().stream().map(TopicPartition::partition).sorted()
                        .map(partition -> " " + partition).collect(Collectors.joining());
                if (!partitions.equals(told[0])) {
                    System.out.println("has" + partitions);
                    told[0] = partitions;
                }
            });
        }
    }
}
