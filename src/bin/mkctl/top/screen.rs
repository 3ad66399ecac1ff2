//! A look as a screen: what moves most first, and what has no room is counted.

use std::cmp::Reverse;

use indicatif::HumanBytes;

use super::sample::{Sample, state_of};
use crate::table;

/// What a terminal holds.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rows: usize,
    pub columns: usize,
}

/// A table of the screen.
struct Section {
    /// What its rows are.
    noun: &'static str,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// The column that is cut where a line is too long.
    elastic: usize,
}

/// The least that is left of a name.
const LEAST_WIDTH: usize = 8;

/// All of it, as far as there is room.
pub fn frame(now: &Sample, before: Option<&Sample>, size: Size) -> Vec<String> {
    let sections = [brokers(now), topics(now, before), groups(now), clients(now)];
    layout(head(now), sections.into(), size)
}

fn layout(head: String, mut sections: Vec<Section>, size: Size) -> Vec<String> {
    sections.retain(|section| !section.rows.is_empty());
    let wanted: Vec<usize> = sections.iter().map(|section| section.rows.len()).collect();
    // A head, and an empty line and a header before each table.
    let room = size.rows.saturating_sub(1 + 2 * sections.len());
    let mut lines = vec![head];
    for (section, given) in sections.into_iter().zip(share(&wanted, room)) {
        lines.push(String::new());
        lines.extend(section.lines(given, size.columns));
    }
    lines.truncate(size.rows);
    lines.iter().map(|line| cut(line, size.columns)).collect()
}

/// A line to each in turn, until all have what they want or there are no more.
fn share(wanted: &[usize], room: usize) -> Vec<usize> {
    if wanted.iter().sum::<usize>() <= room {
        return wanted.to_vec();
    }
    let mut given = vec![0; wanted.len()];
    let mut left = room;
    while left > 0 {
        for (given, wanted) in given.iter_mut().zip(wanted) {
            if *given < *wanted && left > 0 {
                *given += 1;
                left -= 1;
            }
        }
    }
    given
}

impl Section {
    /// The header and at most so many lines, the last of which says how many are not shown.
    fn lines(mut self, most: usize, columns: usize) -> Vec<String> {
        let all = self.rows.len();
        let shown = if all > most { most.saturating_sub(1) } else { all };
        self.rows.truncate(shown);
        let mut lines = table::lines(&self.header, &self.rows);
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        if longest > columns {
            let names = self.rows.iter().map(|row| row[self.elastic].chars().count());
            let width = names.max().unwrap_or(0).saturating_sub(longest - columns);
            for row in &mut self.rows {
                row[self.elastic] = cut(&row[self.elastic], width.max(LEAST_WIDTH));
            }
            lines = table::lines(&self.header, &self.rows);
        }
        if shown < all && most > 0 {
            lines.push(format!("and {} {} more", all - shown, self.noun));
        }
        lines
    }
}

/// As much of a text as there is room for; that something is missing is seen.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut text: String = text.chars().take(width.saturating_sub(1)).collect();
    text.push('…');
    text
}

fn head(now: &Sample) -> String {
    let brokers = &now.cluster.brokers;
    let up = brokers.iter().filter(|broker| !broker.fenced).count();
    let health = now.health();
    format!(
        "brokers {up}/{}  partitions {}, {} without a leader, {} not in sync  cluster {}",
        brokers.len(),
        health.partitions,
        health.leaderless,
        health.not_in_sync,
        now.cluster.cluster_id,
    )
}

fn brokers(now: &Sample) -> Section {
    let rows = now.cluster.brokers.iter().map(|broker| {
        let (came, went) = now.traffic(broker.id);
        vec![
            broker.id.to_string(),
            broker.address.clone(),
            state_of(broker).to_owned(),
            now.leads(broker.id).to_string(),
            HumanBytes(came).to_string(),
            HumanBytes(went).to_string(),
        ]
    });
    let header = vec!["BROKER", "ADDRESS", "STATE", "LEADS", "IN/s", "OUT/s"];
    Section { noun: "brokers", header, rows: rows.collect(), elastic: 1 }
}

fn topics(now: &Sample, before: Option<&Sample>) -> Section {
    let mut rated: Vec<_> =
        now.topics.iter().map(|(name, topic)| (now.rate(name, before), name, topic)).collect();
    rated.sort_by(|a, b| rate_of(b.0).total_cmp(&rate_of(a.0)).then(a.1.cmp(b.1)));
    let rows = rated.into_iter().map(|(rate, name, topic)| {
        vec![
            name.clone(),
            topic.partitions.to_string(),
            rate_text(rate),
            topic.records.to_string(),
            HumanBytes(topic.bytes).to_string(),
        ]
    });
    let header = vec!["TOPIC", "PARTITIONS", "IN/s", "RECORDS", "SIZE"];
    Section { noun: "topics", header, rows: rows.collect(), elastic: 0 }
}

fn groups(now: &Sample) -> Section {
    let mut groups: Vec<_> = now.groups.iter().collect();
    groups.sort_by_key(|group| Reverse(group.lag()));
    let rows = groups.into_iter().map(|group| {
        let rates = group.rates();
        let behind = group.behind_ms().map(|ms| format!("{:.1}s", ms as f64 / 1000.0));
        vec![
            group.listed.group.clone(),
            group.listed.state.clone(),
            group.listed.members.to_string(),
            or_dash(group.lag()),
            behind.unwrap_or_else(|| "-".to_owned()),
            or_dash(rates.map(|(came, _)| came)),
            or_dash(rates.map(|(_, went)| went)),
        ]
    });
    let header = vec!["GROUP", "STATE", "MEMBERS", "LAG", "BEHIND", "IN/s", "OUT/s"];
    Section { noun: "groups", header, rows: rows.collect(), elastic: 0 }
}

fn clients(now: &Sample) -> Section {
    let mut clients: Vec<_> = now.clients.iter().collect();
    clients.sort_by_key(|(_, client)| Reverse(client.in_per_second + client.out_per_second));
    let rows = clients.into_iter().map(|(broker, client)| {
        vec![
            client.client_id.clone(),
            client.address.clone(),
            broker.to_string(),
            client.requests_per_second.to_string(),
            HumanBytes(client.in_per_second).to_string(),
            HumanBytes(client.out_per_second).to_string(),
        ]
    });
    let header = vec!["CLIENT", "ADDRESS", "BROKER", "REQUESTS/s", "IN/s", "OUT/s"];
    Section { noun: "clients", header, rows: rows.collect(), elastic: 0 }
}

fn or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn rate_of(rate: Option<f64>) -> f64 {
    rate.unwrap_or(0.0)
}

/// Of the first look there is none.
fn rate_text(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(noun: &'static str, count: usize) -> Section {
        let row = |n| vec![format!("{noun}-{n}-{}", "x".repeat(100)), "12".to_owned()];
        Section {
            noun,
            header: vec!["NAME", "RATE"],
            rows: (0..count).map(row).collect(),
            elastic: 0,
        }
    }

    /// On a small terminal a cluster of many topics showed its topics, and nothing of its groups.
    #[test]
    fn what_has_no_room_is_counted() {
        let size = Size { rows: 23, columns: 80 };
        let sections = vec![
            section("brokers", 3),
            section("topics", 400),
            section("groups", 2),
            section("clients", 50),
        ];
        let lines = layout("head".to_owned(), sections, size);
        assert_eq!(lines.len(), 23, "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        let starting = |with: &str| lines.iter().filter(|line| line.starts_with(with)).count();
        let shown = ["brokers-", "topics-", "groups-", "clients-"].map(starting);
        assert_eq!(shown, [3, 4, 2, 3], "{lines:#?}");
        let said = lines.join("\n");
        assert!(said.contains("and 396 topics more") && said.contains("and 47 clients more"));
        let cut = |line: &String| line.starts_with("topics-") && line.ends_with("…  12");
        assert_eq!(lines.iter().filter(|line| cut(line)).count(), 4, "{lines:#?}");
    }

    #[test]
    fn a_screen_of_any_size_will_do() {
        for (rows, columns) in [(0, 0), (1, 10), (5, 20), (usize::MAX, usize::MAX)] {
            let sections = vec![section("topics", 9), section("groups", 1), section("clients", 0)];
            let lines = layout("head".to_owned(), sections, Size { rows, columns });
            assert!(lines.len() <= rows.min(1 + 3 + 8 + 3), "{lines:#?}");
            assert!(lines.iter().all(|line| line.chars().count() <= columns.max(1)));
        }
    }
}
