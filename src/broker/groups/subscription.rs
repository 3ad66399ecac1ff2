//! What consumers put into the classic protocol, whose brokers do not look into it: which topics a member wants, and
//! what it is to read (Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`).

use mk_net::codec::DecodeError;
use mk_net::kafka::wire::{KafkaReader, KafkaWriter};
use mk_net::message::TopicPartitions;

/// What a member wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub topics: Vec<String>,
    /// What it says that it reads; nothing, from one that gives up all before it joins.
    pub owned: Vec<(String, Vec<u32>)>,
    /// Its rack; empty: not known.
    pub rack: String,
}

/// From this version on a member says what it reads (KIP-429).
const WITH_OWNED: i16 = 1;
/// From this version on it says in which generation it got that.
const WITH_GENERATION: i16 = 2;
/// From this version on it says its rack (KIP-881).
const WITH_RACK: i16 = 3;

/// Reads a subscription. What newer versions have behind it is not looked at; and some clients (kafka-go) say a version
/// and leave out what it has brought.
pub fn parse(bytes: &[u8]) -> Result<Subscription, DecodeError> {
    let mut reader = KafkaReader::new(bytes, false);
    let version = reader.i16("version")?;
    let topics = reader.list("topics", 2, |reader| Ok(reader.string("topic")?.to_owned()))?;
    let mut subscription = Subscription { topics, ..Subscription::default() };
    reader.nullable_bytes("user data")?;
    let more = |reader: &KafkaReader<'_>| !reader.rest().is_empty();
    if version >= WITH_OWNED && more(&reader) {
        subscription.owned = reader.list("owned partitions", 6, partitions)?;
    }
    if version >= WITH_GENERATION && more(&reader) {
        reader.i32("generation")?;
    }
    if version >= WITH_RACK && more(&reader) {
        subscription.rack = reader.nullable_string("rack")?.unwrap_or_default().to_owned();
    }
    Ok(subscription)
}

/// What a member wants, written in the oldest version.
pub fn subscription(topics: &[String]) -> Vec<u8> {
    let mut writer = KafkaWriter::new(false);
    writer.i16(0);
    writer.length(Some(topics.len()));
    topics.iter().for_each(|topic| writer.string(topic));
    // No user data.
    writer.length(None);
    writer.into_bytes()
}

/// Reads what a member is to read; what newer versions have behind it is not looked at.
pub fn parse_assignment(bytes: &[u8]) -> Result<Vec<(String, Vec<u32>)>, DecodeError> {
    let mut reader = KafkaReader::new(bytes, false);
    reader.i16("version")?;
    reader.list("assigned partitions", 6, partitions)
}

/// The partitions of a topic.
fn partitions(reader: &mut KafkaReader<'_>) -> Result<(String, Vec<u32>), DecodeError> {
    let topic = reader.string("topic")?.to_owned();
    let numbers = reader.list("partitions", 4, |reader| reader.i32("partition"))?;
    Ok((topic, numbers.into_iter().filter_map(|number| u32::try_from(number).ok()).collect()))
}

/// Writes what a member is to read.
pub fn assignment(topics: &[TopicPartitions]) -> Vec<u8> {
    let mut writer = KafkaWriter::new(false);
    writer.i16(0);
    writer.length(Some(topics.len()));
    for TopicPartitions { topic, partitions, .. } in topics {
        writer.string(topic);
        writer.length(Some(partitions.len()));
        partitions.iter().for_each(|partition| writer.i32(*partition as i32));
    }
    // No user data.
    writer.length(None);
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use uuid::Uuid;

    use super::*;

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    #[test]
    fn every_version_of_a_subscription_is_read() {
        for version in 0..=3 {
            let owned = TopicPartition::default()
                .with_topic(text("orders").into())
                .with_partitions(vec![0, 3]);
            let mut sent = ConsumerProtocolSubscription::default()
                .with_topics(vec![text("orders"), text("visits")])
                .with_user_data(Some(Bytes::from_static(b"mine")));
            if version >= WITH_OWNED {
                sent = sent.with_owned_partitions(vec![owned]);
            }
            if version >= WITH_RACK {
                sent = sent.with_rack_id(Some(text("r1")));
            }
            let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
            sent.encode(&mut bytes, version).unwrap();
            let expected = Subscription {
                topics: vec!["orders".to_owned(), "visits".to_owned()],
                owned: [("orders".to_owned(), vec![0, 3])]
                    .into_iter()
                    .filter(|_| version >= WITH_OWNED)
                    .collect(),
                rack: if version >= WITH_RACK { "r1" } else { "" }.to_owned(),
            };
            assert_eq!(parse(&bytes), Ok(expected));
            assert!(parse(&bytes[..bytes.len() - 1]).is_err());
        }
        // Version 1 without what it has brought.
        let short = parse(&[0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 0]).unwrap();
        assert_eq!((short.topics, short.owned), (vec!["t".to_owned()], vec![]));
        assert!(parse(&[0, 0, 0x7f, 0xff, 0xff, 0xff]).is_err(), "topics that are not there");
    }

    #[test]
    fn an_assignment_is_what_clients_read() {
        let topic = TopicPartitions {
            topic_id: Uuid::nil(),
            topic: "orders".into(),
            partitions: vec![1, 2],
        };
        let mut bytes = Bytes::from(assignment(std::slice::from_ref(&topic)));
        assert_eq!(bytes.split_to(2)[..], [0, 0]);
        let read = ConsumerProtocolAssignment::decode(&mut bytes, 0).unwrap();
        assert_eq!(read.assigned_partitions[0].partitions, [1, 2]);
        assert_eq!(read.assigned_partitions[0].topic.0.as_str(), "orders");
        assert!(bytes.is_empty() && read.user_data.is_none());
        assert_eq!(
            parse_assignment(&assignment(&[topic])),
            Ok(vec![("orders".to_owned(), vec![1, 2])])
        );
        assert!(parse_assignment(&[0, 0, 0, 0, 0, 1]).is_err());
        let topics = vec!["orders".to_owned()];
        assert_eq!(
            parse(&subscription(&topics)),
            Ok(Subscription { topics, ..Subscription::default() })
        );
    }
}
