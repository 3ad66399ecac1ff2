//! Produce: records that a client sends, and where they were put.

use super::api::Api;
use super::frame;
use super::wire::{KafkaReader, KafkaWriter};
use crate::codec::DecodeError;
use crate::fault::ErrorCode;

/// Lowest version that is read. Clients are told of 0 to 2, too, but those are refused: see [`Api::ALL`].
pub const MIN_VERSION: i16 = 3;

/// From this version on the response tells who leads a partition that has moved (KIP-951).
const LEADER_SINCE: i16 = 10;

/// From this version on the response tells in words what was wrong, and with which records (KIP-467).
const RECORD_ERRORS_SINCE: i16 = 8;

/// Fewest bytes of a topic, in either form: an empty name, no partitions, no tags.
const TOPIC_MIN_SIZE: usize = 3;

/// Fewest bytes of a partition, in either form: its number, no records, no tags.
const PARTITION_MIN_SIZE: usize = 6;

/// Records to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest<'a> {
    /// Of a producer with transactions.
    pub transactional_id: Option<&'a str>,
    /// 0: nobody waits, and no response is sent; 1: when the leader has it; -1: when all in-sync replicas have it.
    /// Other numbers can arrive, too.
    pub acks: i16,
    /// How long to wait for the acks, in milliseconds.
    pub timeout_ms: i32,
    /// What to append where.
    pub topics: Vec<ProduceTopic<'a>>,
}

/// Records for partitions of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic<'a> {
    /// Its name, as the client wrote it.
    pub name: &'a str,
    /// In the order in which they were sent; one may be there twice.
    pub partitions: Vec<ProducePartition<'a>>,
}

/// Records for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducePartition<'a> {
    /// Its number in the topic. Negative ones can arrive, too.
    pub index: i32,
    /// Record batches, unchecked, as they lie in the request.
    pub records: Option<&'a [u8]>,
}

/// What became of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// By topic.
    pub topics: Vec<ProducedTopic>,
    /// How long the client is to wait before its next request, in milliseconds.
    pub throttle_ms: i32,
    /// Where the leaders are that the partitions tell of. Not sent before version 10.
    pub nodes: Vec<NodeEndpoint>,
}

/// What became of a topic's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedTopic {
    /// Its name.
    pub name: String,
    /// By partition.
    pub partitions: Vec<ProducedPartition>,
}

/// What became of a partition's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedPartition {
    /// Its number in the topic.
    pub index: i32,
    /// [`ErrorCode::NONE`] if they were appended.
    pub error: ErrorCode,
    /// Offset of the first record; -1 after an error.
    pub base_offset: i64,
    /// When they were appended, in milliseconds since 1970; -1 if the records keep the times that they came with.
    pub log_append_time_ms: i64,
    /// First offset of the log; -1 if it is not known. Not sent before version 5.
    pub log_start_offset: i64,
    /// Which records are to blame: their place in the batch, and why. Not sent before version 8.
    pub record_errors: Vec<(i32, Option<String>)>,
    /// The error in words. Not sent before version 8.
    pub error_message: Option<String>,
    /// Who leads the partition now, and in which epoch, if this broker does not. Not sent before version 10.
    pub current_leader: Option<(i32, i32)>,
}

/// Where a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker's number.
    pub id: i32,
    /// Its host name or address.
    pub host: String,
    /// 0 to 65535.
    pub port: i32,
    /// Where it stands.
    pub rack: Option<String>,
}

/// Reads a request's fields, in a version from [`MIN_VERSION`] to that of [`Api::PRODUCE`]. Copies no bytes. What is behind
/// the fields Kafka's brokers do not look at either.
pub fn parse(fields: &[u8], version: i16) -> Result<ProduceRequest<'_>, DecodeError> {
    if !(MIN_VERSION..=Api::PRODUCE.max).contains(&version) {
        return Err(DecodeError::Invalid { what: "api version", at: 0, found: version as u64 });
    }
    let mut reader = KafkaReader::new(fields, Api::PRODUCE.is_flexible(version));
    let request = ProduceRequest {
        transactional_id: reader.nullable_string("transactional id")?,
        acks: reader.i16("acks")?,
        timeout_ms: reader.i32("timeout")?,
        topics: reader.list("topics", TOPIC_MIN_SIZE, topic)?,
    };
    reader.skip_tags()?;
    Ok(request)
}

fn topic<'a>(reader: &mut KafkaReader<'a>) -> Result<ProduceTopic<'a>, DecodeError> {
    let name = reader.string("topic")?;
    let partitions = reader.list("partitions", PARTITION_MIN_SIZE, partition)?;
    reader.skip_tags()?;
    Ok(ProduceTopic { name, partitions })
}

fn partition<'a>(reader: &mut KafkaReader<'a>) -> Result<ProducePartition<'a>, DecodeError> {
    let index = reader.i32("partition")?;
    let records = reader.nullable_bytes("records")?;
    reader.skip_tags()?;
    Ok(ProducePartition { index, records })
}

/// Writes a response with its length, in a version that [`parse`] reads.
///
/// # Panics
///
/// If it is longer than 2 GiB. What answers a request that [`parse`] lets through is not while its messages are
/// shorter than some kilobytes: there are at most [`MAX_LIST`](crate::codec::MAX_LIST) partitions.
pub fn respond(correlation: i32, version: i16, response: &ProduceResponse) -> Vec<u8> {
    let mut writer = frame::response(&Api::PRODUCE, version, correlation);
    writer.list(&response.topics, |writer, topic| {
        writer.string(&topic.name);
        writer.list(&topic.partitions, |writer, partition| produced(writer, version, partition));
        writer.no_tags();
    });
    writer.i32(response.throttle_ms);
    if version >= LEADER_SINCE && !response.nodes.is_empty() {
        writer.varint(1);
        writer.tag(0, |writer| writer.list(&response.nodes, node));
    } else {
        writer.no_tags();
    }
    frame::finish(writer, 0)
}

fn produced(writer: &mut KafkaWriter, version: i16, partition: &ProducedPartition) {
    writer.i32(partition.index);
    writer.i16(partition.error.0);
    writer.i64(partition.base_offset);
    writer.i64(partition.log_append_time_ms);
    if version >= 5 {
        writer.i64(partition.log_start_offset);
    }
    if version >= RECORD_ERRORS_SINCE {
        writer.list(&partition.record_errors, |writer, (index, message)| {
            writer.i32(*index);
            writer.nullable_string(message.as_deref());
            writer.no_tags();
        });
        writer.nullable_string(partition.error_message.as_deref());
    }
    match partition.current_leader {
        Some((id, epoch)) if version >= LEADER_SINCE => {
            writer.varint(1);
            writer.tag(0, |writer| {
                writer.i32(id);
                writer.i32(epoch);
                writer.no_tags();
            });
        }
        _ => writer.no_tags(),
    }
}

fn node(writer: &mut KafkaWriter, node: &NodeEndpoint) {
    writer.i32(node.id);
    writer.string(&node.host);
    writer.i32(node.port);
    writer.nullable_string(node.rack.as_deref());
    writer.no_tags();
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::produce_request::{
        PartitionProduceData, ProduceRequest as TheirRequest, TopicProduceData,
    };
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint as TheirNode,
        PartitionProduceResponse, ProduceResponse as TheirResponse, TopicProduceResponse,
    };
    use kafka_protocol::protocol::StrBytes;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::oracle::{self, blob, text};
    use super::*;

    fn their_request() -> impl Strategy<Value = TheirRequest> {
        let partition =
            (any::<i32>(), option::of(blob()), blob()).prop_map(|(index, records, tag)| {
                PartitionProduceData::default()
                    .with_index(index)
                    .with_records(records)
                    .with_unknown_tagged_field(3, tag)
            });
        let topic = (text(), vec(partition, 0..4), blob()).prop_map(|(name, partitions, tag)| {
            TopicProduceData::default()
                .with_name(name.into())
                .with_partition_data(partitions)
                .with_unknown_tagged_field(0, tag)
        });
        (option::of(text()), any::<i16>(), any::<i32>(), vec(topic, 0..4), blob()).prop_map(
            |(id, acks, timeout, topics, tag)| {
                TheirRequest::default()
                    .with_transactional_id(id.map(Into::into))
                    .with_acks(acks)
                    .with_timeout_ms(timeout)
                    .with_topic_data(topics)
                    .with_unknown_tagged_field(200, tag)
            },
        )
    }

    fn as_ours(request: &TheirRequest) -> ProduceRequest<'_> {
        let topics = request.topic_data.iter().map(|topic| {
            let partitions = topic.partition_data.iter().map(|partition| ProducePartition {
                index: partition.index,
                records: partition.records.as_deref(),
            });
            ProduceTopic { name: topic.name.0.as_str(), partitions: partitions.collect() }
        });
        ProduceRequest {
            transactional_id: request.transactional_id.as_ref().map(|id| id.0.as_str()),
            acks: request.acks,
            timeout_ms: request.timeout_ms,
            topics: topics.collect(),
        }
    }

    fn our_response() -> impl Strategy<Value = ProduceResponse> {
        let message = || option::of(text().prop_map(|text| text.to_string()));
        let partition = (
            any::<(i32, i16, i64, i64, i64)>(),
            vec((any::<i32>(), message()), 0..3),
            message(),
            option::of((0..i32::MAX, any::<i32>())),
        );
        let partition = partition.prop_map(|(numbers, record_errors, error_message, leader)| {
            let (index, error, base_offset, log_append_time_ms, log_start_offset) = numbers;
            ProducedPartition {
                index,
                error: ErrorCode(error),
                base_offset,
                log_append_time_ms,
                log_start_offset,
                record_errors,
                error_message,
                current_leader: leader,
            }
        });
        let topic = (text(), vec(partition, 0..4))
            .prop_map(|(name, partitions)| ProducedTopic { name: name.to_string(), partitions });
        let node =
            (any::<i32>(), text(), any::<i32>(), message()).prop_map(|(id, host, port, rack)| {
                NodeEndpoint { id, host: host.to_string(), port, rack }
            });
        (vec(topic, 0..4), any::<i32>(), vec(node, 0..3))
            .prop_map(|(topics, throttle_ms, nodes)| ProduceResponse { topics, throttle_ms, nodes })
    }

    fn str_bytes(text: &str) -> StrBytes {
        StrBytes::from_string(text.to_owned())
    }

    /// With all that the version has.
    fn as_theirs(response: &ProduceResponse, version: i16) -> TheirResponse {
        let partition = |partition: &ProducedPartition| {
            let mut theirs = PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_error_code(partition.error.0)
                .with_base_offset(partition.base_offset)
                .with_log_append_time_ms(partition.log_append_time_ms);
            if version >= 5 {
                theirs.log_start_offset = partition.log_start_offset;
            }
            if version >= 8 {
                let errors = partition.record_errors.iter().map(|(index, message)| {
                    BatchIndexAndErrorMessage::default()
                        .with_batch_index(*index)
                        .with_batch_index_error_message(message.as_deref().map(str_bytes))
                });
                theirs.record_errors = errors.collect();
                theirs.error_message = partition.error_message.as_deref().map(str_bytes);
            }
            if let Some((id, epoch)) = partition.current_leader
                && version >= 10
            {
                theirs.current_leader =
                    LeaderIdAndEpoch::default().with_leader_id(id.into()).with_leader_epoch(epoch);
            }
            theirs
        };
        let topics = response.topics.iter().map(|topic| {
            TopicProduceResponse::default()
                .with_name(str_bytes(&topic.name).into())
                .with_partition_responses(topic.partitions.iter().map(partition).collect())
        });
        let nodes = response.nodes.iter().filter(|_| version >= 10).map(|node| {
            TheirNode::default()
                .with_node_id(node.id.into())
                .with_host(str_bytes(&node.host))
                .with_port(node.port)
                .with_rack(node.rack.as_deref().map(str_bytes))
        });
        TheirResponse::default()
            .with_responses(topics.collect())
            .with_throttle_time_ms(response.throttle_ms)
            .with_node_endpoints(nodes.collect())
    }

    proptest! {
        #[test]
        fn a_request_is_read_as_the_oracle_wrote_it(theirs in their_request(), version in 3i16..=11) {
            let bytes = oracle::encoded(&theirs, version);
            oracle::assert_read(&bytes, |bytes| {
                parse(bytes, version).map(|request| assert_eq!(request, as_ours(&theirs)))
            });
        }

        #[test]
        fn a_response_is_written_as_the_oracle_writes_it(
            ours in our_response(),
            version in 3i16..=11,
            correlation: i32,
        ) {
            let bytes = respond(correlation, version, &ours);
            oracle::assert_written(&bytes, correlation, version, as_theirs(&ours, version));
        }

        #[test]
        fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), version: i16) {
            let _ = parse(&bytes, version);
            let _ = parse(&bytes, version.rem_euclid(12));
        }

        #[test]
        fn damaged_requests_are_survived(
            theirs in their_request(),
            version in 3i16..=11,
            place: prop::sample::Index,
            byte: u8,
        ) {
            let mut bytes = oracle::encoded(&theirs, version);
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(request) = parse(&bytes, version) {
                prop_assert!(request.topics.len() <= bytes.len() / TOPIC_MIN_SIZE);
            }
        }
    }

    #[test]
    fn what_is_claimed_must_be_there() {
        let claim = |head: &[u8], count: &[u8], version: i16| {
            parse(&[head, count, &[0; 50]].concat(), version).unwrap_err()
        };
        oracle::assert_count_is_checked(
            |count| claim(&[0xff, 0xff, 0, 1, 0, 0, 0, 9], count, 3),
            |count| claim(&[0, 0, 1, 0, 0, 0, 9], count, 9),
        );
    }

    #[test]
    fn the_smallest_items_are_read() {
        let topic = |partitions| {
            TopicProduceData::default()
                .with_partition_data(vec![PartitionProduceData::default(); partitions])
        };
        for topics in [vec![topic(0); 9], vec![topic(9)]] {
            let theirs = TheirRequest::default().with_topic_data(topics);
            for version in 3..=11 {
                let bytes = oracle::encoded(&theirs, version);
                assert_eq!(parse(&bytes, version), Ok(as_ours(&theirs)), "version {version}");
            }
        }
    }

    #[test]
    fn other_versions_are_refused() {
        let bytes = oracle::encoded(&TheirRequest::default(), 3);
        assert!(parse(&bytes, 3).is_ok());
        for version in [-1, 0, 2, 12] {
            let error = parse(&bytes, version).unwrap_err();
            assert!(matches!(error, DecodeError::Invalid { what: "api version", .. }), "{error}");
        }
    }
}
