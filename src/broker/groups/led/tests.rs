use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::broker::groups::group::{Group, GroupLimits, Now};
use crate::broker::groups::member::{Classic, Profile};
use crate::broker::groups::offsets::{Committed, PartitionName};
use crate::broker::groups::record::Change;

const LIMITS: GroupLimits = GroupLimits {
    session_timeout: Duration::from_secs(10),
    most_members: 9,
    most_metadata: 9,
    initial_delay: Duration::from_secs(3),
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn join_with(id: &str, instance: Option<&str>, names: &[&str]) -> LedJoin {
    let protocol = |name: &&str| Protocol {
        name: (*name).to_owned(),
        metadata: Bytes::from(format!("{id} by {name}")),
    };
    let state = LedMemberState {
        instance_id: instance.map(str::to_owned),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        protocols: names.iter().map(protocol).collect(),
        ..LedMemberState::default()
    };
    LedJoin { member: id.to_owned(), protocol_type: "connect".to_owned(), state, can_skip: true }
}

fn joins(led: &mut Led, id: &str, now: u64) {
    led.join(join_with(id, None, &["own"]), seconds(now), &LIMITS).unwrap();
}

/// Who has been told what, in short: its generation, its leader and how many members it is told, or what it is to do.
fn told(led: &mut Led) -> Vec<(String, String)> {
    let each = led.take_told().into_iter().map(|told| match told {
        Told::Joined(id, Ok(joined)) => {
            let Joined { generation, protocol, leader, members, .. } = joined;
            (id, format!("{generation} {protocol} of {leader}: {}", members.len()))
        }
        Told::Joined(id, Err(error)) | Told::Synced(id, Err(error)) => (id, error.to_string()),
        Told::Synced(id, Ok(assignment)) => (id, format!("does {assignment:?}")),
    });
    each.collect()
}

fn is(id: &str, what: &str) -> (String, String) {
    (id.to_owned(), what.to_owned())
}

fn work(each: &[(&str, &'static str)]) -> Vec<(String, Bytes)> {
    each.iter().map(|(id, work)| ((*id).to_owned(), Bytes::from_static(work.as_bytes()))).collect()
}

const AGAIN: &str = "what the member is to read has changed: it joins again";

/// A group of a and b in generation 1, which know what to do; a leads.
fn settled() -> Led {
    let mut led = Led::new(0, "connect", seconds(0), Duration::ZERO);
    led.join(
        join_with("a", None, &["own"]),
        seconds(0),
        &GroupLimits { initial_delay: Duration::ZERO, ..LIMITS },
    )
    .unwrap();
    joins(&mut led, "b", 0);
    joins(&mut led, "a", 0);
    led.take_told();
    led.sync("b", 2, vec![], seconds(0)).unwrap();
    led.sync("a", 2, work(&[("a", "left"), ("b", "right")]), seconds(0)).unwrap();
    assert_eq!(told(&mut led), [is("a", "does b\"left\""), is("b", "does b\"right\"")]);
    led
}

#[test]
fn the_first_are_waited_for_and_one_of_them_gives_out_the_work() {
    let mut led = Led::new(0, "connect", seconds(0), LIMITS.initial_delay);
    joins(&mut led, "a", 0);
    joins(&mut led, "b", 2);
    assert_eq!(led.next_deadline(), Some(seconds(5)), "each lets the group wait for more");
    assert_eq!((led.expire(seconds(4)), told(&mut led)), (vec![], vec![]));
    led.expire(seconds(5));
    assert_eq!(told(&mut led), [is("a", "1 own of a: 2"), is("b", "1 own of a: 0")]);
    led.sync("b", 1, vec![], seconds(6)).unwrap();
    assert_eq!(led.heartbeat("a", 1, seconds(6)), Ok(()), "nothing is to be done again");
    assert_eq!(led.check_commit("a", 1), Err(GroupError::JoinAgain), "it has nothing to do yet");
    assert_eq!(told(&mut led), []);
    led.sync("a", 1, work(&[("b", "all")]), seconds(6)).unwrap();
    assert_eq!(told(&mut led), [is("a", "does b\"\""), is("b", "does b\"all\"")]);
    led.sync("b", 1, vec![], seconds(6)).unwrap();
    assert_eq!(told(&mut led), [is("b", "does b\"all\"")], "whoever asks late is told");
    assert_eq!(led.check_commit("b", 1), Ok(()));
}

#[test]
fn nobody_waits_for_the_first_longer_than_they_may_take_to_join() {
    let limits = GroupLimits { initial_delay: seconds(5), ..LIMITS };
    let mut led = Led::new(0, "connect", seconds(0), limits.initial_delay);
    for now in (0..18).step_by(2) {
        led.join(join_with(&now.to_string(), None, &["own"]), seconds(now), &limits).unwrap();
        assert_eq!(led.expire(seconds(now)), []);
    }
    assert_eq!((led.next_deadline(), told(&mut led)), (Some(seconds(20)), vec![]));
    led.expire(seconds(20));
    assert!(!told(&mut led).is_empty());
}

#[test]
fn when_one_comes_all_join_again_and_who_does_not_is_out() {
    let mut led = settled();
    joins(&mut led, "c", 1);
    assert_eq!(led.heartbeat("a", 2, seconds(1)), Err(GroupError::JoinAgain));
    assert_eq!(led.check_commit("a", 2), Ok(()), "it may commit what it has done");
    joins(&mut led, "a", 2);
    for now in [9, 18] {
        assert_eq!(led.heartbeat("b", 2, seconds(now)), Err(GroupError::JoinAgain));
    }
    assert_eq!((led.expire(seconds(21)), told(&mut led)), (vec![], vec![]));
    assert_eq!(led.expire(seconds(22)), [("b".to_owned(), "did not join again")]);
    assert_eq!(told(&mut led), [is("a", "3 own of a: 2"), is("c", "3 own of a: 0")]);
    let gone = GroupError::UnknownMember("b".to_owned());
    assert_eq!(led.heartbeat("b", 2, seconds(22)), Err(gone));
    let old = GroupError::OldGeneration { said: 2, actual: 3 };
    assert_eq!(led.heartbeat("a", 2, seconds(22)), Err(old.clone()));
    assert_eq!(led.check_commit("a", 2), Err(old));
}

#[test]
fn when_the_leader_leaves_those_who_wait_for_it_join_again() {
    let mut led = settled();
    joins(&mut led, "c", 1);
    joins(&mut led, "a", 1);
    joins(&mut led, "b", 1);
    led.take_told();
    led.sync("b", 3, vec![], seconds(2)).unwrap();
    led.leave("a", seconds(2)).unwrap();
    assert_eq!(told(&mut led), [is("b", AGAIN)]);
    joins(&mut led, "b", 3);
    joins(&mut led, "c", 3);
    assert_eq!(told(&mut led), [is("b", "4 own of b: 2"), is("c", "4 own of b: 0")]);
    // It does not say anything: b is silent for its session, and c waits.
    led.sync("c", 4, vec![], seconds(4)).unwrap();
    assert_eq!(led.expire(seconds(14)), [("b".to_owned(), "was not heard of")]);
    assert_eq!(told(&mut led), [is("c", AGAIN)]);
}

#[test]
fn who_waits_for_the_others_is_answered_when_it_leaves() {
    let mut led = settled();
    joins(&mut led, "c", 1);
    led.leave("c", seconds(1)).unwrap();
    assert_eq!(told(&mut led), [is("c", "member 'c' is not in the group")]);
    joins(&mut led, "a", 1);
    led.leave("b", seconds(1)).unwrap();
    assert_eq!(told(&mut led), [is("a", "3 own of a: 1")], "nobody else is waited for");
}

/// Its heartbeats come, but it has not asked what it is to do: nobody does that work.
#[test]
fn who_does_not_ask_for_its_work_is_out() {
    let mut led = settled();
    joins(&mut led, "c", 1);
    joins(&mut led, "a", 1);
    joins(&mut led, "b", 1);
    led.take_told();
    led.sync("c", 3, vec![], seconds(1)).unwrap();
    led.sync("b", 3, vec![], seconds(1)).unwrap();
    for now in (5..25).step_by(5) {
        assert_eq!(led.heartbeat("a", 3, seconds(now)), Ok(()));
        led.expire(seconds(now));
    }
    assert_eq!(led.expire(seconds(22)), [("a".to_owned(), "did not ask what it is to do")]);
    assert_eq!(told(&mut led), [is("b", AGAIN), is("c", AGAIN)]);
}

#[test]
fn answers_that_were_lost_are_given_again() {
    let mut led = settled();
    joins(&mut led, "b", 1);
    assert_eq!(told(&mut led), [is("b", "2 own of a: 0")], "a follower that joins disturbs nobody");
    assert_eq!(led.heartbeat("a", 2, seconds(1)), Ok(()));
    joins(&mut led, "a", 2);
    assert_eq!(told(&mut led), [], "a leader that joins gives out work anew");
    joins(&mut led, "b", 2);
    led.take_told();
    joins(&mut led, "a", 3);
    assert_eq!(told(&mut led), [is("a", "3 own of a: 2")]);
    // What it says has changed.
    let other =
        LedJoin { state: join_with("x", None, &["own"]).state, ..join_with("b", None, &[]) };
    led.join(other, seconds(3), &LIMITS).unwrap();
    assert_eq!(led.heartbeat("a", 3, seconds(3)), Err(GroupError::JoinAgain));
}

#[test]
fn who_comes_under_an_instance_id_does_what_was_done_under_it() {
    let mut led = Led::new(0, "connect", seconds(0), Duration::ZERO);
    let own = |id: &str, can_skip| {
        let same = join_with("a", Some("first"), &["own"]).state;
        LedJoin { state: same, can_skip, ..join_with(id, None, &[]) }
    };
    let at_once = GroupLimits { initial_delay: Duration::ZERO, ..LIMITS };
    led.join(own("a-1", true), seconds(0), &at_once).unwrap();
    led.sync("a-1", 1, work(&[("a-1", "all")]), seconds(0)).unwrap();
    led.take_told();
    led.join(own("a-2", true), seconds(1), &LIMITS).unwrap();
    let [Told::Joined(_, Ok(joined))] = &led.take_told()[..] else { panic!("it is told") };
    assert!(joined.skips_assignment && joined.leader == "a-2" && joined.members.len() == 1);
    led.sync("a-2", 1, vec![], seconds(1)).unwrap();
    assert_eq!(told(&mut led), [is("a-2", "does b\"all\"")]);
    let gone = GroupError::UnknownMember("a-1".to_owned());
    assert_eq!(led.heartbeat("a-1", 1, seconds(1)), Err(gone));
    // An older client that was told that it leads would give out work, and is told that another does.
    led.join(own("a-3", false), seconds(2), &LIMITS).unwrap();
    assert_eq!(told(&mut led), [is("a-3", "1 own of a-2: 0")]);
    assert_eq!(led.take_changed().len(), 3);
}

/// What a consumer says has the generation in it: with each start of a static one all joined again.
#[test]
fn who_comes_back_disturbs_nobody_though_it_says_something_else() {
    let mut led = settled();
    led.join(join_with("c-1", Some("c"), &["own"]), seconds(1), &LIMITS).unwrap();
    joins(&mut led, "a", 1);
    joins(&mut led, "b", 1);
    led.sync("a", 3, vec![], seconds(1)).unwrap();
    led.take_told();
    let mut again = join_with("c-2", Some("c"), &["own"]);
    again.state.protocols[0].metadata = Bytes::from_static(b"other");
    led.join(again, seconds(2), &LIMITS).unwrap();
    assert_eq!(told(&mut led), [is("c-2", "3 own of a: 0")]);
    assert_eq!(led.heartbeat("a", 3, seconds(2)), Ok(()));
    assert_eq!(led.members()["c-2"].state.metadata("own"), "other");
}

/// Its own answer never came: the connection on which it waited was held up by it.
#[test]
fn who_joins_while_it_waits_for_the_leader_is_answered_there_too() {
    let mut led = settled();
    joins(&mut led, "c", 1);
    joins(&mut led, "a", 1);
    joins(&mut led, "b", 1);
    led.take_told();
    led.sync("b", 3, vec![], seconds(1)).unwrap();
    joins(&mut led, "b", 1);
    assert_eq!(told(&mut led), [is("b", AGAIN), is("b", "3 own of a: 0")]);
}

/// The leader has said what each is to do, and one sends heartbeats and does not ask: nobody does its work.
#[test]
fn a_follower_that_does_not_ask_for_its_work_is_out() {
    let mut led = settled();
    joins(&mut led, "c", 1);
    joins(&mut led, "a", 1);
    joins(&mut led, "b", 1);
    led.sync("a", 3, vec![], seconds(1)).unwrap();
    led.sync("b", 3, vec![], seconds(1)).unwrap();
    for now in (5..25).step_by(5) {
        for id in ["a", "b", "c"] {
            assert_eq!(led.heartbeat(id, 3, seconds(now)), Ok(()));
        }
        assert_eq!(led.expire(seconds(now.min(21))), []);
    }
    assert_eq!(led.expire(seconds(22)), [("c".to_owned(), "did not ask what it is to do")]);
}

/// A group of one that is away was looked at without end.
#[test]
fn there_is_time_between_two_looks_at_a_group_that_waits_for_one_that_is_away() {
    let mut led = Led::new(0, "connect", seconds(0), Duration::ZERO);
    let at_once = GroupLimits { initial_delay: Duration::ZERO, ..LIMITS };
    for (id, instance) in [("a", Some("a")), ("b", None)] {
        let mut join = join_with(id, instance, &["own"]);
        join.state.rebalance_timeout_ms = 0;
        led.join(join, seconds(0), &at_once).unwrap();
    }
    led.leave("b", seconds(1)).unwrap();
    let looks = std::iter::from_fn(|| {
        let at = led.next_deadline()? + Duration::from_nanos(1);
        led.expire(at);
        (!led.members().is_empty()).then_some(at)
    });
    let looks = looks.take(100).collect::<Vec<_>>();
    assert!((5..15).contains(&looks.len()), "{looks:?}");
}

/// One that waited under the instance id is told that another has come.
#[test]
fn who_waits_is_told_that_another_has_its_place() {
    let mut led = settled();
    led.join(join_with("c-1", Some("c"), &["own"]), seconds(1), &LIMITS).unwrap();
    led.join(join_with("c-2", Some("c"), &["own"]), seconds(2), &LIMITS).unwrap();
    assert_eq!(told(&mut led), [is("c-1", "another member has come under instance id 'c'")]);
    joins(&mut led, "a", 2);
    joins(&mut led, "b", 2);
    assert_eq!(told(&mut led).len(), 3);
}

#[test]
fn one_that_has_an_instance_id_stays_in_until_its_session_is_over() {
    let mut led = settled();
    led.join(join_with("c", Some("c"), &["own"]), seconds(1), &LIMITS).unwrap();
    joins(&mut led, "a", 1);
    joins(&mut led, "b", 1);
    led.take_told();
    led.sync("a", 3, vec![], seconds(2)).unwrap();
    led.sync("c", 3, vec![], seconds(2)).unwrap();
    led.leave("b", seconds(15)).unwrap();
    led.heartbeat("c", 3, seconds(32)).unwrap_err();
    joins(&mut led, "a", 32);
    led.take_told();
    assert_eq!(led.expire(seconds(36)), []);
    assert_eq!(told(&mut led), [is("a", "4 own of a: 2")], "what c is to do is given out, too");
    let old = GroupError::OldGeneration { said: 3, actual: 4 };
    assert_eq!(led.heartbeat("c", 3, seconds(37)), Err(old));
    led.heartbeat("a", 4, seconds(43)).unwrap();
    assert_eq!(led.expire(seconds(47)), [("c".to_owned(), "was not heard of")]);
}

#[test]
fn they_go_by_what_most_like_best_of_what_all_know() {
    let mut led = Led::new(0, "connect", seconds(0), LIMITS.initial_delay);
    for (id, names) in [("a", ["x", "y", "z"]), ("b", ["y", "z", "w"]), ("c", ["z", "y", "v"])] {
        led.join(join_with(id, None, &names), seconds(0), &LIMITS).unwrap();
    }
    let other = join_with("d", None, &["x", "w"]);
    let refused = led.join(other, seconds(0), &LIMITS).unwrap_err();
    assert!(matches!(refused, GroupError::NothingInCommon { .. }), "{refused}");
    let consumer = LedJoin { protocol_type: "consumer".to_owned(), ..join_with("d", None, &["y"]) };
    let refused = led.join(consumer, seconds(0), &LIMITS).unwrap_err();
    assert!(matches!(refused, GroupError::NothingInCommon { .. }), "{refused}");
    led.expire(seconds(3));
    assert_eq!(told(&mut led)[0], is("a", "1 y of a: 3"));
}

/// The leader of many that each say much was to be told all of it, in one answer that nobody could read.
#[test]
fn all_together_do_not_say_more_than_can_be_told() {
    let mut led = Led::new(0, "connect", seconds(0), LIMITS.initial_delay);
    let much = |id: &str| {
        let mut join = join_with(id, None, &["own"]);
        join.state.protocols[0].metadata = Bytes::from(vec![0; 6 << 20]);
        join
    };
    led.join(much("a"), seconds(0), &LIMITS).unwrap();
    led.join(much("b"), seconds(0), &LIMITS).unwrap();
    let refused = led.join(much("c"), seconds(0), &LIMITS).unwrap_err();
    assert!(matches!(refused, GroupError::SaysTooMuch(..)), "{refused}");
    led.join(much("b"), seconds(0), &LIMITS).unwrap();
}

fn now(at: u64) -> Now {
    Now { since_start: seconds(at), ms: at as i64 * 1000 }
}

fn replay(log: &[Change], at: u64) -> Group {
    let mut group = Group::new("g");
    log.iter().for_each(|change| group.replay(change.clone(), seconds(at)));
    group.replayed(seconds(at));
    group
}

/// Whoever coordinates the group next knows the generation that was told, and what each is to do; what was on its way it
/// begins again.
#[test]
fn who_coordinates_next_goes_on() {
    let mut group = Group::new("g");
    let at_once = GroupLimits { initial_delay: Duration::ZERO, ..LIMITS };
    group.led_join(join_with("a", None, &["own"]), now(0), &at_once).unwrap();
    let mut log = group.take_changes();
    let mut next = replay(&log, 1);
    let again = next.with_led(now(1), |led| led.sync("a", 1, vec![], seconds(1)));
    assert_eq!(again, Err(GroupError::JoinAgain), "the leader may have given out nothing");

    group.with_led(now(0), |led| led.sync("a", 1, work(&[("a", "all")]), seconds(0))).unwrap();
    log.extend(group.take_changes());
    let mut next = replay(&log, 1);
    next.with_led(now(1), |led| led.heartbeat("a", 1, seconds(1))).unwrap();
    next.with_led(now(1), |led| led.sync("a", 1, vec![], seconds(1))).unwrap();
    assert_eq!(next.told, [Told::Synced("a".to_owned(), Ok(Bytes::from_static(b"all")))]);

    // Somebody has left: nobody does its work until all have joined.
    group.led_join(join_with("b", None, &["own"]), now(1), &LIMITS).unwrap();
    group.with_led(now(1), |led| led.leave("b", seconds(1))).unwrap();
    log.extend(group.take_changes());
    let mut next = replay(&log, 2);
    let again = next.with_led(now(2), |led| led.heartbeat("a", 1, seconds(2)));
    assert_eq!(again, Err(GroupError::JoinAgain));

    // All have left: the next ones have a later generation.
    group.with_led(now(2), |led| led.leave("a", seconds(2))).unwrap();
    log.extend(group.take_changes());
    let mut next = replay(&log, 3);
    assert_eq!((next.member_count(), next.emptied_ms(), next.led().is_none()), (0, 2000, true));
    next.led_join(join_with("c", None, &["own"]), now(3), &at_once).unwrap();
    assert_eq!(next.epoch(), 2);
}

/// Whoever joined and left before the first generation left a record that nothing took away.
#[test]
fn a_group_that_never_had_a_generation_leaves_nothing() {
    let mut group = Group::new("g");
    group.led_join(join_with("a", None, &["own"]), now(0), &LIMITS).unwrap();
    group.with_led(now(1), |led| led.leave("a", seconds(1))).unwrap();
    assert_eq!(group.take_changes().last(), Some(&Change::Group("g".to_owned(), None)));
    assert!(group.is_nothing());
}

/// Only the first of two appends is there, with the members' next generation and not the group's.
#[test]
fn what_was_written_down_by_half_is_begun_again() {
    let mut group = Group::new("g");
    let at_once = GroupLimits { initial_delay: Duration::ZERO, ..LIMITS };
    group.led_join(join_with("a", None, &["own"]), now(0), &at_once).unwrap();
    group.with_led(now(0), |led| led.sync("a", 1, vec![], seconds(0))).unwrap();
    let mut log = group.take_changes();
    group.led_join(join_with("a", None, &["own"]), now(1), &at_once).unwrap();
    let of_member = |change: &Change| matches!(change, Change::LedMember(..));
    log.extend(group.take_changes().into_iter().filter(of_member));
    let mut next = replay(&log, 2);
    let again = next.with_led(now(2), |led| led.heartbeat("a", 2, seconds(2)));
    assert_eq!((again, next.led().unwrap().generation()), (Err(GroupError::JoinAgain), 2));
}

fn served_join(group: &mut Group, id: &str, names: &[&str]) -> i32 {
    let topics = |name: &str| (name == "orders").then_some((uuid::Uuid::from_u128(7), 4));
    let profile = Profile {
        topics: std::collections::BTreeSet::from(["orders".to_owned()]),
        instance_id: Some(id.to_owned()),
        rebalance_timeout_ms: 20_000,
        classic: Some(Classic {
            session_timeout_ms: 10_000,
            protocol: "range".to_owned(),
            protocols: names.iter().map(|name| (*name).to_owned()).collect(),
        }),
        ..Profile::default()
    };
    let join = crate::broker::groups::classic::ClassicJoin {
        member: id.to_owned(),
        profile,
        owned: std::collections::BTreeSet::new(),
    };
    group.classic_join(join, now(0), &topics, &LIMITS).unwrap()
}

fn consumer(id: &str, names: &[&str]) -> LedJoin {
    LedJoin { protocol_type: "consumer".to_owned(), ..join_with(id, None, names) }
}

/// What was on its way while the group went over was refused for good: the client's program ended.
#[test]
fn who_asks_while_its_group_goes_over_joins_again() {
    let mut group = Group::new("g");
    served_join(&mut group, "z", &["own", "range"]);
    let generation = served_join(&mut group, "a", &["own", "range"]);
    let log = group.take_changes();
    // The next coordinator does not know which generation it was told.
    let mut next = replay(&log, 1);
    for group in [&mut group, &mut next] {
        group.led_join(consumer("b", &["own"]), now(1), &LIMITS).unwrap();
        let said = (Some("consumer".to_owned()), Some("range".to_owned()));
        let led = group.led().unwrap();
        assert_eq!(led.check_sync("a", generation, &said), Err(GroupError::JoinAgain));
        assert_eq!(led.check_commit("a", generation), Ok(()), "what it has done counts");
        let early = GroupError::OldGeneration { said: generation + 1, actual: generation };
        assert_eq!(led.check_commit("a", generation + 1), Err(early));
    }
    let led = group.led().unwrap();
    let gone = Err(GroupError::UnknownMember("x".to_owned()));
    assert_eq!(led.check_sync("x", generation, &(None, Some("range".to_owned()))), gone);
}

#[test]
fn a_group_does_not_go_over_for_one_that_it_cannot_take() {
    let mut group = Group::new("g");
    served_join(&mut group, "a", &["own", "range"]);
    let full = GroupLimits { most_members: 1, ..LIMITS };
    let refused = group.led_join(consumer("b", &["own"]), now(1), &full);
    assert_eq!((refused, group.members().len()), (Err(GroupError::Full(1)), 1));
}

/// From an assignor that the brokers know to one of the client's own, one member after the other: with the second round of
/// restarts nobody could join the group until all had left it.
#[test]
fn members_that_all_know_another_way_go_over_to_it() {
    let mut group = Group::new("g");
    let generation = served_join(&mut group, "a", &["own", "range"]);
    let mut log = group.take_changes();
    group.led_join(consumer("b", &["own"]), now(1), &LIMITS).unwrap();
    assert_eq!((group.members().len(), group.member_count()), (0, 2));
    log.extend(group.take_changes());
    let mut next = replay(&log, 1);
    assert_eq!(next.member_count(), 2);
    for group in [&mut group, &mut next] {
        let name = PartitionName { topic: "orders".to_owned(), partition: 0 };
        let committed = Committed {
            offset: 5,
            leader_epoch: -1,
            metadata: String::new(),
            topic_id: uuid::Uuid::from_u128(7),
            committed_ms: 0,
        };
        group.commit(("a", generation), name, committed, &LIMITS).unwrap();
        let again = group.with_led(now(2), |led| led.heartbeat("a", generation, seconds(2)));
        assert_eq!(again, Err(GroupError::JoinAgain));
    }
    group.led_join(consumer("a", &["own", "range"]), now(3), &LIMITS).unwrap();
    assert_eq!((group.told.len(), group.epoch()), (2, generation + 1));
}

#[test]
fn members_that_know_no_other_way_stay_with_the_brokers() {
    let mut group = Group::new("g");
    served_join(&mut group, "a", &["range"]);
    let refused = group.led_join(consumer("b", &["own"]), now(1), &LIMITS).unwrap_err();
    assert!(matches!(refused, GroupError::NothingInCommon { .. }), "{refused}");
    assert_eq!((group.members().len(), group.led().is_none()), (1, true));
}

#[test]
fn a_member_that_the_brokers_would_tell_what_to_read_is_refused() {
    let mut group = Group::new("g");
    group.led_join(join_with("a", None, &["own"]), now(0), &LIMITS).unwrap();
    let heartbeat = crate::broker::groups::group::Heartbeat {
        member: "b".to_owned(),
        profile: Some(Profile::default()),
        ..Default::default()
    };
    let no_topics = |_: &str| None;
    let refused = group.heartbeat(heartbeat, now(0), &no_topics, &LIMITS);
    assert_eq!(refused, Err(GroupError::IsLed));
}
