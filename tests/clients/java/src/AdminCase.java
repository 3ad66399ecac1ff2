import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** A topic and a group from the cradle to the grave, by the admin client. */
final class AdminCase {
    private final Cases cases;

    AdminCase(Cases cases) {
        this.cases = cases;
    }

    void run(String bootstrap, String topic) throws Exception {
        Cases.create(bootstrap, topic, 2, 1, Map.of("retention.ms", "3600000"));
        try (Admin admin = Cases.admin(bootstrap)) {
            Main.equal(partitions(admin, topic), 2, "partitions");
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            Main.until("4 now", () -> partitions(admin, topic) == 4);
            settings(admin, topic);
            records(admin, bootstrap, topic);
            group(admin, bootstrap, topic);
            Main.equal(admin.describeCluster().nodes().get().isEmpty(), false, "no node");
            admin.deleteTopics(List.of(topic)).all().get();
            Main.until("the topic is gone", () -> !admin.listTopics().names().get().contains(topic));
        }
    }

    private static int partitions(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
    }

    private static void settings(Admin admin, String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Main.equal(retention(admin, resource), "3600000", "retention.ms as created");
        ConfigEntry entry = new ConfigEntry("retention.ms", "7200000");
        Collection<AlterConfigOp> change = List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET));
        admin.incrementalAlterConfigs(Map.of(resource, change)).all().get();
        Main.until("retention.ms as altered", () -> retention(admin, resource).equals("7200000"));
    }

    private static String retention(Admin admin, ConfigResource resource) throws Exception {
        Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        return config.get("retention.ms").value();
    }

    private static void records(Admin admin, String bootstrap, String topic) throws Exception {
        TopicPartition place = new TopicPartition(topic, 0);
        try (var producer = Cases.producer(bootstrap, Map.of())) {
            Cases.produce(producer, Cases.numbered(topic, 0, 10, 1));
        }
        admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(4))).all().get();
        long start = admin.listOffsets(Map.of(place, OffsetSpec.earliest())).all().get().get(place).offset();
        Main.equal(start, 4L, "what is left");
    }

    private void group(Admin admin, String bootstrap, String topic) throws Exception {
        String group = topic + "-group";
        try (var consumer = cases.consumer(bootstrap, group)) {
            consumer.subscribe(List.of(topic));
            Cases.take(consumer, 6);
            consumer.commitSync();
            Main.equal(listed(admin, group), true, "the group is listed");
            ConsumerGroupDescription found =
                    admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            Main.equal(List.of(found.groupState(), found.members().size()), List.of(GroupState.STABLE, 1),
                    "the group's state");
        }
        long offset = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
                .get(new TopicPartition(topic, 0)).offset();
        Main.equal(offset, 10L, "the group's offset");
        admin.deleteConsumerGroups(List.of(group)).all().get();
        Main.equal(listed(admin, group), false, "the group is listed, after it was deleted");
    }

    private static boolean listed(Admin admin, String group) throws Exception {
        Collection<GroupListing> groups = admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get();
        return groups.stream().anyMatch(listing -> listing.groupId().equals(group));
    }
}
