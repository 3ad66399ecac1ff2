//! `mkctl group`: who reads what, and how far they have come.

pub mod args;
pub mod consume;
mod delete;
mod describe;
mod members;
mod seek;
pub mod view;

use mk::client::{Admin, Cluster};
use serde_json::json;

use crate::outcome::{Failure, describe as describe_error};
use crate::table;
use args::GroupCommand;

pub async fn run(cluster: &Cluster, command: GroupCommand) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    match command {
        GroupCommand::List { json } => list(&admin, json).await,
        GroupCommand::Describe { group, watch, json } => {
            describe::run(&admin, &group, watch, json).await
        }
        GroupCommand::Members { group, json } => members::run(&admin, &group, json).await,
        GroupCommand::Seek { group, to, topics, partitions, consent, json } => {
            let wanted = seek::Wanted { topics, partitions };
            seek::run(cluster, &group, &to, &wanted, (consent, json)).await
        }
        GroupCommand::Delete { groups, consent, json } => {
            delete::run(&admin, groups, consent, json).await
        }
    }
}

async fn list(admin: &Admin, json: bool) -> Result<(), Failure> {
    let (groups, failed) = admin.list_groups().await?;
    if json {
        for group in groups {
            table::print_json(&json!({
                "group": group.group,
                "state": group.state,
                "type": group.group_type,
                "protocol_type": group.protocol_type,
                "members": group.members,
                "offsets": group.offsets,
            }))?;
        }
    } else {
        let rows = groups.into_iter().map(|group| {
            let (members, offsets) = (group.members.to_string(), group.offsets.to_string());
            vec![group.group, group.state, group.group_type, group.protocol_type, members, offsets]
        });
        let header = ["GROUP", "STATE", "TYPE", "PROTOCOL", "MEMBERS", "OFFSETS"];
        table::print(&header, &rows.collect::<Vec<_>>())?;
    }
    for (broker, error) in &failed {
        say!("mkctl: the groups of broker {broker} are missing: {}", describe_error(error));
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}
