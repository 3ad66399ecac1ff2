//! Who of a group is to read what.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::PartitionId;

/// A rule by which partitions are given to members.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Assignor {
    /// To all the same number, and to each as much as can be of what it has (KIP-848's `uniform`). What goes
    /// to another goes to one in whose rack there is a replica, if that makes no difference to both.
    #[default]
    Uniform,
    /// Of each topic a range to each member, so that partitions of the same number of several topics go
    /// to the same member.
    Range,
}

/// What an assignor knows of a member.
#[derive(Clone, Debug, Default)]
pub struct Applicant {
    /// The topics that it wants to read: those that there are.
    pub topics: BTreeSet<Uuid>,
    /// What it is to read by the last assignment.
    pub has: BTreeSet<PartitionId>,
    /// Its rack; empty if it has none.
    pub rack: String,
}

/// The racks that have replicas of partitions.
pub type Racks = BTreeMap<PartitionId, BTreeSet<String>>;

/// What each member is to read.
pub type Assignment = BTreeMap<String, BTreeSet<PartitionId>>;

impl Assignor {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Assignor> {
        [Assignor::Uniform, Assignor::Range].into_iter().find(|assignor| assignor.name() == name)
    }

    /// Gives each partition to one of those who want its topic; `topics` tells how many partitions each
    /// has. The same question has the same answer.
    pub fn assign(
        self,
        members: &BTreeMap<String, Applicant>,
        topics: &BTreeMap<Uuid, u32>,
        racks: &Racks,
    ) -> Assignment {
        match self {
            Assignor::Uniform => uniform(members, topics, racks),
            Assignor::Range => range(members, topics),
        }
    }
}

fn range(members: &BTreeMap<String, Applicant>, topics: &BTreeMap<Uuid, u32>) -> Assignment {
    let mut assignment: Assignment =
        members.keys().map(|member| (member.clone(), BTreeSet::new())).collect();
    for (&topic, &count) in topics {
        let wanting: Vec<&String> =
            members.iter().filter(|(_, m)| m.topics.contains(&topic)).map(|(id, _)| id).collect();
        let most = wanting.len() as u32;
        let mut next = 0;
        for (place, member) in (0..).zip(wanting) {
            let share = count / most + u32::from(place < count % most);
            let range = (next..next + share).map(|partition| PartitionId { topic, partition });
            assignment.entry(member.clone()).or_default().extend(range);
            next += share;
        }
    }
    assignment
}

fn uniform(
    members: &BTreeMap<String, Applicant>,
    topics: &BTreeMap<Uuid, u32>,
    racks: &Racks,
) -> Assignment {
    let mut free: BTreeSet<PartitionId> = topics
        .iter()
        .flat_map(|(&topic, &count)| {
            (0..count).map(move |partition| PartitionId { topic, partition })
        })
        .collect();
    let kept = members.values().map(|member| {
        let wanted = |partition: &&PartitionId| member.topics.contains(&partition.topic);
        member.has.iter().filter(wanted).copied().filter(|has| free.remove(has)).collect()
    });
    let at = members.values().map(|member| member.rack.as_str()).collect();
    let mut shares = Shares { of: kept.collect(), wanting: BTreeMap::new(), at, racks };
    for &topic in topics.keys() {
        let wanting = (0..).zip(members.values()).filter(|(_, m)| m.topics.contains(&topic));
        shares.wanting.insert(topic, wanting.map(|(place, _)| place).collect());
    }
    for partition in free {
        if let Some(least) = shares.least(partition) {
            shares.of[least].insert(partition);
        }
    }
    while shares.level() {}
    members.keys().cloned().zip(shares.of).collect()
}

/// What each member has, by its place.
struct Shares<'a> {
    of: Vec<BTreeSet<PartitionId>>,
    /// Who wants each topic.
    wanting: BTreeMap<Uuid, Vec<usize>>,
    /// The rack of each.
    at: Vec<&'a str>,
    racks: &'a Racks,
}

/// So many partitions are looked at for one that is near.
const LOOKED_AT: usize = 50;

impl Shares<'_> {
    /// Who has least of those who want a partition's topic; of several, one that it is near.
    fn least(&self, partition: PartitionId) -> Option<usize> {
        let wanting = self.wanting.get(&partition.topic).into_iter().flatten();
        let cost = |place: &usize| (self.of[*place].len(), !self.is_near(partition, *place));
        wanting.copied().min_by_key(cost)
    }

    /// True if there is a replica where the member of this place is.
    fn is_near(&self, partition: PartitionId, place: usize) -> bool {
        self.racks.get(&partition).is_some_and(|racks| racks.contains(self.at[place]))
    }

    /// What one gives to another of a topic: the last one, so that what stays is a beginning, or one that is
    /// nearer to the other.
    fn to_give(&self, topic: Uuid, rich: usize, poor: usize) -> Option<PartitionId> {
        let [first, last] = [0, u32::MAX].map(|partition| PartitionId { topic, partition });
        let mut own = self.of[rich].range(first..=last).rev().copied();
        if self.racks.is_empty() {
            return own.next();
        }
        own.take(LOOKED_AT).min_by_key(|partition| self.cost(*partition, rich, poor))
    }

    /// How much farther a partition is from one than from another who has it now; less is better.
    fn cost(&self, partition: PartitionId, rich: usize, poor: usize) -> i32 {
        i32::from(self.is_near(partition, rich)) - i32::from(self.is_near(partition, poor))
    }

    /// Takes one from whoever has most of those who have two more than another who wants the same: one at a
    /// time, so that nobody gives more than makes them even. True if anything went from one to another.
    fn level(&mut self) -> bool {
        let mut by_size: Vec<usize> = (0..self.of.len()).collect();
        by_size.sort_by_key(|place| std::cmp::Reverse(self.of[*place].len()));
        let mut asked = BTreeSet::new();
        for rich in by_size {
            let size = self.of[rich].len();
            // Those that have as much and want the same cannot give either.
            let topics: BTreeSet<Uuid> = self.of[rich].iter().map(|p| p.topic).collect();
            if !asked.insert((size, topics.clone())) {
                continue;
            }
            let mut offers = topics.into_iter().filter_map(|topic| {
                let any = PartitionId { topic, partition: 0 };
                let poor = self.least(any).filter(|poor| self.of[*poor].len() + 2 <= size)?;
                Some((self.to_give(topic, rich, poor)?, poor))
            });
            let offer = match self.racks.is_empty() {
                true => offers.next(),
                false => offers.min_by_key(|(partition, poor)| self.cost(*partition, rich, *poor)),
            };
            if let Some((partition, poor)) = offer {
                self.of[rich].remove(&partition);
                self.of[poor].insert(partition);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// Members by the topics that they want, and topics by their partitions.
    fn groups() -> impl Strategy<Value = (Vec<BTreeSet<u128>>, Vec<u32>)> {
        let members = prop::collection::vec(prop::collection::btree_set(0..4u128, 0..4), 0..8);
        (members, prop::collection::vec(0..20u32, 4))
    }

    type Question = (BTreeMap<String, Applicant>, BTreeMap<Uuid, u32>);

    fn question(wanted: &[BTreeSet<u128>], counts: &[u32], last: &Assignment) -> Question {
        let topics = (0..).zip(counts).map(|(number, count)| (topic(number), *count)).collect();
        let members = wanted.iter().enumerate().map(|(number, wanted)| {
            let id = format!("m{number}");
            let has = last.get(&id).cloned().unwrap_or_default();
            let topics = wanted.iter().map(|n| topic(*n)).collect();
            // Every other one is in either rack.
            let rack = format!("r{}", number % 2);
            (id, Applicant { topics, has, rack })
        });
        (members.collect(), topics)
    }

    /// Each partition that anybody wants has one who wants it.
    fn check_whole((members, topics): &Question, assignment: &Assignment) {
        let mut all = BTreeMap::new();
        for (id, partitions) in assignment {
            for partition in partitions {
                assert!(members[id].topics.contains(&partition.topic));
                assert!(partition.partition < topics[&partition.topic]);
                assert_eq!(all.insert(*partition, id.clone()), None, "given twice");
            }
        }
        let wanted = topics.iter().filter(|(t, _)| members.values().any(|m| m.topics.contains(t)));
        assert_eq!(all.len(), wanted.map(|(_, count)| *count as usize).sum::<usize>());
    }

    /// Nobody has two more than another who could have one of them.
    fn check_even(members: &BTreeMap<String, Applicant>, assignment: &Assignment) {
        for (rich, held) in assignment {
            for (poor, has) in assignment {
                let could = held.iter().any(|p| members[poor].topics.contains(&p.topic));
                assert!(!could || held.len() < has.len() + 2, "{rich} {held:?}, {poor} {has:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn each_partition_goes_to_one_who_wants_it((wanted, counts) in groups()) {
            for assignor in [Assignor::Uniform, Assignor::Range] {
                let asked = question(&wanted, &counts, &Assignment::new());
                check_whole(&asked, &assignor.assign(&asked.0, &asked.1, &Racks::new()));
            }
        }

        #[test]
        fn uniform_is_even_and_does_not_move_what_need_not(
            (wanted, counts) in groups(),
            (next, more) in groups(),
        ) {
            let (members, topics) = question(&wanted, &counts, &Assignment::new());
            let first = Assignor::Uniform.assign(&members, &topics, &Racks::new());
            check_even(&members, &first);
            let (members, topics) = question(&wanted, &counts, &first);
            prop_assert_eq!(&Assignor::Uniform.assign(&members, &topics, &Racks::new()), &first);
            let grown: Vec<u32> = counts.iter().zip(more).map(|(a, b)| a + b).collect();
            let asked = question(&next, &grown, &first);
            for racks in [Racks::new(), racks(&grown)] {
                let second = Assignor::Uniform.assign(&asked.0, &asked.1, &racks);
                check_whole(&asked, &second);
                check_even(&asked.0, &second);
            }
        }
    }

    /// Partitions of which every other one is in either rack.
    fn racks(counts: &[u32]) -> Racks {
        let each = (0..).zip(counts).flat_map(|(number, count)| {
            (0..*count).map(move |partition| {
                let racks = BTreeSet::from([format!("r{}", partition % 2)]);
                (PartitionId { topic: topic(number), partition }, racks)
            })
        });
        each.collect()
    }

    #[test]
    fn what_is_given_goes_where_it_is_near() {
        let all = BTreeSet::from([0u128, 1]);
        let counts = [8, 8];
        let near = |assignment: &Assignment| {
            let is_near =
                |id: &String, p: &PartitionId| id.ends_with('0') == p.partition.is_multiple_of(2);
            let each = assignment.iter();
            each.map(|(id, all)| all.iter().filter(|p| is_near(id, p)).count()).sum::<usize>()
        };
        let (two, topics) = question(&vec![all.clone(); 2], &counts, &Assignment::new());
        let fresh = Assignor::Uniform.assign(&two, &topics, &racks(&counts));
        assert_eq!(near(&fresh), 16, "{fresh:?}");
        check_even(&two, &fresh);
        // One has had all: it gives what is near to the other.
        let (one, topics) = question(std::slice::from_ref(&all), &counts, &Assignment::new());
        let before = Assignor::Uniform.assign(&one, &topics, &racks(&counts));
        let (two, topics) = question(&vec![all; 2], &counts, &before);
        let after = Assignor::Uniform.assign(&two, &topics, &racks(&counts));
        assert_eq!(near(&after), 16, "{after:?}");
        // And then nothing moves.
        let (two, topics) = question(&vec![BTreeSet::from([0u128, 1]); 2], &counts, &after);
        assert_eq!(Assignor::Uniform.assign(&two, &topics, &racks(&counts)), after);
    }

    /// A second member took seconds to get half of ten thousand partitions, and nobody in any group of the
    /// broker was heard meanwhile.
    #[test]
    fn much_is_shared_in_no_time() {
        let all = BTreeSet::from([0u128, 1, 2, 3]);
        let counts = [2500; 4];
        let (members, topics) = question(std::slice::from_ref(&all), &counts, &Assignment::new());
        let one = Assignor::Uniform.assign(&members, &topics, &Racks::new());
        let begin = std::time::Instant::now();
        let asked = question(&vec![all.clone(); 2], &counts, &one);
        let racks = racks(&counts);
        let two = Assignor::Uniform.assign(&asked.0, &asked.1, &racks);
        let asked = question(&vec![all; 100], &counts, &two);
        let hundred = Assignor::Uniform.assign(&asked.0, &asked.1, &racks);
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
        assert!(hundred.values().all(|partitions| partitions.len() == 100));
    }

    /// As few move as must: a fourth member takes a fourth of what three have.
    #[test]
    fn who_comes_takes_as_few_as_make_it_even() {
        let all = BTreeSet::from([0u128]);
        let (members, topics) = question(&vec![all.clone(); 3], &[12], &Assignment::new());
        let three = Assignor::Uniform.assign(&members, &topics, &Racks::new());
        assert!(three.values().all(|partitions| partitions.len() == 4));
        let (members, topics) = question(&vec![all; 4], &[12], &three);
        let four = Assignor::Uniform.assign(&members, &topics, &Racks::new());
        assert!(four.values().all(|partitions| partitions.len() == 3));
        assert!(three.iter().all(|(id, before)| four[id].is_subset(before)));
    }

    #[test]
    fn range_gives_the_same_numbers_of_each_topic_to_a_member() {
        let (members, topics) =
            question(&vec![BTreeSet::from([0u128, 1]); 3], &[5, 5], &Assignment::new());
        let assignment = Assignor::Range.assign(&members, &topics, &Racks::new());
        for partitions in assignment.values() {
            let of = |number| {
                let own = partitions.iter().filter(move |p| p.topic == topic(number));
                own.map(|p| p.partition).collect::<Vec<_>>()
            };
            assert_eq!(of(0), of(1));
        }
        assert_eq!(assignment["m0"].len(), 4);
        assert_eq!(assignment["m2"].len(), 2);
    }
}
