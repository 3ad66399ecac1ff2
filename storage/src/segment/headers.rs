//! Walking over the headers of a segment.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::batch::{HEADER_LEN, Header};
use crate::disk::{View, read_fully};
use crate::error::{Corruption, DiskError, ReadError};
use crate::{Offset, Position};

/// Walks over the headers of a segment's batches, each with its position. Ends after an error.
#[derive(Debug)]
pub struct Headers<'a> {
    view: Arc<dyn View>,
    path: &'a Path,
    position: Position,
    end: Position,
    /// The file's bytes from `at` on.
    buffer: Vec<u8>,
    at: Position,
}

/// Bytes read at once when walking: about what lies between two index entries.
const WALK_CHUNK: usize = 4096;

impl<'a> Headers<'a> {
    /// The headers in the file `path` from byte `from`, where a batch must begin, to byte `end`.
    pub fn new(view: Arc<dyn View>, path: &'a Path, from: Position, end: Position) -> Headers<'a> {
        Headers { view, path, position: from, end, buffer: Vec::new(), at: from }
    }

    fn step(&mut self) -> Result<(Position, Header), ReadError> {
        let position = self.position;
        let path = self.path;
        let damaged = |offset, what| Corruption { file: path.to_owned(), position, offset, what };
        let bytes = self.bytes_here().map_err(DiskError::at("read", path))?;
        let header = Header::parse(bytes).map_err(|error| damaged(Offset(0), error.to_string()))?;
        let next = position.plus(header.size as u64);
        if next > self.end {
            let what = format!("a batch of {} bytes beyond the end {}", header.size, self.end);
            return Err(damaged(header.base_offset, what).into());
        }
        self.position = next;
        Ok((position, header))
    }

    /// The bytes at the walk's place, a header's worth if the file has it.
    fn bytes_here(&mut self) -> io::Result<&[u8]> {
        let skipped = (self.position.0 - self.at.0) as usize;
        if self.buffer.len() < skipped + HEADER_LEN {
            let left = (self.end.0 - self.position.0) as usize;
            self.buffer.resize(WALK_CHUNK.min(left), 0);
            self.at = self.position;
            let read = read_fully(self.view.as_ref(), self.position.0, &mut self.buffer)?;
            self.buffer.truncate(read);
            return Ok(&self.buffer);
        }
        Ok(&self.buffer[skipped..])
    }
}

impl Iterator for Headers<'_> {
    type Item = Result<(Position, Header), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.end {
            return None;
        }
        let item = self.step();
        if item.is_err() {
            self.position = self.end;
        }
        Some(item)
    }
}
