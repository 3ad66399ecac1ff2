import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;

/** A member of a group, in a thread of its own: reads, commits, and tells what it has. */
final class Member extends Thread {
    final List<Integer> records = new CopyOnWriteArrayList<>();
    private volatile Set<Integer> partitions = Set.of();
    private volatile boolean leaving = false;
    private volatile RuntimeException failure = null;
    private final KafkaConsumer<byte[], byte[]> consumer;

    Member(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        this.consumer = consumer;
        setDaemon(true);
        consumer.subscribe(List.of(topic));
        start();
    }

    @Override
    public void run() {
        try (consumer) {
            while (!leaving) {
                ConsumerRecords<byte[], byte[]> polled = consumer.poll(Duration.ofMillis(100));
                if (!polled.isEmpty()) {
                    consumer.commitSync();
                }
                polled.forEach(record -> records.add(Integer.valueOf(new String(record.value()))));
                Set<Integer> now = new HashSet<>();
                consumer.assignment().forEach(place -> now.add(place.partition()));
                partitions = now;
            }
        } catch (RuntimeException error) {
            failure = error;
        }
    }

    void leave() throws InterruptedException {
        leaving = true;
        join();
        if (failure != null) {
            throw failure;
        }
    }

    /** Waits until the members have so many partitions each, and all four together. */
    static void share(List<Member> members, List<Integer> sizes) throws Exception {
        Main.until("partitions of each member: " + sizes, () -> {
            Set<Integer> all = new HashSet<>();
            List<Integer> found = new ArrayList<>();
            for (Member member : members) {
                if (member.failure != null) {
                    throw member.failure;
                }
                Set<Integer> partitions = member.partitions;
                all.addAll(partitions);
                found.add(partitions.size());
            }
            return found.equals(sizes) && all.size() == 4;
        });
    }

    static void read(List<Member> members, int count) throws Exception {
        Main.until(count + " records read", () -> recordsOf(members).size() >= count);
    }

    static List<Integer> recordsOf(List<Member> members) {
        List<Integer> all = new ArrayList<>();
        members.forEach(member -> all.addAll(member.records));
        all.sort(null);
        return all;
    }
}
