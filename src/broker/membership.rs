//! What a broker writes down of its life in the cluster: the newest state that its disk follows, and on
//! which boot of the machine it ran. By it a start knows what may have been lost, and refuses a
//! mini-zookeeper that was put back to an older state.

use std::path::Path;

use mk_storage::disk::{self, Disk};
use mk_storage::error::DiskError;
use serde::{Deserialize, Serialize};

use crate::zoo::state::Restart;

/// The file in the data directory.
pub const MEMBERSHIP_FILE: &str = "membership.toml";
const VERSION: u32 = 1;
const MOST_BYTES: usize = 64 << 10;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    version: u32,
    /// The newest state of the cluster that all of this directory follows.
    pub state_version: u64,
    /// The boot of the machine; empty where the system does not tell.
    pub boot_id: String,
    /// True for a broker of a cluster with a mini-zookeeper of its own; false for one that stands alone.
    pub of_cluster: bool,
    /// True from a start after which records may be missing until the cluster has been told.
    pub lost_unsynced: bool,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not what it should be.
    #[error(
        "{MEMBERSHIP_FILE} is damaged: {0}\nhint: without it the broker counts as one that lost its records"
    )]
    Damaged(String),
    /// The broker was started without a mini-zookeeper to ask, and is one of several.
    #[error(
        "the data directory belongs to a broker of a cluster, and would be led without the others\n\
         hint: start it with --zoo; to rescue what it has, use a copy with of_cluster = false in \
         {MEMBERSHIP_FILE}"
    )]
    OfCluster,
}

impl Membership {
    /// What is written down in a data directory, if anything is.
    pub fn read(disk: &dyn Disk, data: &Path) -> Result<Option<Membership>, MembershipError> {
        let path = data.join(MEMBERSHIP_FILE);
        let bytes = match disk::read(disk, &path, MOST_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::at("read", &path)(error).into()),
        };
        let damaged = |what: String| MembershipError::Damaged(what);
        let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        let found: Membership =
            toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if found.version != VERSION {
            return Err(damaged(format!("version {}, this mk reads {VERSION}", found.version)));
        }
        Ok(Some(found))
    }

    /// What holds from now on.
    pub fn now(state_version: u64, of_cluster: bool) -> Membership {
        let (version, boot_id, lost_unsynced) = (VERSION, boot_id(), false);
        Membership { version, state_version, boot_id, of_cluster, lost_unsynced }
    }

    /// Writes it down.
    pub fn write(&self, disk: &dyn Disk, data: &Path) -> Result<(), MembershipError> {
        let path = data.join(MEMBERSHIP_FILE);
        let text =
            toml::to_string(self).map_err(|error| MembershipError::Damaged(error.to_string()))?;
        Ok(disk::replace(disk, &path, text.as_bytes()).map_err(DiskError::at("write", &path))?)
    }
}

/// What a broker that starts may have lost. When only its process died, all that it had written is
/// there; when the machine did, what was not synced may be gone.
pub fn restart(before: Option<&Membership>, stopped_clean: bool) -> Restart {
    match before {
        None => Restart::LostAll,
        Some(before) if before.lost_unsynced => Restart::LostUnsynced,
        Some(_) if stopped_clean => Restart::Kept,
        Some(before) if !before.boot_id.is_empty() && before.boot_id == boot_id() => Restart::Kept,
        Some(_) => Restart::LostUnsynced,
    }
}

/// Refuses to have a broker of a cluster lead what it has by itself: the others go on without it, in the
/// same epochs.
pub fn check_alone(before: Option<&Membership>, alone: bool) -> Result<(), MembershipError> {
    match before {
        Some(before) if alone && before.of_cluster => Err(MembershipError::OfCluster),
        _ => Ok(()),
    }
}

/// Writes down that records may be missing, before anything can make this start look like one after a
/// stop in good order.
pub fn note_loss(
    disk: &dyn Disk,
    data: &Path,
    before: Option<&Membership>,
    restart: Restart,
) -> Result<(), MembershipError> {
    match before {
        // Without the file all counts as lost, and it is not written before the cluster knows.
        Some(before) if restart != Restart::Kept && !before.lost_unsynced => {
            Membership { lost_unsynced: true, ..before.clone() }.write(disk, data)
        }
        _ => Ok(()),
    }
}

/// Tells the boots of a machine apart (random(4)); empty on systems that do not tell.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map_or(String::new(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use mk_storage::disk::MemoryDisk;

    use super::*;

    #[test]
    fn what_was_lost_is_told_by_the_boot_and_the_stop() {
        let disk = MemoryDisk::new();
        let data = Path::new("data");
        assert_eq!(Membership::read(&disk, data).unwrap(), None);
        let now = Membership::now(7, true);
        now.write(&disk, data).unwrap();
        assert_eq!(Membership::read(&disk, data).unwrap(), Some(now.clone()));
        let other = Membership { boot_id: "another".to_owned(), ..now.clone() };
        assert_eq!(restart(None, true), Restart::LostAll);
        assert_eq!(restart(Some(&other), true), Restart::Kept);
        assert_eq!(restart(Some(&other), false), Restart::LostUnsynced);
        let unknown = Membership { boot_id: String::new(), ..now.clone() };
        assert_eq!(restart(Some(&unknown), false), Restart::LostUnsynced);
        if !now.boot_id.is_empty() {
            assert_eq!(restart(Some(&now), false), Restart::Kept);
        }
    }

    /// A broker of a cluster that was started without `--zoo` led all that it had, in epochs that the
    /// cluster gave to others.
    #[test]
    fn a_broker_of_a_cluster_does_not_stand_alone() {
        let of_cluster = Membership::now(7, true);
        let refused = check_alone(Some(&of_cluster), true);
        assert!(matches!(refused, Err(MembershipError::OfCluster)));
        for (before, alone) in [
            (Some(of_cluster), false),
            (Some(Membership::now(7, false)), true),
            (Some(Membership::now(7, false)), false),
            (None, true),
        ] {
            check_alone(before.as_ref(), alone).unwrap();
        }
    }

    /// A machine lost its power; the broker started, could not reach the mini-zookeeper, and was stopped
    /// in good order. Its next start said that nothing was lost, and it was elected.
    #[test]
    fn a_loss_is_known_until_the_cluster_has_been_told() {
        let disk = MemoryDisk::new();
        let data = Path::new("data");
        let before = Membership { boot_id: "another".to_owned(), ..Membership::now(7, true) };
        before.write(&disk, data).unwrap();
        let first = restart(Some(&before), false);
        note_loss(&disk, data, Some(&before), first).unwrap();
        let then = Membership::read(&disk, data).unwrap().unwrap();
        assert_eq!((then.state_version, &then.boot_id), (7, &before.boot_id));
        assert_eq!(restart(Some(&then), true), Restart::LostUnsynced);
        Membership::now(8, true).write(&disk, data).unwrap();
        let told = Membership::read(&disk, data).unwrap().unwrap();
        assert_eq!(restart(Some(&told), true), Restart::Kept);
        // A directory that was wiped stays one until the cluster knows.
        let empty = MemoryDisk::new();
        note_loss(&empty, data, None, Restart::LostAll).unwrap();
        assert_eq!(Membership::read(&empty, data).unwrap(), None);
    }
}
