//! mkzoo as a process, with sessions and heartbeats of brokers in this one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod zookeeper;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::wait_until;
use mk::zoo::events::{FenceReason, Suspicion, What};
use mk::zoo::message::{Rejected, Request};
use mk::zoo::node::{Liveness, Node, NodeSettings};
use mk::zoo::session::Trouble;
use mk::zoo::state::{ClusterState, Command};
use mk::zoo::store::RedbLog;
use rustix::process::Signal;
use uuid::Uuid;
use zookeeper::{Member, Proxy, Zoo};

/// Brokers 1 to 3 that are ready, and a topic `t` of six partitions with three replicas each.
fn cluster(zoo: &Zoo) -> Vec<Member> {
    let members: Vec<Member> = (1..=3).map(|id| Member::ready(zoo, id)).collect();
    for member in &members {
        member.wait("all are ready", |state| {
            (1..=3).all(|id| state.brokers.get(&id).is_some_and(|broker| !broker.fenced))
        });
    }
    members[0].create("t");
    for member in &members {
        member.wait("all know of the topic", |state| state.topics.contains_key("t"));
    }
    members
}

#[test]
fn a_broker_whose_beats_stop_is_fenced_and_others_lead() {
    let zoo = Zoo::start();
    let mut members = cluster(&zoo);
    let led = |member: &Member, id: u32| {
        let topic = &member.state().topics["t"];
        topic.partitions.iter().filter(|partition| partition.leader == Some(id)).count()
    };
    assert_eq!(led(&members[1], 1), 2);
    members[0].beat = None;
    members[1].wait("it is fenced", |state| state.brokers[&1].fenced);
    assert_eq!(led(&members[1], 1), 0);
    assert!(members[1].state().topics["t"].partitions.iter().all(|p| p.leader.is_some()));
    let events = members[1].events();
    let fenced = events.iter().find_map(|what| match what {
        What::Fenced { broker: 1, why, heard_ago_ms, .. } => Some((*why, heard_ago_ms.unwrap())),
        _ => None,
    });
    let (why, heard_ago_ms) = fenced.unwrap();
    assert!(matches!(why, FenceReason::Detector(_)) && heard_ago_ms >= 300, "{why:?}");
    assert!(events.iter().any(|what| matches!(what, What::Elected { before: Some(1), .. })));
    // Its session has lived on: it is told, and comes back.
    members[0].wait("it knows", |state| state.brokers[&1].fenced);
    members[0].begin_to_beat(&zoo.address);
    members[1].wait("it is back", |state| !state.brokers[&1].fenced);
}

#[test]
fn a_process_that_dies_is_noticed_long_before_the_session_timeout() {
    // Its closed port says so: neither its silence nor that it does not answer counts for so long.
    let timeouts = ["broker.session.timeout.ms=20s", "broker.suspicion.timeout.ms=20s"];
    let zoo = Zoo::start_with(&["--set", timeouts[0], "--set", timeouts[1]]);
    let members: Vec<Member> = (1..=2).map(|id| Member::ready(&zoo, id)).collect();
    let mut epoch = None;
    let mut took = Vec::new();
    for _ in 0..10 {
        // While the one before it is not known to be dead: it gets in soon all the same.
        let mut process = zookeeper::process(&zoo);
        members[0].wait("a new life is ready", |state| {
            let broker = state.brokers.get(&3);
            broker.is_some_and(|broker| !broker.fenced && Some(broker.epoch) > epoch)
        });
        epoch = Some(members[0].state().brokers[&3].epoch);
        let start = Instant::now();
        process.0.kill().unwrap();
        members[0].wait("it is fenced", |state| state.brokers[&3].fenced);
        took.push(start.elapsed());
    }
    took.sort();
    println!("noticed after {took:?}");
    assert!(took[9] < Duration::from_secs(10), "{took:?}");
    let why = Suspicion::Disconnected;
    assert!(members[0].events().contains(&What::Suspected { broker: 3, why }));
}

#[test]
fn a_new_process_does_not_wait_for_one_that_stands_still() {
    let zoo = Zoo::start_with(&["--set", "broker.session.timeout.ms=20s"]);
    let members = [Member::ready(&zoo, 1)];
    // A new process comes before anybody can know that the old one is dead: it stands still.
    let process = zookeeper::process(&zoo);
    let is_ready = |state: &ClusterState| state.brokers.get(&3).is_some_and(|b| !b.fenced);
    members[0].wait("it is ready", is_ready);
    let epoch = members[0].state().brokers[&3].epoch;
    let stopped = rustix::process::Pid::from_raw(process.0.id() as i32).unwrap();
    rustix::process::kill_process(stopped, Signal::STOP).unwrap();
    let start = Instant::now();
    let again = Member::ready(&zoo, 3);
    again.wait("it is in", |state| is_ready(state) && state.brokers[&3].epoch > epoch);
    println!("a new life after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// Not a test: the process that another one kills.
#[test]
#[ignore = "it is a part of another test"]
fn a_broker_to_be_killed() {
    let Ok(address) = std::env::var(zookeeper::ADDRESS) else { return };
    let _member = Member::ready_at(&address, 3, &address);
    loop {
        std::thread::park();
    }
}

#[test]
fn a_second_process_with_the_id_of_one_that_lives_does_not_get_in() {
    let zoo = Zoo::patient();
    let members = cluster(&zoo);
    let other = Member::registering(&zoo, 1);
    wait_until("it is refused", || matches!(other.session.trouble(), Some(Trouble::Refused(_))));
    wait_until("its attempts are on the timeline", || {
        let why = Suspicion::AnotherProcess;
        members[1].events().contains(&What::Suspected { broker: 1, why })
    });
    members[0].create("u");
    assert_nobody_fenced(&members[1]);
    assert!(other.seen.lock().epoch.is_none());
}

#[test]
fn a_zookeeper_that_is_killed_comes_back_with_all_it_has_said() {
    let mut zoo = Zoo::patient();
    let members = cluster(&zoo);
    for round in 0..5 {
        let name = format!("topic {round}");
        members[round % 3].create(&name);
        let before = members[0].state();
        zoo.kill();
        wait_until("all know", || members.iter().all(|member| member.seen.lock().lost > round));
        assert!(members[0].try_create("not now").is_err());
        zoo.restart();
        for member in &members {
            member.wait_registered(round + 2);
            let after = member.state();
            assert!(after.version >= before.version && after.topics.contains_key(&name));
            let id = member.me.id;
            assert_eq!(after.brokers[&id].epoch, before.brokers[&id].epoch);
        }
        wait_until("all are heard again", || zoo.hears(&members[0], &[1, 2, 3]));
    }
    assert_nobody_fenced(&members[0]);
}

#[test]
fn who_does_not_come_back_after_a_restart_of_the_zookeeper_is_fenced_in_the_end() {
    let mut zoo = Zoo::start();
    let mut members = cluster(&zoo);
    zoo.kill();
    drop(members.remove(0));
    zoo.restart();
    members[0].wait("it is fenced", |state| state.brokers[&1].fenced);
    assert!(!members[0].state().brokers[&2].fenced && !members[0].state().brokers[&3].fenced);
}

#[test]
fn a_zookeeper_that_stands_still_for_a_second_fences_nobody() {
    let zoo = Zoo::start();
    let members = cluster(&zoo);
    for _ in 0..2 {
        zoo.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(1));
        zoo.signal(Signal::CONT);
        wait_until("all are heard again", || zoo.hears(&members[0], &[1, 2, 3]));
    }
    assert_nobody_fenced(&members[0]);
}

#[test]
fn thirty_percent_of_the_datagrams_lost_fence_nobody() {
    let zoo = Zoo::start();
    let mut seed = 12345u32;
    let proxy = Proxy::start(&zoo.address, move |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % 10 >= 3
    });
    let members: Vec<Member> =
        (1..=3).map(|id| Member::ready_by(&zoo, id, &proxy.address())).collect();
    for member in &members {
        member.wait("it is ready", |state| {
            state.brokers.get(&member.me.id).is_some_and(|broker| !broker.fenced)
        });
    }
    wait_until("much was lost", || proxy.dropped() > 300);
    assert_nobody_fenced(&members[0]);
}

#[test]
fn forged_doubled_and_old_datagrams_keep_nobody_alive_and_fence_nobody() {
    let zoo = Zoo::start();
    let proxy = Proxy::start(&zoo.address, |_| true);
    let mut dead = Member::ready_by(&zoo, 1, &proxy.address());
    let alive = Member::ready_by(&zoo, 2, &proxy.address());
    alive.wait("both are ready", |state| {
        (1..=2).all(|id| state.brokers.get(&id).is_some_and(|broker| !broker.fenced))
    });
    wait_until("there is something to replay", || proxy.recorded().len() > 40);
    dead.beat = None;
    let attacker = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0u64;
    let mut attack = || {
        for datagram in proxy.recorded() {
            let mut forged = datagram.clone();
            let at = sent as usize % forged.len();
            // With a number from the future, mostly.
            forged[at] ^= 1 << (sent % 8);
            forged[46] = 0xff;
            for bytes in [&datagram[..], &datagram, &forged, &datagram[1..], b"garbage", b""] {
                attacker.send_to(bytes, &zoo.address).unwrap();
                sent += 1;
            }
        }
    };
    wait_until("the dead one is fenced", || {
        attack();
        alive.state().brokers[&1].fenced
    });
    let why = alive.events().into_iter().filter(|what| matches!(what, What::Fenced { .. }));
    assert_eq!(why.count(), 1, "and the one that lives is not");
    assert!(zoo.ignored(&alive) > 100);

    // Its next life is not woken by the beats of the one before.
    drop(dead);
    let again = Member::registering(&zoo, 1);
    again.wait_registered(1);
    let ignored = zoo.ignored(&alive);
    wait_until("the old beats have come", || {
        attack();
        zoo.ignored(&alive) > ignored + 100
    });
    assert!(alive.state().brokers[&1].fenced && !alive.state().brokers[&2].fenced);
}

#[test]
fn an_old_copy_of_the_zookeepers_data_and_another_cluster_are_refused() {
    let mut zoo = Zoo::start();
    let members = cluster(&zoo);
    zoo.kill();
    zoo.copy("zoo.redb", "old");
    zoo.restart();
    members[0].wait_registered(2);
    members[0].create("after the copy");
    members[1].wait("it knows", |state| state.topics.contains_key("after the copy"));
    zoo.kill();
    zoo.copy("old", "zoo.redb");
    zoo.restart();
    for member in &members[..2] {
        wait_until("the old copy is refused", || {
            matches!(
                member.session.trouble(),
                Some(Trouble::Rejected(Rejected::OldCopy { seen, version })) if seen > version
            )
        });
        assert!(member.state().topics.contains_key("after the copy"), "it serves on");
    }
    zoo.kill();
    zoo.remove("zoo.redb");
    zoo.restart();
    for member in &members {
        wait_until("the other cluster is refused", || {
            let trouble = member.session.trouble();
            matches!(trouble, Some(Trouble::Rejected(Rejected::OtherCluster { .. })))
        });
    }
}

#[test]
fn garbage_and_silence_on_the_port_hurt_nobody() {
    let zoo = Zoo::patient();
    let members = cluster(&zoo);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], b"MK\x01\xff123456789012345678901"] {
        let mut stream = TcpStream::connect(&zoo.address).unwrap();
        stream.write_all(garbage).unwrap();
        // Closed in good order or not, but soon.
        let mut rest = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let ended = stream.read_to_end(&mut rest);
        let timed_out = |kind| kind == std::io::ErrorKind::WouldBlock;
        assert!(!ended.is_err_and(|error| timed_out(error.kind())), "{garbage:?}");
    }
    let _silent: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(&zoo.address).unwrap()).collect();
    members[0].create("u");
    assert_nobody_fenced(&members[0]);
}

#[test]
fn mkzoo_says_what_it_is_ready_with_and_what_is_wrong() {
    let mut zoo = Zoo::patient();
    assert!(zoo.ready.contains(": cluster ") && zoo.ready.ends_with(", 0 brokers, 0 topics\n"));
    let run = |flags: &[&str]| {
        let output = zoo.command(flags).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = run(&["--listen", "127.0.0.1:0"]);
    assert!(code == 1 && error.contains("is in use by another process\nhint: "), "{error}");
    let (code, error) = run(&["--set", "broker.session.timeout=1s"]);
    assert!(code == 2 && error.contains("did you mean 'broker.session.timeout.ms'?"), "{error}");
    assert_eq!(run(&["--no-such-flag"]).0, 2);

    let members = cluster(&zoo);
    zoo.stop();
    zoo.restart();
    assert!(zoo.ready.ends_with(", 3 brokers, 1 topics\n"), "{}", zoo.ready);
    members[0].wait_registered(2);
    assert_nobody_fenced(&members[0]);
}

/// The defaults of the cluster are in its log: a changed setting is a command.
#[test]
fn a_changed_default_counts_from_the_next_start_on() {
    let mut zoo = Zoo::start();
    let members = cluster(&zoo);
    assert_eq!(members[0].state().defaults["min.insync.replicas"], "2");
    zoo.stop();
    zoo.flags = vec!["--set".to_owned(), "min.insync.replicas=3".to_owned()];
    zoo.restart();
    members[0].wait_registered(2);
    members[0].wait("the default", |state| state.defaults["min.insync.replicas"] == "3");
    assert!(members[0].events().contains(&What::DefaultsAltered));
}

#[test]
fn a_broker_that_shuts_down_hands_over_first() {
    let zoo = Zoo::start();
    let members = cluster(&zoo);
    let epoch = members[0].state().brokers[&1].epoch;
    members[0].ask(Request::Command(Command::BeginShutdown { id: 1, epoch }));
    // No wait: the answer comes when the follower has seen the change.
    let led = |id| members[0].state().topics["t"].partitions.iter().any(|p| p.leader == Some(id));
    assert!(!led(1) && led(2) && led(3));
}

/// The end of a connection is a reason to ask, and no more.
#[test]
fn a_broker_whose_connections_break_again_and_again_is_not_fenced() {
    let zoo = Zoo::patient();
    let road = zookeeper::Connections::start(&zoo.address);
    let other = Member::ready(&zoo, 1);
    let member = Member::ready_at(&road.address, 2, &zoo.address);
    other.wait("it is ready", |state| state.brokers.get(&2).is_some_and(|broker| !broker.fenced));
    for round in 1..20 {
        road.cut();
        member.wait_registered(round + 1);
    }
    wait_until("all are heard", || zoo.hears(&other, &[1, 2]));
    assert_nobody_fenced(&other);
    let why = Suspicion::Disconnected;
    assert!(other.events().contains(&What::Suspected { broker: 2, why }));
}

#[test]
fn a_session_in_process_is_the_same_without_heartbeats() {
    let dir = tempfile::tempdir().unwrap();
    let log = RedbLog::open(dir.path()).unwrap();
    let settings = NodeSettings {
        cluster_id: None,
        liveness: Liveness::Embedded,
        defaults: BTreeMap::new(),
        beat_interval: Duration::from_millis(25),
        session_timeout: Duration::from_millis(300),
        rebalance_after: None,
    };
    let node = Node::start(Box::new(log), settings).unwrap();
    let member = Member::local(node.handle(), 1);
    member.wait_registered(1);
    let epoch = member.seen.lock().epoch.unwrap();
    member.ask(Request::Command(Command::Unfence { id: 1, epoch }));
    let Command::CreateTopic { name, id, partitions, settings, .. } = topic("t") else { panic!() };
    let create = Command::CreateTopic { name, id, partitions, settings, replication_factor: 1 };
    member.ask(Request::Command(create));
    assert!(member.state().topics["t"].partitions.iter().all(|p| p.leader == Some(1)));
    node.stop().unwrap();
    wait_until("it is lost", || member.seen.lock().lost == 1);
    assert!(matches!(member.session.trouble(), Some(Trouble::Unreachable { .. })));
}

fn assert_nobody_fenced(member: &Member) {
    let events = member.events();
    let fenced: Vec<_> = events.iter().filter(|what| matches!(what, What::Fenced { .. })).collect();
    assert!(fenced.is_empty(), "{fenced:?}");
}

/// A topic with settings of nobody.
fn topic(name: &str) -> Command {
    let (id, settings) = (Uuid::new_v4(), BTreeMap::new());
    let (partitions, replication_factor) = (6, 3);
    Command::CreateTopic { name: name.to_owned(), id, partitions, replication_factor, settings }
}
