//! `mkctl group describe`.

use std::io::IsTerminal;
use std::time::Duration;

use mk::client::Admin;
use serde_json::json;

use super::view::{Row, View, look};
use crate::outcome::Failure;
use crate::table;

const INTERVAL: Duration = Duration::from_secs(1);

/// Once, or each second.
pub async fn run(admin: &Admin, group: &str, watch: bool, as_json: bool) -> Result<(), Failure> {
    loop {
        let view = look(admin, group).await?;
        if as_json {
            print_json(group, &view)?;
        } else {
            print(group, &view, watch)?;
        }
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn print(name: &str, view: &View, watch: bool) -> Result<(), Failure> {
    let group = &view.group;
    let lag: u64 = view.rows.iter().filter_map(Row::lag).sum();
    let (state, members, assignor) = (&group.state, group.members.len(), &group.assignor);
    // Up to the corner, and all below goes.
    let corner = if watch && std::io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
    table::print_lines([format!(
        "{corner}group {name}  state {state}  members {members}  lag {lag}  epoch {}  assignor {assignor}",
        group.epoch
    )])?;
    let header = [
        "TOPIC",
        "PARTITION",
        "ACKED",
        "DELIVERED",
        "END",
        "LAG",
        "BEHIND",
        "IN/s",
        "OUT/s",
        "DRAINED",
        "POLLED",
        "CLIENT",
        "HOST",
        "MEMBER",
    ];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = view.rows.iter().map(|row| {
        let reader = row.reader.as_ref();
        let seconds = |ms: u64| format!("{:.1}s", ms as f64 / 1000.0);
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            or_dash(row.committed.map(|offset| offset.to_string())),
            or_dash(reader.and_then(|r| r.delivered).map(|offset| offset.to_string())),
            or_dash(row.end().map(|offset| offset.to_string())),
            or_dash(row.lag().map(|lag| lag.to_string())),
            or_dash(row.behind_ms().map(seconds)),
            or_dash(row.came().map(|came| came.to_string())),
            row.acknowledged.to_string(),
            or_dash(row.drained_in().map(|seconds| format!("in {seconds:.0}s"))),
            or_dash(reader.map(|reader| seconds(reader.polled_ms))),
            or_dash(reader.map(|reader| reader.client_id.clone())),
            or_dash(reader.map(|reader| reader.host.clone())),
            or_dash(reader.map(|reader| reader.member.clone())),
        ]
    });
    table::print(&header, &rows.collect::<Vec<_>>())?;
    let troubles = view.rows.iter().filter_map(|row| {
        let trouble = row.trouble()?;
        Some(format!("  {}:{} does not get on: {trouble}", row.topic, row.partition))
    });
    Ok(table::print_lines(troubles)?)
}

fn print_json(name: &str, view: &View) -> Result<(), Failure> {
    for row in &view.rows {
        let reader = row.reader.as_ref();
        table::print_json(&json!({
            "group": name,
            "state": view.group.state,
            "topic": row.topic,
            "partition": row.partition,
            "acked": row.committed,
            "delivered": reader.and_then(|reader| reader.delivered),
            "end": row.end(),
            "lag": row.lag(),
            "behind_ms": row.behind_ms(),
            "in_per_second": row.came(),
            "out_per_second": row.acknowledged,
            "drained_in_seconds": row.drained_in(),
            "member": reader.map(|reader| &reader.member),
            "client_id": reader.map(|reader| &reader.client_id),
            "host": reader.map(|reader| &reader.host),
            "heard_ms": reader.map(|reader| reader.heard_ms),
            "asked_ms": reader.and_then(|reader| reader.asked_ms),
            "polled_ms": reader.map(|reader| reader.polled_ms),
            "paused": reader.map(|reader| reader.paused),
            "trouble": row.trouble(),
        }))?;
    }
    Ok(())
}
