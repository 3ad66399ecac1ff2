import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Configurable;
import org.apache.kafka.common.TopicPartition;

/**
 * An assignor that no broker knows, and whose rule is no broker's: the member whose client.id sorts first reads
 * all but the last partitions, of which each of the others reads one. It knows the client.id from what each
 * member says for its assignor's use.
 */
public final class Own implements ConsumerPartitionAssignor, Configurable {
    private String client;

    @Override
    public void configure(Map<String, ?> config) {
        client = (String) config.get("client.id");
    }

    @Override
    public String name() {
        return "own";
    }

    @Override
    public ByteBuffer subscriptionUserData(Set<String> topics) {
        return StandardCharsets.UTF_8.encode(client);
    }

    @Override
    public GroupAssignment assign(Cluster cluster, GroupSubscription group) {
        Map<String, Subscription> members = group.groupSubscription();
        List<String> inOrder = new ArrayList<>(members.keySet());
        inOrder.sort(Comparator.comparing(id -> StandardCharsets.UTF_8.decode(members.get(id).userData().duplicate())));
        String topic = members.get(inOrder.get(0)).topics().get(0);
        int partitions = cluster.partitionCountForTopic(topic);
        Map<String, List<TopicPartition>> shares = new HashMap<>();
        inOrder.forEach(id -> shares.put(id, new ArrayList<>()));
        for (int partition = 0; partition < partitions; partition++) {
            int other = partitions - partition; // counted from the end
            String id = inOrder.get(other < inOrder.size() ? other : 0);
            shares.get(id).add(new TopicPartition(topic, partition));
        }
        Map<String, Assignment> told = new HashMap<>();
        shares.forEach((id, share) -> told.put(id, new Assignment(share)));
        return new GroupAssignment(told);
    }
}
