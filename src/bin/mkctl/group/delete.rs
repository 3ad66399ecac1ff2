//! `mkctl group delete`.

use mk::client::{Admin, ClientError};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::DescribeGroupResponse;
use serde_json::json;

use crate::confirm::Consent;
use crate::outcome::Failure;
use crate::report::Report;

/// One after the other: what cannot be deleted holds up no other.
pub async fn run(
    admin: &Admin,
    groups: Vec<String>,
    consent: Consent,
    as_json: bool,
) -> Result<(), Failure> {
    let mut report = Report::new(as_json);
    let mut going = Vec::new();
    for group in groups {
        match look(admin, &group).await {
            Ok(offsets) => going.push((group, offsets)),
            Err(error) => report.failed(json!({ "group": group }), &error)?,
        }
    }
    if going.is_empty() {
        return report.end();
    }
    let each = going.iter().map(|(group, offsets)| format!("{group} ({offsets} partitions)"));
    let done =
        consent.to(&format!("forget how far {} has come", each.collect::<Vec<_>>().join(", ")))?;
    for (group, offsets) in going {
        let what = json!({ "group": group, "offsets": offsets });
        if !done {
            if as_json {
                report.went_well(what, false, "")?;
            }
            continue;
        }
        match admin.delete_group(&group, None).await {
            Ok(()) => report.went_well(what, true, &format!("{group}: deleted"))?,
            Err(error) => report.failed(what, &error)?,
        }
    }
    report.end()
}

/// In how many partitions the group has an offset; an error where the broker would not forget it.
async fn look(admin: &Admin, group: &str) -> Result<usize, ClientError> {
    let described = admin.describe_group(group).await?;
    has_no_members(group, &described)?;
    Ok(described.offsets.len())
}

/// Those who read a group's records say how far it is, and nobody else.
pub fn has_no_members(name: &str, group: &DescribeGroupResponse) -> Result<(), Fault> {
    match group.members.len() {
        0 => Ok(()),
        members => {
            let what = format!("group '{name}' has {members} members");
            Err(Fault::new(ErrorCode::NON_EMPTY_GROUP, what))
        }
    }
}
