//! What clients ask of groups, and how they are answered.

use bytes::Bytes;
use mk_net::fault::Fault;
use mk_net::message::{
    CommitOffsets, CommitOffsetsResponse, DeleteGroup, DeleteGroupResponse, DescribeGroup,
    DescribeGroupResponse, FetchOffsets, FetchOffsetsResponse, GroupHeartbeat,
    GroupHeartbeatResponse, LeaveGroup, LeaveGroupResponse, ListGroupsResponse,
};

use super::kafka;
use super::led::Joined;
use crate::broker::reply::Reply;

/// What a client wants of a group.
#[derive(Debug)]
pub enum Ask {
    /// It is there; where it connects from.
    Heartbeat(Reply<GroupHeartbeatResponse>, GroupHeartbeat, String),
    /// It leaves.
    Leave(Reply<LeaveGroupResponse>, LeaveGroup),
    /// It has come so far.
    Commit(Reply<CommitOffsetsResponse>, CommitOffsets),
    /// How far has the group come?
    Offsets(Reply<FetchOffsetsResponse>, FetchOffsets),
    /// What is known of it?
    Describe(Reply<DescribeGroupResponse>, DescribeGroup),
    /// What is known of it, with what only Kafka's clients want to know?
    KafkaDescribe(Reply<kafka::Described>, DescribeGroup),
    /// It is to be forgotten.
    Delete(Reply<DeleteGroupResponse>, DeleteGroup),
    /// A classic member of Kafka's joins a group.
    Join(Reply<Joined>, String, Box<kafka::JoinAsk>),
    /// What is a classic member of a group to do? One that leads says it of all.
    Sync(Reply<Bytes>, String, Box<kafka::SyncAsk>),
    /// A classic member of a group is there, in a generation.
    Beat(Reply<()>, String, kafka::Caller, i32),
    /// Members leave a group; a result for each.
    LeaveEach(Reply<Vec<Result<(), Fault>>>, String, Vec<kafka::Caller>),
    /// A client of Kafka's asks how far the group has come: as this member in this epoch, or from outside.
    KafkaOffsets(Reply<FetchOffsetsResponse>, FetchOffsets, Option<(String, i32)>),
    /// A client of Kafka's has come so far; its instance id, if it has one.
    KafkaCommit(Reply<CommitOffsetsResponse>, CommitOffsets, Option<String>),
    /// A member of KIP-848 is there.
    Consumer(Reply<kafka::ConsumerAnswer>, String, Box<kafka::ConsumerAsk>),
    /// Which groups are there?
    List(Reply<ListGroupsResponse>),
}
