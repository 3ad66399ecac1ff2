import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.ThreadMetadata;
import org.apache.kafka.streams.kstream.Produced;

/** An instance of a Kafka Streams application that counts words, at least once, and says which tasks it has. */
final class Count {
    static void run(String bootstrap, String from, String to, String application, String folder)
            throws Exception {
        Properties config = new Properties();
        config.putAll(Map.of(
                "application.id", application,
                "bootstrap.servers", bootstrap,
                "state.dir", folder,
                "default.key.serde", Serdes.String().getClass(),
                "default.value.serde", Serdes.String().getClass(),
                "commit.interval.ms", "200",
                "num.stream.threads", "2",
                "num.standby.replicas", "1"));
        config.put("session.timeout.ms", "6000"); // the shortest that brokers take: one is killed
        config.put("heartbeat.interval.ms", "1500");
        // Admin waits for so long for a broker that it has taken for the leader, and that is gone; meanwhile the
        // leader of the group says nothing.
        config.put("admin.request.timeout.ms", "3000");
        config.put("admin.default.api.timeout.ms", "5000");
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(from)
                .flatMapValues(line -> Arrays.asList(line.split(" ")))
                .groupBy((key, word) -> word)
                .count()
                .toStream()
                .mapValues(String::valueOf)
                .to(to, Produced.with(Serdes.String(), Serdes.String()));
        String[] told = {""};
        try (KafkaStreams streams = new KafkaStreams(builder.build(), config)) {
            streams.start();
            Main.untilInputEnds(() -> {
                if (streams.state() == KafkaStreams.State.ERROR) {
                    throw new IllegalStateException("the application is in state ERROR");
                }
                String tasks = tasks(streams);
                if (!tasks.equals(told[0])) {
                    System.out.println(tasks);
                    told[0] = tasks;
                }
                Thread.sleep(50);
            });
            streams.close(Duration.ofSeconds(30));
        }
    }

    private static String tasks(KafkaStreams streams) {
        int active = 0;
        int standby = 0;
        for (ThreadMetadata thread : streams.metadataForLocalThreads()) {
            active += thread.activeTasks().size();
            standby += thread.standbyTasks().size();
        }
        return active + " " + standby;
    }
}
