//! Walks over the batches of a segment file. Checks headers and lengths; checksums are the caller's.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use mk_storage::batch::{HEADER_LEN, Header, LENGTH_OVERHEAD};
use mk_storage::disk::{View, read_fully};

/// A batch and where it begins.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its first byte in the file.
    pub position: u64,
    /// Its header.
    pub header: Header,
    /// All its bytes.
    pub bytes: Bytes,
}

/// Where a walk cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Which byte of the file.
    pub position: u64,
    /// What is there instead of a batch.
    pub what: String,
}

/// The batches of one file. Ends at the zeroes of a reserved tail, at the end, and after a break.
#[derive(Debug)]
pub struct Batches {
    view: Arc<dyn View>,
    position: u64,
    length: u64,
    ended: bool,
}

impl Batches {
    /// Those of a file from its start.
    pub fn new(view: Arc<dyn View>) -> io::Result<Batches> {
        let length = view.len()?;
        Ok(Batches { view, position: 0, length, ended: false })
    }

    /// Where the next batch begins, or the walk ended.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the file, a reserved tail included.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn step(&mut self) -> io::Result<Option<Result<Batch, Break>>> {
        let position = self.position;
        let left = self.length.saturating_sub(position);
        let mut head = [0; HEADER_LEN];
        let read = read_fully(self.view.as_ref(), position, &mut head)?;
        let head = head.get(..read).unwrap_or_default();
        if head.get(8..LENGTH_OVERHEAD).unwrap_or(head).iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let broken = |what| Ok(Some(Err(Break { position, what })));
        let header = match Header::parse(head) {
            Ok(header) => header,
            Err(error) => return broken(error.to_string()),
        };
        let size = header.size as u64;
        if size > left {
            return broken(format!("a batch of {size} bytes, {left} are left"));
        }
        let mut bytes = vec![0; header.size];
        if read_fully(self.view.as_ref(), position, &mut bytes)? < header.size {
            return broken("the file has become shorter".to_owned());
        }
        self.position += size;
        Ok(Some(Ok(Batch { position, header, bytes: Bytes::from(bytes) })))
    }
}

impl Iterator for Batches {
    type Item = io::Result<Result<Batch, Break>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step().transpose();
        self.ended = !matches!(step, Some(Ok(Ok(_))));
        step
    }
}
