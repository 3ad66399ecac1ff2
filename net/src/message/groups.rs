//! Consumer groups: members and offsets. What is said of a group goes to its coordinator.

use uuid::Uuid;

use super::{BrokerAddress, PartitionOf, Reader, message};
use crate::fault::Fault;

message! {
    /// Who coordinates a group?
    pub struct FindCoordinator {
        /// The group.
        pub group: String,
    }

    /// The broker that does.
    pub struct FindCoordinatorResponse {
        /// Where it is.
        pub coordinator: BrokerAddress,
    }

    /// A member is there (KIP-848's heartbeat). Answered when there is something to say to it, or when it
    /// has waited long enough; an earlier one of the member that waits is answered first.
    pub struct GroupHeartbeat {
        /// The group.
        pub group: String,
        /// The member's id, which it has made itself; nobody else has it.
        pub member: String,
        /// The epoch that it was given; 0: it joins.
        pub epoch: i32,
        /// What it says of itself, if that is new or the coordinator is.
        pub profile: Option<MemberProfile>,
        /// What it reads, if that is new: what it was told to give up and is not named it has given up.
        pub owned: Option<Vec<TopicPartitions>>,
        /// The count of the last assignment that it has had; 0: none of this coordinator.
        pub seen: u32,
        /// Numbers what the member says, from 1: of two that are on their way together, the later one may
        /// come first.
        pub beat: u32,
        /// How long it may wait for news.
        pub max_wait_ms: u32,
        /// How long ago the program has last asked for records, in milliseconds; 0: it does now.
        pub polled_ms: u64,
        /// What it reads and has paused.
        pub paused: Vec<TopicPartitions>,
    }

    /// What a member says of itself.
    pub struct MemberProfile {
        /// Its name that outlives its process (`group.instance.id`).
        pub instance_id: Option<String>,
        /// The name of its client (`client.id`).
        pub client_id: String,
        /// Its rack; empty if it has none.
        pub rack: String,
        /// How long it may take to give up what goes to another (`max.poll.interval.ms`).
        pub rebalance_timeout_ms: u32,
        /// The topics that it wants to read.
        pub topics: Vec<String>,
        /// `uniform` or `range`; none: it does not mind.
        pub assignor: Option<String>,
    }

    /// Some partitions of a topic.
    pub struct TopicPartitions {
        /// The topic's id.
        pub topic_id: Uuid,
        /// Its name.
        pub topic: String,
        /// Their numbers.
        pub partitions: Vec<u32>,
    }

    /// What a member is told.
    pub struct GroupHeartbeatResponse {
        /// Its epoch from now on.
        pub epoch: i32,
        /// So long after this the coordinator wants to hear of it again (`group.consumer.heartbeat.interval.ms`).
        pub heartbeat_interval_ms: u32,
        /// Who is not heard of for so long is no member any more (`group.consumer.session.timeout.ms`).
        pub session_timeout_ms: u32,
        /// What it is to read, if that has changed or it has said what it reads.
        pub assignment: Option<MemberAssignment>,
    }

    /// What a member is to read.
    pub struct MemberAssignment {
        /// Which assignment of this coordinator to this member this is, from 1.
        pub count: u32,
        /// The partitions.
        pub topics: Vec<TopicPartitions>,
    }

    /// A member leaves.
    pub struct LeaveGroup {
        /// The group.
        pub group: String,
        /// The member.
        pub member: String,
        /// True if it has an instance id and comes back under it: its partitions are kept for it.
        pub comes_back: bool,
    }

    /// It has left.
    pub struct LeaveGroupResponse {}

    /// Takes note of how far a group has come.
    pub struct CommitOffsets {
        /// The group.
        pub group: String,
        /// The member; empty: somebody outside, while nobody is in the group.
        pub member: String,
        /// The member's epoch; -1 without a member.
        pub epoch: i32,
        /// Numbers the member's commits, from 1; one that is sent again keeps its number. 0 without a member.
        pub number: u32,
        /// The offsets.
        pub parts: Vec<CommitPart>,
    }

    /// An offset to be committed.
    pub struct CommitPart {
        /// The partition.
        pub partition: PartitionOf,
        /// The topic's id; nil if the client does not know it.
        pub topic_id: Uuid,
        /// The next record that the group is to read.
        pub offset: u64,
        /// The leader epoch of the record before it; -1 if that is not known.
        pub leader_epoch: i32,
        /// What is to be kept beside it.
        pub metadata: String,
    }

    /// A result for each offset.
    pub struct CommitOffsetsResponse {
        /// In the order of the parts.
        pub parts: Vec<Result<(), Fault>>,
    }

    /// How far has a group come?
    pub struct FetchOffsets {
        /// The group.
        pub group: String,
        /// In which partitions; none: in all of which it has committed an offset.
        pub partitions: Option<Vec<PartitionOf>>,
    }

    /// How far it has.
    pub struct FetchOffsetsResponse {
        /// One for each partition that was asked for.
        pub parts: Vec<GroupOffset>,
    }

    /// How far a group has come in a partition.
    pub struct GroupOffset {
        /// The partition.
        pub partition: PartitionOf,
        /// What it has committed, if it has.
        pub committed: Option<CommittedOffset>,
        /// Records that it has acknowledged, a second, over the last ten.
        pub per_second: u64,
    }

    /// An offset that a group has committed.
    pub struct CommittedOffset {
        /// The next record that it is to read.
        pub offset: u64,
        /// The leader epoch of the record before it; -1 if nobody said.
        pub leader_epoch: i32,
        /// What is kept beside it.
        pub metadata: String,
        /// When it was committed, in milliseconds since 1970.
        pub committed_ms: i64,
    }

    /// Which groups does this broker coordinate?
    pub struct ListGroups {}

    /// Its groups.
    pub struct ListGroupsResponse {
        /// By name.
        pub groups: Vec<ListedGroup>,
    }

    /// A group in short.
    pub struct ListedGroup {
        /// Its name.
        pub group: String,
        /// `Empty`, `Reconciling` (somebody has not yet come to read what it is to) or `Stable`; of a group that one of its
        /// members leads, `PreparingRebalance` (all are to join) and `CompletingRebalance` (the leader is to say who reads
        /// what) in place of `Reconciling`.
        pub state: String,
        /// Who says who reads what: `consumer`, the brokers; `classic`, the member that leads (Kafka's group types).
        pub group_type: String,
        /// What its members are: `consumer`, or of a `classic` group what they say, as `connect`.
        pub protocol_type: String,
        /// How many members it has.
        pub members: u32,
        /// In how many partitions it has committed an offset.
        pub offsets: u32,
    }

    /// What is known of a group?
    pub struct DescribeGroup {
        /// The group.
        pub group: String,
    }

    /// All of it.
    pub struct DescribeGroupResponse {
        /// As in [`ListedGroup`].
        pub state: String,
        /// Its epoch: each assignment has another.
        pub epoch: i32,
        /// As in [`ListedGroup`].
        pub group_type: String,
        /// As in [`ListedGroup`].
        pub protocol_type: String,
        /// By which rule partitions are given to members.
        pub assignor: String,
        /// Who is in it.
        pub members: Vec<DescribedMember>,
        /// How far it has come.
        pub offsets: Vec<GroupOffset>,
    }

    /// A member of a group.
    pub struct DescribedMember {
        /// Its id.
        pub member: String,
        /// The epoch up to which it has come; -2: it has left, and is to come back.
        pub epoch: i32,
        /// What it says of itself.
        pub profile: MemberProfile,
        /// Where it connects from.
        pub client_host: String,
        /// Of which pattern it wants to read all topics, besides those that it names.
        pub pattern: Option<String>,
        /// How long it has not been heard of, in milliseconds.
        pub heard_ms: u64,
        /// How long its program had not asked for records when it was heard of, in milliseconds; 0: it did.
        pub polled_ms: u64,
        /// What it has paused.
        pub paused: Vec<TopicPartitions>,
        /// What it reads.
        pub assigned: Vec<TopicPartitions>,
        /// What it is to give up, and has not yet.
        pub revoking: Vec<TopicPartitions>,
        /// What it is to read in the end.
        pub target: Vec<TopicPartitions>,
    }

    /// Forgets what a group without members has committed: of some partitions, or the whole group.
    pub struct DeleteGroup {
        /// The group.
        pub group: String,
        /// The partitions; none: the group is to be no more.
        pub partitions: Option<Vec<PartitionOf>>,
    }

    /// It is forgotten.
    pub struct DeleteGroupResponse {}
}

message! {
    /// How far have readers come? Each part goes to the partition's leader, or to whichever broker a
    /// reader reads from.
    pub struct DescribeProgress {
        /// Only of readers of this group; empty: of all.
        pub group: String,
        /// The partitions.
        pub parts: Vec<ProgressPart>,
    }

    /// A partition whose readers are asked for.
    pub struct ProgressPart {
        /// Which.
        pub partition: PartitionOf,
        /// The record whose age is asked for, if one is.
        pub offset: Option<u64>,
    }

    /// A result for each part.
    pub struct DescribeProgressResponse {
        /// In the order of the parts.
        pub parts: Vec<Result<PartitionProgress, Fault>>,
    }

    /// A partition and its readers, as a broker sees them.
    pub struct PartitionProgress {
        /// Its first record.
        pub start: u64,
        /// Behind the last record that consumers see.
        pub end: u64,
        /// How old the record is that was asked for, or the first one behind it, in milliseconds; none
        /// if there is none yet.
        pub age_ms: Option<u64>,
        /// Records that have come, a second, over the last ten. Only the leader takes any.
        pub in_per_second: u64,
        /// The record that the group was given again and again, if there is one.
        pub redelivered: Option<Redelivered>,
        /// Who has read here in the last ten minutes.
        pub readers: Vec<DescribedReader>,
    }

    /// A record that a group was given more than once.
    pub struct Redelivered {
        /// Where it is.
        pub offset: u64,
        /// How often somebody has begun with it.
        pub times: u32,
    }

    /// Somebody who reads a partition.
    pub struct DescribedReader {
        /// Who.
        pub reader: Reader,
        /// Where it connects from.
        pub host: String,
        /// It has been given everything before.
        pub delivered: u64,
        /// When it has last asked, in milliseconds before now.
        pub asked_ms: u64,
    }
}
