import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What goes into the topics of a show, and what is in there: mkctl does that for mk alone. */
final class Topics {
    /** With as many replicas as the broker gives a topic. */
    static void create(String bootstrap, int partitions, String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            NewTopic made = new NewTopic(topic, Optional.of(partitions), Optional.empty());
            admin.createTopics(List.of(made)).all().get();
        }
    }

    /** Sends each line KEY:VALUE of the input; ends well if all of them are acknowledged. */
    static void produce(String bootstrap, String topic) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "linger.ms", "5");
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                String[] words = line.split(":", 2);
                sent.add(producer.send(new ProducerRecord<>(topic, words[0], words[1])));
            }
        }
        for (Future<RecordMetadata> one : sent) {
            one.get();
        }
    }

    /** Prints what is in the topic and what comes, key and value. */
    static void read(String bootstrap, String topic) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap);
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> places = consumer.partitionsFor(topic).stream()
                    .map(one -> new TopicPartition(topic, one.partition())).toList();
            consumer.assign(places);
            consumer.seekToBeginning(places);
            Main.untilInputEnds(() -> consumer.poll(Duration.ofMillis(100))
                    .forEach(record -> System.out.println(record.key() + " " + record.value())));
        }
    }
}
