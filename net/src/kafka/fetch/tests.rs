use kafka_protocol::messages::fetch_request::{
    FetchPartition as TheirFetchPartition, FetchRequest as TheirRequest,
    FetchTopic as TheirFetchTopic, ForgottenTopic,
};
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchResponse as TheirResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    PartitionData,
};
use kafka_protocol::protocol::StrBytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::oracle::{self, blob, text};
use super::*;

/// A request with what the version has.
fn their_request(version: i16) -> impl Strategy<Value = TheirRequest> {
    let partition = (any::<(i32, i32, i64, i32, i64, i32)>(), blob());
    let partition = partition.prop_map(move |(numbers, tag)| {
        let (index, leader_epoch, offset, fetched_epoch, start, max_bytes) = numbers;
        TheirFetchPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(if version >= 9 { leader_epoch } else { -1 })
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(if version >= 12 { fetched_epoch } else { -1 })
            .with_log_start_offset(if version >= 5 { start } else { -1 })
            .with_partition_max_bytes(max_bytes)
            .with_unknown_tagged_field(77, tag)
    });
    let topic = (text(), vec(partition, 0..4), blob()).prop_map(|(name, partitions, tag)| {
        TheirFetchTopic::default()
            .with_topic(name.into())
            .with_partitions(partitions)
            .with_unknown_tagged_field(0, tag)
    });
    let forgotten = (text(), vec(any::<i32>(), 0..4), blob());
    let forgotten = forgotten.prop_map(|(name, partitions, tag)| {
        ForgottenTopic::default()
            .with_topic(name.into())
            .with_partitions(partitions)
            .with_unknown_tagged_field(0, tag)
    });
    let most_forgotten = if version >= 7 { 4 } else { 1 };
    (
        any::<(i32, i32, i32, i32, i8, i32, i32)>(),
        vec(topic, 0..4),
        vec(forgotten, 0..most_forgotten),
        text(),
        option::of(text()),
        blob(),
    )
        .prop_map(move |(numbers, topics, forgotten, rack, cluster, tag)| {
            let (replica, max_wait, min_bytes, max_bytes, isolation, session, epoch) = numbers;
            TheirRequest::default()
                .with_replica_id(replica.into())
                .with_max_wait_ms(max_wait)
                .with_min_bytes(min_bytes)
                .with_max_bytes(max_bytes)
                .with_isolation_level(isolation)
                .with_session_id(if version >= 7 { session } else { 0 })
                .with_session_epoch(if version >= 7 { epoch } else { -1 })
                .with_topics(topics)
                .with_forgotten_topics_data(forgotten)
                .with_rack_id(if version >= 11 { rack } else { StrBytes::default() })
                .with_cluster_id(cluster.filter(|_| version >= 12))
                .with_unknown_tagged_field(77, tag)
        })
}

fn any_request() -> impl Strategy<Value = (i16, TheirRequest)> {
    (4i16..=12).prop_flat_map(|version| (Just(version), their_request(version)))
}

fn as_ours(request: &TheirRequest) -> FetchRequest<'_> {
    let partition = |partition: &TheirFetchPartition| FetchPartition {
        index: partition.partition,
        current_leader_epoch: partition.current_leader_epoch,
        fetch_offset: partition.fetch_offset,
        last_fetched_epoch: partition.last_fetched_epoch,
        log_start_offset: partition.log_start_offset,
        max_bytes: partition.partition_max_bytes,
    };
    let topics = request.topics.iter().map(|topic| FetchTopic {
        name: topic.topic.0.as_str(),
        partitions: topic.partitions.iter().map(partition).collect(),
    });
    let forgotten = request.forgotten_topics_data.iter();
    FetchRequest {
        replica_id: request.replica_id.0,
        max_wait_ms: request.max_wait_ms,
        min_bytes: request.min_bytes,
        max_bytes: request.max_bytes,
        isolation_level: request.isolation_level,
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        topics: topics.collect(),
        forgotten: forgotten
            .map(|topic| (topic.topic.0.as_str(), topic.partitions.clone()))
            .collect(),
        rack_id: request.rack_id.as_str(),
        cluster_id: request.cluster_id.as_ref().map(|id| id.as_str()),
    }
}

fn our_response() -> impl Strategy<Value = FetchResponse> {
    let partition = (
        any::<(i32, i16, i64, i64, i64, i32)>(),
        option::of((0..i32::MAX, any::<i64>())),
        option::of((0..i32::MAX, any::<i32>())),
        prop_oneof![Just(0u64), 1u64..200],
    );
    let partition = partition.prop_map(|(numbers, diverging_epoch, leader, records_len)| {
        let (index, error, high_watermark, last_stable_offset, log_start_offset, replica) = numbers;
        FetchedPartition {
            index,
            error: ErrorCode(error),
            high_watermark,
            last_stable_offset,
            log_start_offset,
            diverging_epoch,
            current_leader: leader,
            preferred_read_replica: replica,
            records_len,
        }
    });
    let topic = (text(), vec(partition, 0..4))
        .prop_map(|(name, partitions)| FetchedTopic { name: name.to_string(), partitions });
    (any::<(i32, i16, i32, bool)>(), vec(topic, 0..4)).prop_map(|(numbers, topics)| {
        let (throttle_ms, error, session_id, read_committed) = numbers;
        FetchResponse { throttle_ms, error: ErrorCode(error), session_id, read_committed, topics }
    })
}

fn records(partition: usize, length: u64) -> Vec<u8> {
    vec![partition as u8 + 1; length as usize]
}

/// With all that the version has.
fn as_theirs(response: &FetchResponse, version: i16) -> TheirResponse {
    let mut number = 0;
    let mut partition = |ours: &FetchedPartition| {
        let records = records(number, ours.records_len);
        number += 1;
        let mut theirs = PartitionData::default()
            .with_partition_index(ours.index)
            .with_error_code(ours.error.0)
            .with_high_watermark(ours.high_watermark)
            .with_last_stable_offset(ours.last_stable_offset)
            .with_aborted_transactions(response.read_committed.then(Vec::new))
            .with_records(Some(records.into()));
        if version >= 5 {
            theirs.log_start_offset = ours.log_start_offset;
        }
        if version >= 11 {
            theirs.preferred_read_replica = ours.preferred_read_replica.into();
        }
        if let Some((epoch, end_offset)) = ours.diverging_epoch
            && version >= 12
        {
            theirs.diverging_epoch =
                EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
        }
        if let Some((id, epoch)) = ours.current_leader
            && version >= 12
        {
            theirs.current_leader =
                LeaderIdAndEpoch::default().with_leader_id(id.into()).with_leader_epoch(epoch);
        }
        theirs
    };
    let topics = response.topics.iter().map(|topic| {
        FetchableTopicResponse::default()
            .with_topic(StrBytes::from_string(topic.name.clone()).into())
            .with_partitions(topic.partitions.iter().map(&mut partition).collect())
    });
    let mut theirs = TheirResponse::default()
        .with_throttle_time_ms(response.throttle_ms)
        .with_responses(topics.collect());
    if version >= 7 {
        theirs.error_code = response.error.0;
        theirs.session_id = response.session_id;
    }
    theirs
}

/// The pieces with their records.
fn filled(pieces: &[Piece], response: &FetchResponse) -> Vec<u8> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let lengths: Vec<u64> = partitions.map(|partition| partition.records_len).collect();
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Bytes(bytes) => bytes.to_vec(),
        Piece::Records(partition) => records(*partition, lengths[*partition]),
    });
    bytes.collect::<Vec<_>>().concat()
}

fn empty_response(records_len: &[u64]) -> FetchResponse {
    let partition = |records_len: &u64| FetchedPartition {
        index: 0,
        error: ErrorCode::NONE,
        high_watermark: 5,
        last_stable_offset: 5,
        log_start_offset: 0,
        diverging_epoch: None,
        current_leader: None,
        preferred_read_replica: -1,
        records_len: *records_len,
    };
    let partitions = records_len.iter().map(partition).collect();
    FetchResponse {
        throttle_ms: 0,
        error: ErrorCode::NONE,
        session_id: 0,
        read_committed: false,
        topics: vec![FetchedTopic { name: "t".into(), partitions }],
    }
}

proptest! {
    #[test]
    fn a_request_is_read_as_the_oracle_wrote_it((version, theirs) in any_request()) {
        let bytes = oracle::encoded(&theirs, version);
        oracle::assert_read(&bytes, |bytes| {
            parse(bytes, version).map(|request| assert_eq!(request, as_ours(&theirs)))
        });
    }

    #[test]
    fn a_response_is_written_as_the_oracle_writes_it(
        ours in our_response(),
        version in 4i16..=12,
        correlation: i32,
    ) {
        let pieces = respond(correlation, version, &ours);
        let bytes = filled(&pieces, &ours);
        oracle::assert_written(&bytes, correlation, version, as_theirs(&ours, version));
        let is_bytes = |piece: &Piece| matches!(piece, Piece::Bytes(bytes) if !bytes.is_empty());
        for (number, piece) in pieces.iter().enumerate() {
            prop_assert_eq!(is_bytes(piece), number % 2 == 0, "bytes and records take turns");
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), version: i16) {
        let _ = parse(&bytes, version);
        let _ = parse(&bytes, version.rem_euclid(13));
    }

    #[test]
    fn damaged_requests_are_survived(
        (version, theirs) in any_request(),
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

/// A client that got null waited for ever, or gave up (KAFKA-18646).
#[test]
fn records_that_are_not_there_have_length_zero_and_no_piece() {
    let zero = |version: i16, place_from_end: usize, width: usize| {
        let response = empty_response(&[0]);
        let pieces = respond(7, version, &response);
        let [Piece::Bytes(bytes)] = &pieces[..] else { panic!("{pieces:?}") };
        let from = bytes.len() - place_from_end;
        bytes[from..from + width].to_vec()
    };
    assert_eq!(zero(4, 4, 4), [0, 0, 0, 0]);
    assert_eq!(zero(12, 4, 1), [1], "before the tags of the partition, the topic and the response");
    let with = |lengths: &[u64]| respond(7, 11, &empty_response(lengths)).len();
    assert_eq!((with(&[]), with(&[0, 0]), with(&[0, 9]), with(&[9, 0])), (1, 1, 2, 3));
}

#[test]
fn pieces_are_told_by_the_number_of_the_partition() {
    let pieces = respond(7, 12, &empty_response(&[0, 8, 0, 9]));
    let numbers = pieces.iter().filter_map(|piece| match piece {
        Piece::Records(number) => Some(*number),
        Piece::Bytes(_) => None,
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn the_length_counts_a_gigabyte_of_records() {
    let pieces = respond(7, 4, &empty_response(&[MAX_RECORDS_LEN - 1, 1]));
    let Some(Piece::Bytes(first)) = pieces.first() else { panic!("{pieces:?}") };
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Bytes(bytes) => bytes.len() as u64,
        Piece::Records(_) => 0,
    });
    let length = bytes.sum::<u64>() - frame::LENGTH_LEN as u64 + MAX_RECORDS_LEN;
    assert_eq!(first[..frame::LENGTH_LEN], (length as u32).to_be_bytes());
}

#[test]
#[should_panic(expected = "bytes of records")]
fn more_records_than_a_length_can_say_are_a_mistake_of_the_caller() {
    respond(7, 4, &empty_response(&[u64::MAX, MAX_RECORDS_LEN]));
}

#[test]
fn what_is_claimed_must_be_there() {
    let claim = |head: &[u8], count: &[u8], version: i16| {
        parse(&[head, count, &[0; 50]].concat(), version).unwrap_err()
    };
    oracle::assert_count_is_checked(
        |count| claim(&[0; 17], count, 4),
        |count| claim(&[0; 25], count, 12),
    );
}

#[test]
fn the_smallest_items_are_read() {
    let topic = |partitions| {
        TheirFetchTopic::default().with_partitions(vec![TheirFetchPartition::default(); partitions])
    };
    for topics in [vec![topic(0); 9], vec![topic(9)]] {
        let theirs = TheirRequest::default().with_topics(topics).with_session_epoch(-1);
        for version in 4..=12 {
            let bytes = oracle::encoded(&theirs, version);
            assert_eq!(parse(&bytes, version), Ok(as_ours(&theirs)), "version {version}");
        }
    }
}

#[test]
fn the_tag_of_the_cluster_is_all_of_its_name() {
    let theirs = TheirRequest::default().with_cluster_id(Some(StrBytes::from_static_str("it")));
    let bytes = oracle::encoded(&theirs, 12);
    let tag = [1, 0, 3, 3, b'i', b't'];
    assert_eq!(bytes[bytes.len() - tag.len()..], tag);
    let fields = &bytes[..bytes.len() - tag.len()];
    let with = |tag: &[u8]| [fields, tag].concat();
    assert_eq!(parse(&with(&tag), 12).map(|request| request.cluster_id), Ok(Some("it")));
    assert_eq!(parse(&with(&[1, 0, 1, 0]), 12).map(|request| request.cluster_id), Ok(None));
    assert!(parse(&with(&[1, 0, 4, 3, b'i', b't', 0]), 12).is_err(), "longer than the name");
    assert!(parse(&with(&[1, 0, 2, 3, b'i', b't']), 12).is_err(), "shorter than the name");
}

#[test]
fn other_versions_are_refused() {
    let bytes = oracle::encoded(&TheirRequest::default(), 4);
    assert!(parse(&bytes, 4).is_ok());
    for version in [-1, 3, 13] {
        let error = parse(&bytes, version).unwrap_err();
        assert!(matches!(error, DecodeError::Invalid { what: "api version", .. }), "{error}");
    }
}
