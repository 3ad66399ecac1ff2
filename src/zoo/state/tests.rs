//! Stories of elections, and what holds after any commands whatever.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn broker(id: u32) -> Command {
    registration(id, u128::from(id), Restart::Kept)
}

fn registration(id: u32, incarnation: u128, restart: Restart) -> Command {
    let address = format!("broker-{id}:9092");
    let incarnation = Uuid::from_u128(incarnation);
    Command::Register { id, incarnation, address, rack: None, restart }
}

/// Three brokers that live, and a topic `t` of three replicas, two of which must be in sync.
fn cluster() -> ClusterState {
    let mut state = ClusterState::new(Uuid::from_u128(1));
    state.defaults.insert("min.insync.replicas".to_owned(), "2".to_owned());
    for id in 1..=3 {
        state.apply(&broker(id)).unwrap();
        state.apply(&Command::Unfence { id, epoch: state.brokers[&id].epoch }).unwrap();
    }
    create(&mut state, "t", 3, 3);
    state
}

fn create(state: &mut ClusterState, name: &str, partitions: u32, replication_factor: u32) {
    let (name, id) = (name.to_owned(), Uuid::from_u128(100));
    let settings = BTreeMap::new();
    let command = Command::CreateTopic { name, id, partitions, replication_factor, settings };
    state.apply(&command).unwrap();
}

fn fence(state: &mut ClusterState, id: u32) {
    state.apply(&Command::Fence { id, epoch: state.brokers[&id].epoch }).unwrap();
}

fn unfence(state: &mut ClusterState, id: u32) {
    state.apply(&Command::Unfence { id, epoch: state.brokers[&id].epoch }).unwrap();
}

fn restart(state: &mut ClusterState, id: u32, restart: Restart) {
    let incarnation = u128::from(state.version) + 1000;
    state.apply(&registration(id, incarnation, restart)).unwrap();
    unfence(state, id);
}

fn first(state: &ClusterState) -> &Partition {
    &state.topics["t"].partitions[0]
}

fn member(state: &ClusterState, id: u32) -> Member {
    Member { id, epoch: state.brokers[&id].epoch }
}

/// The leader of `t`'s first partition says who is in sync.
fn alteration(state: &ClusterState, isr: &[u32]) -> AlterPartition {
    let partition = first(state);
    AlterPartition {
        topic: "t".to_owned(),
        topic_id: Uuid::from_u128(100),
        partition: 0,
        leader: member(state, partition.leader.unwrap()),
        leader_epoch: partition.leader_epoch,
        epoch: partition.epoch,
        isr: isr.iter().map(|id| member(state, *id)).collect(),
        recovering: false,
    }
}

#[test]
fn leaderships_are_spread_and_so_are_those_of_a_broker_that_dies() {
    let mut state = cluster();
    create(&mut state, "wide", 600, 2);
    let led = |state: &ClusterState| {
        let mut led = BTreeMap::new();
        for partition in &state.topics["wide"].partitions {
            *led.entry(partition.leader.unwrap()).or_insert(0) += 1;
        }
        led
    };
    assert_eq!(led(&state), [(1, 200), (2, 200), (3, 200)].into());
    fence(&mut state, 1);
    assert_eq!(led(&state), [(2, 300), (3, 300)].into());
}

/// Brokers 1, 2, 3 ... on these racks, all alive.
fn on_racks(racks: &[u32]) -> ClusterState {
    let mut state = ClusterState::new(Uuid::nil());
    for (id, rack) in (1..).zip(racks) {
        let (address, rack) = (String::new(), Some(format!("rack {rack}")));
        let (incarnation, restart) = (Uuid::from_u128(u128::from(id)), Restart::Kept);
        state.apply(&Command::Register { id, incarnation, address, rack, restart }).unwrap();
        unfence(&mut state, id);
    }
    state
}

/// Only the first partitions of a cluster were on different racks: the followers of later ones begin
/// further behind the leader, among them at brokers of its own rack.
#[test]
fn replicas_are_on_different_racks() {
    let layouts: [&[u32]; 6] =
        [&[1, 1, 2, 2], &[1, 1, 2, 2, 3, 3], &[1, 1, 1, 2], &[1, 2, 2, 2, 3], &[1, 2, 3], &[1, 1]];
    for (racks, factor) in layouts.iter().flat_map(|racks| [(racks, 2), (racks, 3)]) {
        let mut state = on_racks(racks);
        let count = racks.iter().collect::<BTreeSet<_>>().len().min(factor);
        if factor > racks.len() {
            continue;
        }
        create(&mut state, "t", 60, factor as u32);
        for partition in &state.topics["t"].partitions {
            let replicas: BTreeSet<u32> = partition.replicas.iter().copied().collect();
            let found: BTreeSet<u32> = replicas.iter().map(|id| racks[*id as usize - 1]).collect();
            assert_eq!((replicas.len(), found.len()), (factor, count), "{racks:?} {partition:?}");
        }
    }
}

#[test]
fn brokers_have_as_many_replicas_as_each_other() {
    for racks in [&[1, 2, 3][..], &[1, 1, 1, 1, 1], &[1, 1, 2, 2], &[1, 1, 2, 2, 3, 3]] {
        let mut state = on_racks(racks);
        create(&mut state, "t", 60, 3);
        let partitions = &state.topics["t"].partitions;
        let count = |id, of: &dyn Fn(&Partition) -> &[u32]| {
            partitions.iter().filter(|partition| of(partition).contains(&id)).count()
        };
        for id in 1..=racks.len() as u32 {
            let (led, had) = (count(id, &|p| &p.replicas[..1]), count(id, &|p| &p.replicas));
            assert_eq!(led, 60 / racks.len(), "{racks:?} {id}");
            let even = 180 / racks.len();
            assert!(had.abs_diff(even) <= even / 5, "{racks:?}: broker {id} has {had} of {even}");
        }
    }
}

/// The first record that came to a cluster of three that had just started found two of them unfenced,
/// and got an error.
#[test]
fn a_broker_that_is_away_gets_replicas_that_are_not_in_sync() {
    let mut state = cluster();
    fence(&mut state, 2);
    create(&mut state, "u", 4, 3);
    for partition in &state.topics["u"].partitions {
        assert_eq!(partition.replicas[2], 2, "{partition:?}");
        assert!(!partition.isr.contains(&2) && partition.isr.len() == 2, "{partition:?}");
    }
    let name = "v".to_owned();
    let (id, settings) = (Uuid::from_u128(101), BTreeMap::new());
    let too_many =
        Command::CreateTopic { name, id, partitions: 1, replication_factor: 4, settings };
    let refused = state.apply(&too_many).unwrap_err();
    assert_eq!(refused, Refused::TooFewBrokers { alive: 2, known: 3, asked: 4 });
}

#[test]
fn another_leads_when_the_leader_is_fenced() {
    let mut state = cluster();
    let before = first(&state).clone();
    assert_eq!((before.leader, before.isr.len()), (Some(1), 3));
    fence(&mut state, 1);
    let after = first(&state);
    assert_eq!((after.leader, &after.isr), (Some(2), &vec![2, 3]));
    assert!(after.leader_epoch > before.leader_epoch && after.epoch > before.epoch);
    assert!(after.eligible.is_empty(), "two are enough to commit without it");
    unfence(&mut state, 1);
    assert_eq!(first(&state).leader, Some(2), "it has to catch up first");
    assert_eq!(
        state.apply(&Command::ElectPreferred { topic: "t".into(), partition: 0 }),
        Err(Refused::PreferredAway(1))
    );
    state.apply(&Command::AlterPartition(alteration(&state, &[1, 2, 3]))).unwrap();
    state.apply(&Command::ElectPreferred { topic: "t".into(), partition: 0 }).unwrap();
    assert_eq!(first(&state).leader, Some(1));
}

/// Last replica standing (KIP-966): who left when nothing more could be committed has everything, and
/// may lead when the last one comes back without its records.
#[test]
fn who_left_when_too_few_were_in_sync_may_lead_again() {
    let mut state = cluster();
    for id in [2, 3, 1] {
        fence(&mut state, id);
    }
    let partition = first(&state);
    assert_eq!((partition.leader, partition.isr.len()), (None, 0));
    assert_eq!(partition.eligible, [3, 1], "2 left when two others could commit");
    restart(&mut state, 1, Restart::LostAll);
    assert_eq!(first(&state).leader, None, "it has nothing");
    restart(&mut state, 2, Restart::Kept);
    assert_eq!(first(&state).leader, None, "it may miss something");
    restart(&mut state, 3, Restart::LostUnsynced);
    let partition = first(&state);
    assert_eq!((partition.leader, &partition.isr), (Some(3), &vec![3]), "what counts was synced");
}

#[test]
fn a_machine_that_died_has_lost_what_was_not_to_be_synced() {
    let mut state = cluster();
    let settings: BTreeMap<_, _> = [("flush".to_owned(), "os".to_owned())].into();
    state.apply(&Command::AlterTopic { name: "t".to_owned(), settings }).unwrap();
    for id in [2, 3, 1] {
        fence(&mut state, id);
    }
    restart(&mut state, 3, Restart::LostUnsynced);
    assert_eq!(first(&state).leader, None);
    let changes = state.apply(&Command::ElectUnclean { topic: "t".into(), partition: 0 }).unwrap();
    assert!(changes.iter().any(|change| matches!(
        change,
        Change::UncleanElection { leader: 3, instead_of, .. } if instead_of == &[1]
    )));
    assert!(first(&state).recovering);
}

#[test]
fn a_broker_that_stops_hands_over_first() {
    let mut state = cluster();
    state.apply(&Command::BeginShutdown { id: 1, epoch: state.brokers[&1].epoch }).unwrap();
    assert_eq!((first(&state).leader, &first(&state).isr), (Some(2), &vec![2, 3]));
    let alter = alteration(&state, &[1, 2, 3]);
    let refused = state.apply(&Command::AlterPartition(alter));
    assert_eq!(refused, Err(Refused::Ineligible(1)), "it is about to go");
    for id in [2, 3] {
        state.apply(&Command::BeginShutdown { id, epoch: state.brokers[&id].epoch }).unwrap();
    }
    assert_eq!(first(&state).leader, Some(3), "the last one leads until it is gone");
}

#[test]
fn a_change_from_an_older_state_is_refused() {
    let mut state = cluster();
    let alter = alteration(&state, &[1, 2]);
    let of_an_older_broker = AlterPartition {
        isr: vec![member(&state, 1), Member { id: 2, epoch: BrokerEpoch::NONE }],
        ..alter.clone()
    };
    assert_eq!(
        state.apply(&Command::AlterPartition(of_an_older_broker)),
        Err(Refused::Ineligible(2))
    );
    state.apply(&Command::AlterPartition(alter.clone())).unwrap();
    let again = state.apply(&Command::AlterPartition(alter));
    assert!(matches!(again, Err(Refused::StalePartition { .. })), "{again:?}");
    let by_another = AlterPartition { leader: member(&state, 2), ..alteration(&state, &[1, 2]) };
    assert_eq!(state.apply(&Command::AlterPartition(by_another)), Err(Refused::NotLeader(2)));
}

#[test]
fn a_start_in_between_does_not_go_unseen() {
    let mut state = cluster();
    let again = registration(1, 77, Restart::Kept);
    assert_eq!(state.apply(&again), Err(Refused::DuplicateBroker(1)));
    assert_eq!(state.apply(&broker(1)), Ok(Vec::new()), "the same process");
    let old = state.brokers[&1].epoch;
    fence(&mut state, 1);
    state.apply(&again).unwrap();
    assert!(state.brokers[&1].epoch > old && state.brokers[&1].fenced);
    let of_old = state.apply(&Command::Unfence { id: 1, epoch: old });
    assert!(matches!(of_old, Err(Refused::StaleBroker { .. })), "{of_old:?}");
}

#[test]
fn a_move_adds_first_and_takes_away_then() {
    let mut state = cluster();
    restart_new(&mut state, 4);
    let to =
        Command::Move { topic: "t".into(), partition: 0, replicas: vec![4, 2, 3], throttle: None };
    state.apply(&to).unwrap();
    assert_eq!(first(&state).replicas, [4, 2, 3, 1]);
    assert_eq!((first(&state).leader, first(&state).isr.len()), (Some(1), 3));
    let mut cancelled = state.clone();
    cancelled.apply(&Command::CancelMove { topic: "t".into(), partition: 0 }).unwrap();
    assert_eq!(first(&cancelled).replicas, [1, 2, 3]);
    state.apply(&Command::AlterPartition(alteration(&state, &[1, 2, 3, 4]))).unwrap();
    let moved = first(&state);
    assert_eq!((&moved.replicas, moved.leader), (&vec![4, 2, 3], Some(4)));
    assert_eq!(moved.moving, None);
}

/// With `unclean.leader.election.enable=true` whoever comes back first leads. Of a second such election
/// nothing was told while the leader of the first had not changed who is in sync.
#[test]
fn each_unclean_election_is_told_of() {
    let mut state = cluster();
    let settings = [("unclean.leader.election.enable".to_owned(), "true".to_owned())].into();
    state.apply(&Command::AlterTopic { name: "t".into(), settings }).unwrap();
    [3, 2, 1].into_iter().for_each(|id| fence(&mut state, id));
    assert_eq!((first(&state).leader, &first(&state).eligible), (None, &vec![2, 1]));
    let mut elected_instead_of = |id: u32, expected: &[u32]| {
        let incarnation = u128::from(state.version) + 1000;
        state.apply(&registration(id, incarnation, Restart::LostAll)).unwrap();
        let unfence = Command::Unfence { id, epoch: state.brokers[&id].epoch };
        let changes = state.apply(&unfence).unwrap();
        let told = |change: &Change| match change {
            Change::UncleanElection { partition: 0, leader, instead_of, .. } => {
                *leader == id && instead_of == expected
            }
            _ => false,
        };
        assert!(changes.iter().any(told), "{changes:?}");
        fence(&mut state, id);
    };
    elected_instead_of(3, &[2, 1]);
    elected_instead_of(2, &[3]);
}

/// Two had to be in sync, and one was: who had left was eligible. The partition was to have one replica
/// only, so one in sync was enough; records were acknowledged that the eligible one did not have, and it
/// was elected.
#[test]
fn nobody_is_eligible_once_records_can_be_committed_again() {
    let mut state = cluster();
    restart_new(&mut state, 4);
    for id in [3, 2] {
        fence(&mut state, id);
    }
    assert_eq!((&first(&state).isr, &first(&state).eligible), (&vec![1], &vec![2]));
    let to = Command::Move { topic: "t".into(), partition: 0, replicas: vec![4], throttle: None };
    state.apply(&to).unwrap();
    assert_eq!((&first(&state).isr, &first(&state).eligible), (&vec![1], &vec![]));
    fence(&mut state, 1);
    restart_new(&mut state, 2);
    assert_eq!(first(&state).leader, None);
}

fn restart_new(state: &mut ClusterState, id: u32) {
    state.apply(&broker(id)).unwrap();
    unfence(state, id);
}

/// Something to ask of a cluster, sensible or not.
fn command() -> impl Strategy<Value = (u8, u32, u32, Vec<u32>, bool)> {
    (0u8..16, 1u32..6, 0u32..4, prop::collection::vec(1u32..6, 0..4), any::<bool>())
}

fn build(
    state: &ClusterState,
    (kind, id, number, ids, odd): (u8, u32, u32, Vec<u32>, bool),
) -> Command {
    let epoch = state.brokers.get(&id).map_or(BrokerEpoch(7), |broker| broker.epoch);
    let epoch = if odd && kind > 3 { BrokerEpoch(3) } else { epoch };
    let (topic, topic_id) = ("t".to_owned(), Uuid::from_u128(100));
    match kind {
        0 => broker(id),
        1 => {
            let restart = if odd { Restart::LostAll } else { Restart::Kept };
            registration(id, u128::from(state.version) + 1000, restart)
        }
        2 => Command::Unfence { id, epoch },
        3 => Command::Fence { id, epoch },
        4 => Command::BeginShutdown { id, epoch },
        5 => Command::AddPartitions { name: topic, total: number },
        6 => Command::ElectPreferred { topic, partition: number },
        7 => Command::ElectUnclean { topic, partition: number },
        8 => Command::Move { topic, partition: number, replicas: ids, throttle: None },
        9 => Command::CancelMove { topic, partition: number },
        10 => {
            let value = if odd { "1" } else { "2" };
            let settings = [("min.insync.replicas".to_owned(), value.to_owned())].into();
            Command::AlterTopic { name: topic, settings }
        }
        13 => {
            let value = if odd { "1" } else { "2" };
            let defaults = [("min.insync.replicas".to_owned(), value.to_owned())].into();
            Command::SetDefaults { defaults }
        }
        14 => {
            let (name, id) = (format!("t{number}"), Uuid::from_u128(state.version.into()));
            let settings = BTreeMap::new();
            let replication_factor = 2;
            Command::CreateTopic { name, id, partitions: number, replication_factor, settings }
        }
        15 => {
            let name = format!("t{number}");
            let id = state.topics.get(&name).map_or(Uuid::nil(), |topic| topic.id);
            Command::DeleteTopic { name, id }
        }
        _ => {
            let partition = state.topics["t"].partition(number).or(state.topics["t"].partition(0));
            let partition = partition.unwrap();
            let leader = partition.leader.unwrap_or(id);
            let life = |id: &u32| Member {
                id: *id,
                epoch: state.brokers.get(id).map_or(BrokerEpoch::NONE, |broker| broker.epoch),
            };
            Command::AlterPartition(AlterPartition {
                topic,
                topic_id,
                partition: number,
                leader: life(&leader),
                leader_epoch: partition.leader_epoch,
                epoch: partition.epoch,
                isr: ids.iter().chain([&leader]).map(life).collect(),
                recovering: odd,
            })
        }
    }
}

fn assert_sound(state: &ClusterState) {
    let partitions = state.topics.values().flat_map(|topic| {
        let min_isr = state.min_insync_replicas(topic);
        topic.partitions.iter().map(move |partition| (partition, min_isr))
    });
    for (partition, min_isr) in partitions {
        let Partition { replicas, isr, eligible, leader, .. } = partition;
        let commits = isr.len() >= min_isr.min(partition.target().len());
        assert!(!commits || eligible.is_empty(), "{partition:?}");
        assert!(isr.iter().chain(eligible).all(|id| replicas.contains(id)), "{partition:?}");
        assert!(isr.iter().all(|id| !eligible.contains(id)), "{partition:?}");
        assert!(leader.is_none_or(|leader| isr.contains(&leader)), "{partition:?}");
        assert!(isr.iter().all(|id| !state.brokers[id].fenced), "{partition:?}");
        assert_eq!(leader.is_none(), isr.is_empty(), "{partition:?}");
        let all = isr.iter().chain(eligible).chain(replicas);
        let mut unique: Vec<_> = all.copied().collect();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), replicas.len(), "{partition:?}");
    }
}

/// A partition was on its way from 1, 2, 3 to 4, 5, 1, and 4 and 5 alone were in sync, when another
/// move took both of them away, with all records. Found by the simulator, seed 4900.
#[test]
fn a_move_that_follows_another_keeps_who_has_the_records() {
    let mut state = cluster();
    for id in 4..=5 {
        state.apply(&broker(id)).unwrap();
        unfence(&mut state, id);
    }
    let to = |replicas: &[u32]| Command::Move {
        topic: "t".into(),
        partition: 0,
        replicas: replicas.to_vec(),
        throttle: None,
    };
    state.apply(&to(&[4, 5, 1])).unwrap();
    fence(&mut state, 1);
    state.apply(&Command::AlterPartition(alteration(&state, &[2, 3, 4, 5]))).unwrap();
    fence(&mut state, 2);
    fence(&mut state, 3);
    assert_eq!(first(&state).isr, [4, 5]);
    let cut = Refused::TooFewStay { stay: vec![], needed: 2 };
    assert_eq!(state.apply(&to(&[1, 2, 3])), Err(cut.clone()));
    assert_eq!(
        state.apply(&to(&[2, 3, 4])).map(drop),
        Err(Refused::TooFewStay { stay: vec![4], needed: 2 })
    );
    let cancel = Command::CancelMove { topic: "t".into(), partition: 0 };
    assert_eq!(state.apply(&cancel), Err(cut));
    // Who has left, and is eligible, has the records as well.
    fence(&mut state, 5);
    assert_eq!((&first(&state).isr, &first(&state).eligible), (&vec![4], &vec![5]));
    let away = Refused::TooFewStay { stay: vec![4], needed: 2 };
    assert_eq!(state.apply(&to(&[2, 3, 4])), Err(away));
    state.apply(&to(&[4, 5, 2])).unwrap();
    assert_eq!((&first(&state).isr, &first(&state).eligible), (&vec![4], &vec![5]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn whatever_is_asked_the_state_is_sound(commands in prop::collection::vec(command(), 1..80)) {
        let mut state = cluster();
        for seed in commands {
            let command = build(&state, seed);
            let before = state.clone();
            match state.apply(&command) {
                Ok(changes) if changes.is_empty() => prop_assert_eq!(&state, &before),
                Ok(_) => prop_assert_eq!(state.version, before.version + 1),
                Err(_) => prop_assert_eq!(&state, &before, "refused"),
            }
            assert_sound(&state);
            let pairs = before.topics["t"].partitions.iter().zip(&state.topics["t"].partitions);
            for (before, after) in pairs {
                prop_assert!(after.leader_epoch >= before.leader_epoch);
                prop_assert_eq!(before == after, before.epoch == after.epoch);
                prop_assert!(before.leader == after.leader || after.leader_epoch > before.leader_epoch);
            }
        }
    }

    /// However many commands a delta tells of, and although it went over the wire.
    #[test]
    fn a_copy_that_follows_is_the_same(
        commands in prop::collection::vec((command(), any::<bool>()), 1..80),
    ) {
        let mut state = cluster();
        let mut copy = state.clone();
        let mut changes = Vec::new();
        for (seed, tell) in commands {
            let command = build(&state, seed);
            changes.extend(state.apply(&command).unwrap_or_default());
            if tell && state.version > copy.version {
                let delta = Delta::of(copy.version, &state, &std::mem::take(&mut changes));
                let text = serde_json::to_string(&delta).unwrap();
                let delta = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(copy.follow(&delta), Ok(()));
                prop_assert_eq!(&copy, &state);
                let again = copy.clone();
                prop_assert!(copy.follow(&delta).is_err(), "twice");
                prop_assert_eq!(&copy, &again);
            }
        }
    }
}
