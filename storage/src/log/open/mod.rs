//! Opening a log: after a clean stop, after a killed process, after a power failure.
//!
//! Segments below the recovery point are taken as they are, once their indexes and last headers lead
//! to where the next segment begins. From the recovery point on every batch is checked. The first break
//! there ends the log: it is what a crash leaves, and nobody was promised what lies behind it. A
//! break *below* the recovery point is damage: the log is not opened, and nothing is cut.
//!
//! Every log has a checkpoint from its first moment. If it is gone, the recovery point is not known,
//! and a break with whole batches or segments behind it is taken for damage: better a partition that
//! waits for somebody to look than one that is cut.

mod judge;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use self::judge::unknown;
use super::append::note_epoch;
use super::compact::finish_swaps;
use super::survey::Survey;
use super::{Active, Log, LogSettings, Producers, Unsynced, Writer, WrittenDown};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::disk::{Disk, Pace};
use crate::error::{Corruption, DiskError, OpenError};
use crate::index::{Entry as _, OffsetEntry, TimeEntry};
use crate::mend::remove;
use crate::recover::{Scan, ScanFrom, Tail, has_batch_from, scan};
use crate::safeguard::{Safeguard, holds};
use crate::seal::Seal;
use crate::segment::{
    ENDINGS, Indexer, LOG, OFFSET_INDEX, SEAL, Segment, SegmentState, TIME_INDEX, base_of,
    file_name,
};
use crate::store::Store;
use crate::{Epoch, Offset, Position};

/// What opening a log had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of batches that were checked.
    pub bytes_scanned: u64,
    /// Bytes that were cut off: a torn tail.
    pub bytes_cut: u64,
    /// Why they were cut.
    pub cut_because: Option<String>,
    /// Indexes that were built anew from the log.
    pub indexes_rebuilt: u32,
    /// True if the checkpoint was missing or damaged, so that everything was scanned.
    pub checkpoint_rebuilt: bool,
    /// Records that were safe are gone from here on. What lies before can be read; the log takes
    /// nothing more, and nothing on the disk was changed, but that a compaction that had been
    /// interrupted was finished.
    pub damage: Option<Corruption>,
}

impl Log {
    /// Opens the log in the folder `dir`, making it if there is none; `now_ms` is the time in
    /// milliseconds since 1970.
    pub fn open(
        store: &Arc<Store>,
        dir: &Path,
        settings: LogSettings,
        now_ms: i64,
    ) -> Result<(Arc<Log>, Recovery), OpenError> {
        let mut opening = Opening::new(store, dir, settings, now_ms)?;
        let start = opening.start();
        let writer = match opening.open_all(start) {
            Err(OpenError::Corrupt(damage)) if opening.next >= start => {
                opening.set_aside(damage)?
            }
            done => done?,
        };
        let end = opening.next;
        let Opening { store, dir, settings, recovery, segments, checkpoint, .. } = opening;
        let recovery_point = checkpoint.as_ref().map_or(start, |found| found.recovery_point);
        let high_watermark = checkpoint.as_ref().map_or(start, |found| found.high_watermark);
        let log = Log {
            store,
            dir,
            settings: ArcSwap::from_pointee(settings),
            segments: ArcSwap::from_pointee(segments),
            start: AtomicU64::new(start.0),
            end: AtomicU64::new(end.0),
            synced: AtomicU64::new(recovery_point.min(end).0),
            high_watermark: AtomicU64::new(high_watermark.min(end).0),
            writer: Mutex::new(writer),
            compacting: Mutex::new(()),
            changing: Mutex::new(()),
            flushing: Mutex::new(checkpoint),
            used: AtomicBool::new(false),
            damaged: recovery.damage.is_some(),
            retired: AtomicBool::new(false),
        };
        if recovery.checkpoint_rebuilt && !log.damaged {
            log.vouch_for_all()?;
        }
        if !log.damaged {
            log.load_producers(now_ms)?;
        }
        Ok((Arc::new(log), recovery))
    }

    /// Syncs a log that was checked whole, and writes the checkpoint that it lacked: from now on
    /// what it has can be told from what comes.
    fn vouch_for_all(&self) -> Result<(), DiskError> {
        for segment in self.segments().iter() {
            segment.sync()?;
            segment.sync_indexes()?;
        }
        self.store.disk().sync_dir(&self.dir).map_err(DiskError::at("sync", &self.dir))?;
        self.synced.store(self.end().0, Ordering::Release);
        self.write_checkpoint(&mut self.flushing.lock(), self.end(), self.epochs())
    }
}

struct Opening {
    store: Arc<Store>,
    dir: PathBuf,
    settings: LogSettings,
    now_ms: i64,
    checkpoint: Option<Checkpoint>,
    bases: Vec<Offset>,
    segments: Vec<Arc<Segment>>,
    recovery: Recovery,
    epochs: Vec<(Epoch, Offset)>,
    /// Offset and epoch that follow the segments opened so far.
    next: Offset,
    epoch: Epoch,
}

impl Opening {
    fn new(
        store: &Arc<Store>,
        dir: &Path,
        settings: LogSettings,
        now_ms: i64,
    ) -> Result<Opening, OpenError> {
        let disk = store.disk();
        disk.create_dir(dir).map_err(DiskError::at("make", dir))?;
        let mut bases = Vec::new();
        for entry in finish_swaps(disk, dir)? {
            bases.extend(base_of(&entry.name, LOG));
        }
        let mut recovery = Recovery::default();
        let checkpoint = match Checkpoint::read(disk, dir) {
            Ok(checkpoint) => checkpoint,
            Err(CheckpointError::Damaged(_)) => None,
            Err(CheckpointError::Io(error)) => {
                return Err(DiskError::at("read the checkpoint in", dir)(error).into());
            }
            Err(error @ CheckpointError::Version { .. }) => {
                return Err(DiskError::at("read the checkpoint in", dir)(std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    error,
                ))
                .into());
            }
        };
        recovery.checkpoint_rebuilt = checkpoint.is_none() && !bases.is_empty();
        let mut epochs = checkpoint.as_ref().map(|found| found.epochs.clone()).unwrap_or_default();
        // Those of records that may be lost are found again with the records.
        let vouched = checkpoint.as_ref().map_or(Offset(0), |found| found.recovery_point);
        epochs.retain(|(_, start)| *start < vouched);
        Ok(Opening {
            store: store.clone(),
            dir: dir.to_owned(),
            settings,
            now_ms,
            checkpoint,
            bases,
            segments: Vec::new(),
            recovery,
            epochs,
            next: Offset(0),
            epoch: Epoch(i32::MIN),
        })
    }

    /// Records below this offset were synced, and are not trimmed: none may be missing.
    fn vouched(&self) -> Offset {
        let recovery_point = self.recovery_point();
        if recovery_point <= self.start() { Offset(0) } else { recovery_point }
    }

    fn disk(&self) -> &dyn Disk {
        self.store.disk()
    }

    fn open_all(&mut self, start: Offset) -> Result<Writer, OpenError> {
        let bases = self.bases.clone();
        if bases.first().is_none_or(|first| *first > start) {
            return self.begin(start, &bases);
        }
        let trimmed = bases.windows(2).take_while(|pair| pair[1] <= start).count();
        self.remove(&bases[..trimmed])?;
        let writer = self.open_segments(&bases[trimmed..])?;
        if self.next >= start { Ok(writer) } else { self.begin(start, &bases[trimmed..]) }
    }

    /// Keeps what lies before the damage, to be read.
    fn set_aside(&mut self, damage: Corruption) -> Result<Writer, OpenError> {
        let Some(last) = self.segments.last() else { return Err(damage.into()) };
        self.epochs.retain(|(_, first)| *first < self.next);
        let indexer = Indexer::new(last.base(), self.settings.index_interval_bytes);
        let state = SegmentState { end: last.end(), indexer, first_append_ms: None };
        let mut writer = self.writer(state);
        writer.poison(&damage);
        self.recovery.damage = Some(damage);
        Ok(writer)
    }

    fn recovery_point(&self) -> Offset {
        self.checkpoint.as_ref().map_or(Offset(0), |checkpoint| checkpoint.recovery_point)
    }

    /// The first offset that is served.
    fn start(&self) -> Offset {
        let first = self.bases.first().copied().unwrap_or_default();
        self.checkpoint.as_ref().map_or(first, |checkpoint| checkpoint.log_start)
    }

    /// Makes the first segment, which begins at `start`: of a new log, or of one of which nothing
    /// is left but `others`, which were trimmed or lie behind a hole, and nothing else was synced.
    fn begin(&mut self, start: Offset, others: &[Offset]) -> Result<Writer, OpenError> {
        if self.recovery_point() > start {
            let first =
                others.first().map_or("there is none".to_owned(), |first| first.to_string());
            let what = format!("the log starts at {start}, its first segment at {first}");
            return Err(self.lost(&self.dir, Position(0), start, what).into());
        }
        self.segments.clear();
        self.epochs = self.checkpoint.as_ref().map_or(Vec::new(), |found| found.epochs.clone());
        self.epochs.retain(|(_, first)| *first < start);
        let (trimmed, behind) = others.split_at(others.partition_point(|base| *base < start));
        self.remove_from(behind, "records before it are missing")?;
        self.remove(trimmed)?;
        if self.checkpoint.is_none() {
            Checkpoint::default()
                .write(self.disk(), &self.dir)
                .map_err(DiskError::at("write the checkpoint in", &self.dir))?;
        }
        let (segment, mut active) = Segment::create(&self.store, &self.dir, start, &self.settings)?;
        self.disk().sync_dir(&self.dir).map_err(DiskError::at("sync", &self.dir))?;
        let state = active.trim(&segment)?;
        segment.take_back();
        self.segments.push(Arc::new(segment));
        self.next = start;
        Ok(self.writer(state))
    }

    fn open_segments(&mut self, bases: &[Offset]) -> Result<Writer, OpenError> {
        let recovery_point = self.recovery_point();
        self.next = bases[0];
        let mut last = None;
        for (at, &base) in bases.iter().enumerate() {
            if base != self.next && holds(Safeguard::Contiguity) {
                self.refuse_overlap(base)?;
                self.refuse_loss(base)?;
                self.refuse_to_guess("records are missing")?;
                self.remove_from(&bases[at..], "records before it are missing")?;
                break;
            }
            let next_base = bases.get(at + 1).copied();
            if let Some(seal) = self.seal_that_holds(base, next_base)? {
                self.push_sealed(seal);
                continue;
            }
            let known_end = next_base.unwrap_or(Offset(u64::MAX)).min(recovery_point).max(base);
            let (survey, broken) = self.open_segment(base, known_end, next_base)?;
            last = Some((base, survey));
            if let Some(reason) = broken {
                self.recovery.cut_because.get_or_insert(reason);
                self.remove_from(&bases[at + 1..], "the log ends before it")?;
                break;
            }
        }
        self.refuse_loss(recovery_point)?;
        self.epochs.retain(|(_, start)| *start < self.next);
        let Some(base) = self.segments.last().map(|segment| segment.base()) else {
            return Err(self.lost(&self.dir, Position(0), self.next, "no segment".into()).into());
        };
        let survey = match last {
            Some((last, survey)) if last == base => survey,
            _ => self.unseal(base)?,
        };
        Ok(self.writer(survey.state(self.now_ms)))
    }

    /// The seal of the segment at `base`, if its files are as long as the seal says, and are
    /// followed by the segment that it names. Nothing else of them is looked at.
    fn seal_that_holds(
        &self,
        base: Offset,
        next_base: Option<Offset>,
    ) -> Result<Option<Seal>, DiskError> {
        let disk = self.disk();
        let path = self.dir.join(file_name(base, SEAL));
        let seal = Seal::read(disk, &self.dir, base).map_err(DiskError::at("read", &path))?;
        let follows =
            |seal: &Seal| Some(seal.next) == next_base && seal.next <= self.recovery_point();
        let Some(seal) = seal.filter(follows) else { return Ok(None) };
        let lengths = [
            (LOG, seal.length.0),
            (OFFSET_INDEX, u64::from(seal.offset_entries) * OffsetEntry::SIZE as u64),
            (TIME_INDEX, u64::from(seal.time_entries) * TimeEntry::SIZE as u64),
        ];
        let fits = |(ending, expected)| {
            let path = self.dir.join(file_name(base, ending));
            disk.length(&path).is_ok_and(|length| length == expected)
        };
        Ok(lengths.into_iter().all(fits).then_some(seal))
    }

    /// Takes a segment up to where it is damaged, and leaves its files as they are.
    fn push_unmended(&mut self, base: Offset, survey: &Survey) -> Result<(), DiskError> {
        let counts = survey.counts_in_files(self.disk(), &self.dir, base)?;
        let state = survey.state(self.now_ms);
        let segment = Segment::open(&self.store, &self.dir, base, &state, counts);
        segment.set_damaged();
        self.segments.push(Arc::new(segment));
        self.next = survey.next;
        Ok(())
    }

    fn push_sealed(&mut self, seal: Seal) {
        self.segments.push(Arc::new(Segment::sealed(&self.store, &self.dir, seal, &self.settings)));
        self.next = seal.next;
        self.epoch = seal.epoch.max(self.epoch);
    }

    /// The last segment is appended to, so it may have a seal no more.
    fn unseal(&mut self, base: Offset) -> Result<Survey, OpenError> {
        remove(self.disk(), &self.dir.join(file_name(base, SEAL)))?;
        self.disk().sync_dir(&self.dir).map_err(DiskError::at("sync", &self.dir))?;
        self.segments.pop();
        self.next = base;
        let known_end = self.recovery_point();
        Ok(self.open_segment(base, known_end, None)?.0)
    }

    /// Opens the segment at `base`, of which everything before `known_end` was synced. Answers what
    /// is known of it, and why the log ends in it if it does.
    fn open_segment(
        &mut self,
        base: Offset,
        known_end: Offset,
        next_base: Option<Offset>,
    ) -> Result<(Survey, Option<String>), OpenError> {
        let store = self.store.clone();
        let disk = store.disk();
        let survey = Survey::before(disk, &self.dir, base, &self.settings, known_end)?;
        let closed = next_base.is_some();
        match survey {
            Some(survey) if next_base == Some(survey.next) && survey.times_are_complete() => {
                if survey.offsets.is_empty() || survey.times.is_empty() {
                    // Too short to need entries; still, the files must be there.
                    self.recovery.indexes_rebuilt += survey.mend_indexes(disk, &self.dir, base)?;
                }
                let only_reserved = self.refuse_more(base, &survey)?;
                survey.cut_reserved(disk, &self.dir, base, only_reserved)?;
                self.push(base, &survey);
                Ok((survey, None))
            }
            Some(survey) => self.scan_rest(base, survey, closed),
            None => self.scan_rest(base, Survey::nothing(base, &self.settings), closed),
        }
    }

    /// Checks a segment behind what is known of it, mends its indexes and cuts its tail.
    fn scan_rest(
        &mut self,
        base: Offset,
        mut survey: Survey,
        closed: bool,
    ) -> Result<(Survey, Option<String>), OpenError> {
        let path = self.dir.join(file_name(base, LOG));
        let view = self.disk().view(&path).map_err(DiskError::at("open", &path))?;
        let epoch = survey.epoch.max(self.epoch);
        let from = ScanFrom { position: survey.end, offset: survey.next, epoch };
        let epochs = &mut self.epochs;
        let result = scan(view.as_ref(), from, |position, header, _| {
            survey.add(position, header);
            note_epoch(epochs, header.leader_epoch, header.base_offset);
        });
        let Scan { end, next, tail, .. } = result.map_err(DiskError::at("scan", &path))?;
        self.recovery.bytes_scanned += end.0 - from.position.0;
        // A sync that failed before the restart may have left pages that count as clean and are not
        // on the disk: a later sync would vouch for them.
        if holds(Safeguard::Rewrite) {
            let rewritten = self.disk().rewrite(&path, from.position.0, end.0);
            rewritten.map_err(DiskError::at("write again", &path))?;
        }
        let broken = match tail {
            Tail::Clean => None,
            Tail::Broken { reason, .. } if next < self.vouched() => {
                self.push_unmended(base, &survey)?;
                return Err(self.lost(&path, end, next, reason).into());
            }
            Tail::Broken { reason, .. }
                if self.checkpoint.is_none()
                    && (closed
                        || has_batch_from(view.as_ref(), end.plus(1), next)
                            .map_err(DiskError::at("scan", &path))?) =>
            {
                self.push_unmended(base, &survey)?;
                return Err(self.lost(&path, end, next, unknown(&reason)).into());
            }
            Tail::Broken { reason, used } => {
                self.recovery.bytes_cut += used;
                Some(format!("{} byte {end}, offset {next}: {reason}", path.display()))
            }
        };
        if closed {
            survey.times.extend(survey.indexer.last_time_entry());
        }
        self.mend_files(base, &survey)?;
        self.push(base, &survey);
        Ok((survey, broken))
    }

    /// Writes the indexes where they differ from what was found, and cuts and syncs the log file.
    fn mend_files(&mut self, base: Offset, survey: &Survey) -> Result<(), DiskError> {
        self.recovery.indexes_rebuilt += survey.mend_indexes(self.disk(), &self.dir, base)?;
        let path = self.dir.join(file_name(base, LOG));
        let cut = self.disk().append_to(&path, survey.end.0, Pace::NONE);
        cut.map_err(DiskError::at("cut", &path)).map(drop)
    }

    fn push(&mut self, base: Offset, survey: &Survey) {
        let state = survey.state(self.now_ms);
        let segment = Segment::open(&self.store, &self.dir, base, &state, survey.counts());
        self.segments.push(Arc::new(segment));
        self.next = survey.next;
        self.epoch = survey.epoch.max(self.epoch);
    }

    /// Removes segments behind the end of the log, and counts them as cut.
    fn remove_from(&mut self, bases: &[Offset], why: &str) -> Result<(), DiskError> {
        for &base in bases {
            let path = self.dir.join(file_name(base, LOG));
            // One that is gone was counted when it went.
            self.recovery.bytes_cut += self.disk().length(&path).unwrap_or(0);
            let because = || format!("{}: {why}", path.display());
            self.recovery.cut_because.get_or_insert_with(because);
        }
        self.remove(bases)
    }

    /// Removes segments, the last first, so that what a crash leaves of them has no hole.
    fn remove(&self, bases: &[Offset]) -> Result<(), DiskError> {
        if bases.is_empty() {
            return Ok(());
        }
        for &base in bases.iter().rev() {
            for ending in ENDINGS {
                remove(self.disk(), &self.dir.join(file_name(base, ending)))?;
            }
        }
        self.disk().sync_dir(&self.dir).map_err(DiskError::at("sync", &self.dir))
    }

    /// The closed segments that no recovery point vouches for: the first flush syncs them.
    fn unsynced(&self) -> Vec<Unsynced> {
        let next_bases = self.segments.iter().skip(1).map(|next| next.base());
        let closed = self.segments.iter().zip(next_bases);
        let beyond = closed.filter(|(_, next_base)| *next_base > self.recovery_point());
        let unsynced = |segment: &Arc<Segment>| Unsynced {
            segment: segment.clone(),
            writer: None,
            producers: None,
        };
        beyond.map(|(segment, _)| unsynced(segment)).collect()
    }

    /// Opened logs are parked: the first append opens the files to write.
    fn writer(&self, state: SegmentState) -> Writer {
        Writer {
            active: Active::Parked(state),
            unsynced: self.unsynced(),
            names_unsynced: true,
            epochs: self.epochs.clone(),
            producers: Producers::default(),
            written_down: WrittenDown::default(),
            poisoned: None,
        }
    }
}
