//! `mkctl group describe`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use mk::client::Admin;
use serde_json::json;

use super::view::{Row, View, look};
use crate::outcome::Failure;
use crate::table;

const INTERVAL: Duration = Duration::from_secs(1);

/// Once, or each second.
pub async fn run(admin: &Admin, group: &str, watch: bool, as_json: bool) -> Result<(), Failure> {
    let mut before: Option<View> = None;
    loop {
        let view = look(admin, group).await?;
        if as_json {
            print_json(group, &view, before.as_ref())?;
        } else {
            print(group, &view, before.as_ref(), watch)?;
        }
        if !watch {
            return Ok(());
        }
        before = Some(view);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Records a second that have come into a partition and were acknowledged since a moment before.
fn rates(row: &Row, view: &View, before: Option<&View>) -> Option<(f64, f64)> {
    let before = before?;
    let earlier =
        before.rows.iter().find(|r| r.topic == row.topic && r.partition == row.partition)?;
    let seconds = view.at.duration_since(before.at).as_secs_f64();
    let end = |row: &Row| row.progress.as_ref().ok().map(|progress| progress.end);
    let came = end(row)?.saturating_sub(end(earlier)?);
    let went = row.committed?.saturating_sub(earlier.committed?);
    Some((came as f64 / seconds, went as f64 / seconds))
}

/// Seconds until nothing is left, if less comes than goes.
fn drain(lag: u64, (came, went): (f64, f64)) -> Option<f64> {
    match lag {
        0 => Some(0.0),
        _ => (went > came).then(|| lag as f64 / (went - came)),
    }
}

fn print(name: &str, view: &View, before: Option<&View>, watch: bool) -> Result<(), Failure> {
    let group = &view.group;
    let lag: u64 = view.rows.iter().filter_map(Row::lag).sum();
    if watch && std::io::stdout().is_terminal() {
        // Up to the corner, and all below goes.
        print!("\x1b[H\x1b[J");
    }
    let (state, members, assignor) = (&group.state, group.members.len(), &group.assignor);
    println!(
        "group {name}  state {state}  members {members}  lag {lag}  epoch {}  assignor {assignor}",
        group.epoch
    );
    let mut header = vec![
        "TOPIC",
        "PARTITION",
        "ACKED",
        "DELIVERED",
        "END",
        "LAG",
        "BEHIND",
        "CLIENT",
        "HOST",
        "MEMBER",
    ];
    if watch {
        header.splice(7..7, ["IN/s", "OUT/s", "DRAINED"]);
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = view.rows.iter().map(|row| {
        let progress = row.progress.as_ref().ok();
        let reader = row.reader.as_ref();
        let mut cells = vec![
            row.topic.clone(),
            row.partition.to_string(),
            or_dash(row.committed.map(|offset| offset.to_string())),
            or_dash(reader.and_then(|r| r.delivered).map(|offset| offset.to_string())),
            or_dash(progress.map(|progress| progress.end.to_string())),
            or_dash(row.lag().map(|lag| lag.to_string())),
            or_dash(row.behind_ms().map(|ms| format!("{:.1}s", ms as f64 / 1000.0))),
        ];
        if watch {
            let rates = rates(row, view, before);
            let left = rates.zip(row.lag()).and_then(|(rates, lag)| drain(lag, rates));
            cells.push(or_dash(rates.map(|(came, _)| format!("{came:.0}"))));
            cells.push(or_dash(rates.map(|(_, went)| format!("{went:.0}"))));
            cells.push(or_dash(left.map(|seconds| format!("in {seconds:.0}s"))));
        }
        cells.push(or_dash(reader.map(|reader| reader.client_id.clone())));
        cells.push(or_dash(reader.map(|reader| reader.host.clone())));
        cells.push(or_dash(reader.map(|reader| reader.member.clone())));
        cells
    });
    table::print(&header, &rows.collect::<Vec<_>>())?;
    for row in &view.rows {
        if let Some(trouble) = row.trouble() {
            println!("  {}:{} does not get on: {trouble}", row.topic, row.partition);
        }
    }
    Ok(std::io::stdout().flush()?)
}

fn print_json(name: &str, view: &View, before: Option<&View>) -> Result<(), Failure> {
    for row in &view.rows {
        let progress = row.progress.as_ref().ok();
        let reader = row.reader.as_ref();
        let rates = rates(row, view, before);
        let left = rates.zip(row.lag()).and_then(|(rates, lag)| drain(lag, rates));
        table::print_json(&json!({
            "group": name,
            "state": view.group.state,
            "topic": row.topic,
            "partition": row.partition,
            "acked": row.committed,
            "delivered": reader.and_then(|reader| reader.delivered),
            "end": progress.map(|progress| progress.end),
            "lag": row.lag(),
            "behind_ms": row.behind_ms(),
            "in_per_second": rates.map(|(came, _)| came),
            "out_per_second": rates.map(|(_, went)| went),
            "drained_in_seconds": left,
            "member": reader.map(|reader| &reader.member),
            "client_id": reader.map(|reader| &reader.client_id),
            "host": reader.map(|reader| &reader.host),
            "heard_ms": reader.map(|reader| reader.heard_ms),
            "asked_ms": reader.and_then(|reader| reader.asked_ms),
            "trouble": row.trouble(),
        }))?;
    }
    Ok(())
}
