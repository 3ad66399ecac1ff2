//! The topics of a broker: on the disk, and as the event loops see them.
//!
//! A topic is a folder with a `topic.toml` (id, partitions, settings of its own) and a folder for
//! each partition. A topic exists once its `topic.toml` does; it is deleted by renaming its folder
//! into the trash, so that a crash leaves it whole or gone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use mk_storage::directory;
use mk_storage::disk::{self, Disk};
use mk_storage::error::DiskError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::partition::{Absent, Partition};
use crate::settings::{BrokerSettings, FlushPolicy, TopicSettings};

/// A topic. Event loops share it.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id: another topic of the same name has another.
    pub id: Uuid,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
    settings: ArcSwap<OwnSettings>,
    partitions: ArcSwap<Vec<Arc<Partition>>>,
}

/// A topic's own settings, and what holds for it.
#[derive(Clone, Debug)]
pub struct OwnSettings {
    /// As they were set.
    pub own: BTreeMap<String, String>,
    /// With the broker's in place of those not set.
    pub effective: TopicSettings,
}

/// All topics by name. Loads are cheap; changes come from the control thread alone.
pub type Topics = ArcSwap<BTreeMap<String, Arc<Topic>>>;

/// What `topic.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicFile {
    pub version: u32,
    pub name: String,
    pub id: Uuid,
    pub created_ms: i64,
    pub partitions: u32,
    /// Those of them that this broker has, if it has not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Vec<u32>>,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// The file that makes a folder a topic.
pub const TOPIC_FILE: &str = "topic.toml";
const TOPIC_FILE_VERSION: u32 = 1;
const MOST_BYTES: usize = 1 << 20;

/// Why a topic's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not what it should be.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Topic {
    pub(super) fn new(
        file: &TopicFile,
        defaults: &BTreeMap<String, String>,
        broker: &BrokerSettings,
        partitions: Vec<Arc<Partition>>,
    ) -> Topic {
        let own = file.settings.clone();
        let effective = TopicSettings::effective(&own, defaults, broker);
        for partition in &partitions {
            partition.set_sync_first(effective.flush == FlushPolicy::Ack);
        }
        Topic {
            name: file.name.clone(),
            id: file.id,
            created_ms: file.created_ms,
            settings: ArcSwap::from_pointee(OwnSettings { own, effective }),
            partitions: ArcSwap::from_pointee(partitions),
        }
    }

    /// Its settings now.
    pub fn settings(&self) -> Arc<OwnSettings> {
        self.settings.load_full()
    }

    /// What holds for it now.
    pub fn effective(&self) -> TopicSettings {
        self.settings.load().effective
    }

    /// Its partitions now, by number.
    pub fn partitions(&self) -> Arc<Vec<Arc<Partition>>> {
        self.partitions.load_full()
    }

    /// One of its partitions.
    pub fn partition(&self, number: u32) -> Option<Arc<Partition>> {
        self.partitions.load().get(number as usize).cloned()
    }

    pub(super) fn set_settings(
        &self,
        own: BTreeMap<String, String>,
        defaults: &BTreeMap<String, String>,
        broker: &BrokerSettings,
    ) {
        let effective = TopicSettings::effective(&own, defaults, broker);
        for partition in self.partitions.load().iter() {
            partition.set_sync_first(effective.flush == FlushPolicy::Ack);
            if let Ok(log) = partition.log() {
                log.set_settings(effective.log);
            }
        }
        self.settings.store(Arc::new(OwnSettings { own, effective }));
    }

    /// Puts partitions in the place of those of their numbers, or behind the last.
    pub(super) fn put_partitions(&self, fresh: Vec<Arc<Partition>>, effective: TopicSettings) {
        let mut all = self.partitions.load().to_vec();
        for partition in fresh {
            partition.set_sync_first(effective.flush == FlushPolicy::Ack);
            match all.get_mut(partition.number() as usize) {
                Some(place) => *place = partition,
                None => all.push(partition),
            }
        }
        self.partitions.store(Arc::new(all));
    }

    pub(super) fn file(&self) -> TopicFile {
        let partitions = self.partitions.load();
        let here = partitions.iter().filter(|p| !matches!(p.replica(), Err(Absent::Elsewhere)));
        let here: Vec<u32> = here.map(|partition| partition.number()).collect();
        let own = self.settings.load().own.clone();
        TopicFile {
            replicas: (here.len() < partitions.len()).then_some(here),
            ..TopicFile::new(&self.name, self.id, partitions.len() as u32, own, self.created_ms)
        }
    }
}

impl TopicFile {
    /// The file of a topic of which this broker has all partitions.
    pub fn new(
        name: &str,
        id: Uuid,
        partitions: u32,
        settings: BTreeMap<String, String>,
        created_ms: i64,
    ) -> Self {
        let (version, name, replicas) = (TOPIC_FILE_VERSION, name.to_owned(), None);
        TopicFile { version, name, id, created_ms, partitions, replicas, settings }
    }

    /// True if this broker has the partition.
    pub fn has_here(&self, number: u32) -> bool {
        let replicas = self.replicas.as_ref();
        number < self.partitions && replicas.is_none_or(|here| here.contains(&number))
    }

    /// Reads the file in a topic's folder; `None` if there is none, as after a crash while the
    /// topic was being made.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<TopicFile>, CatalogError> {
        let path = dir.join(TOPIC_FILE);
        let damaged = |what: String| CatalogError::Damaged { path: path.clone(), what };
        let bytes = match disk::read(disk, &path, MOST_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::at("read", &path)(error).into()),
        };
        let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        let file: TopicFile = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if file.version != TOPIC_FILE_VERSION {
            let what = format!("version {}, this mk reads {TOPIC_FILE_VERSION}", file.version);
            return Err(damaged(what));
        }
        if dir.file_name() != Some(file.name.as_ref()) {
            return Err(damaged(format!("it is the file of topic '{}'", file.name)));
        }
        Ok(Some(file))
    }

    /// Writes the file into a topic's folder.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), CatalogError> {
        let path = dir.join(TOPIC_FILE);
        let text = toml::to_string(self).map_err(|error| CatalogError::Damaged {
            path: path.clone(),
            what: error.to_string(),
        })?;
        disk::replace(disk, &path, text.as_bytes()).map_err(DiskError::at("write", &path))?;
        Ok(())
    }
}

/// Makes the folder of a partition, named and marked with its topic's id.
pub(super) fn make_partition_dir(
    disk: &dyn Disk,
    topic_dir: &Path,
    number: u32,
    topic_id: Uuid,
) -> Result<PathBuf, DiskError> {
    let dir = topic_dir.join(number.to_string());
    disk.create_dir(&dir).map_err(DiskError::at("make", &dir))?;
    directory::write_topic_id(disk, &dir, &topic_id.to_string())?;
    Ok(dir)
}

/// Kafka's rule for topic names, which keeps them names of folders: 1 to 249 characters of
/// `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
pub fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Err("a topic needs a name".to_owned())
    } else if name == "." || name == ".." {
        Err(format!("'{name}' is no name for a topic"))
    } else if name.len() > 249 {
        Err(format!("the name has {} characters, 249 are allowed", name.len()))
    } else if let Some(bad) = name.chars().find(|c| !legal(*c)) {
        let name: String = name.chars().take(60).collect();
        Err(format!(
            "'{}' has {bad:?}; letters, digits, '.', '_' and '-' are allowed",
            name.escape_debug()
        ))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_folders_are_refused() {
        for good in ["a", "orders", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a\0", "ü", "a b", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_topic_file_is_its_own_folders() {
        let disk = mk_storage::disk::MemoryDisk::new();
        let file =
            TopicFile::new("orders", Uuid::new_v4(), 3, [("flush".into(), "os".into())].into(), 5);
        let dir = Path::new("topics/orders");
        assert!(TopicFile::read(&disk, dir).unwrap().is_none());
        file.write(&disk, dir).unwrap();
        let read = TopicFile::read(&disk, dir).unwrap().unwrap();
        assert_eq!((read.id, read.partitions, read.settings), (file.id, 3, file.settings.clone()));
        file.write(&disk, Path::new("topics/other")).unwrap();
        assert!(TopicFile::read(&disk, Path::new("topics/other")).is_err());
    }
}
