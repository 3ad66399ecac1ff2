//! Fields of Kafka's protocol: big-endian, in the old form or the compact one (KIP-482). Every length is held
//! against the bytes that are there before anything is reserved for it.

use uuid::Uuid;

use crate::codec::{DecodeError, MAX_LIST};

/// Bytes that are being read. Invariant: `at <= bytes.len()`.
#[derive(Clone, Debug)]
pub struct KafkaReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Lengths are compact, and structs end with tags.
    flexible: bool,
    /// How many items its lists have until now, those of inner ones, too. Invariant: `items <= MAX_LIST`.
    items: usize,
    /// How many tags it has had. Invariant: `tags <= MOST_TAGS`.
    tags: u32,
}

/// Most tags of a request; clients send none that brokers do not know, and in memory one can take 400 bytes.
const MOST_TAGS: u32 = 1000;

/// Bytes that are being written.
#[derive(Debug)]
pub struct KafkaWriter {
    bytes: Vec<u8>,
    flexible: bool,
}

impl<'a> KafkaReader<'a> {
    /// Reads fields of the old form, or of the flexible one.
    pub fn new(bytes: &'a [u8], flexible: bool) -> KafkaReader<'a> {
        KafkaReader { bytes, at: 0, flexible, items: 0, tags: 0 }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Where the next field begins.
    pub fn position(&self) -> usize {
        self.at
    }

    /// True if the fields are of the flexible form.
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// All was read, or an error.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.rest().len() {
            0 => Ok(()),
            extra => Err(DecodeError::Extra { extra }),
        }
    }

    /// Takes `count` bytes.
    pub fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let (at, rest) = (self.at, self.rest());
        let short = DecodeError::Short { what, at, needed: count, have: rest.len() };
        let taken = rest.get(..count).ok_or(short)?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(what, N)?);
        Ok(array)
    }

    fn invalid(&self, what: &'static str, at: usize, found: i64) -> DecodeError {
        DecodeError::Invalid { what, at, found: found as u64 }
    }

    /// An `INT8`.
    pub fn i8(&mut self, what: &'static str) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array(what)?))
    }

    /// A `BOOLEAN`: anything but 0 is true.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        Ok(self.i8(what)? != 0)
    }

    /// An `INT16`.
    pub fn i16(&mut self, what: &'static str) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    /// An `INT32`.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    /// An `INT64`.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// A `UUID`.
    pub fn uuid(&mut self, what: &'static str) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.array(what)?))
    }

    /// An `UNSIGNED_VARINT` of at most 32 bits.
    pub fn varint(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let at = self.at;
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(what)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| self.invalid(what, at, value as i64));
            }
        }
        Err(self.invalid(what, at, value as i64))
    }

    /// A length; none: null. `plain` reads it in the old form.
    fn length(
        &mut self,
        what: &'static str,
        plain: impl FnOnce(&mut KafkaReader<'a>) -> Result<i64, DecodeError>,
    ) -> Result<Option<usize>, DecodeError> {
        let at = self.at;
        let length = if self.flexible { i64::from(self.varint(what)?) - 1 } else { plain(self)? };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.invalid(what, at, length)),
        }
    }

    /// A `NULLABLE_STRING`, compact or not.
    pub fn nullable_string(&mut self, what: &'static str) -> Result<Option<&'a str>, DecodeError> {
        let Some(length) = self.length(what, |reader| Ok(reader.i16(what)?.into()))? else {
            return Ok(None);
        };
        let at = self.at;
        let bytes = self.take(what, length)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::NotUtf8 { at })
    }

    /// A `STRING`, compact or not.
    pub fn string(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let at = self.at;
        self.nullable_string(what)?.ok_or_else(|| self.invalid(what, at, -1))
    }

    /// `NULLABLE_BYTES` or `RECORDS`, compact or not.
    pub fn nullable_bytes(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length(what, |reader| Ok(reader.i32(what)?.into()))? {
            None => Ok(None),
            Some(length) => Ok(Some(self.take(what, length)?)),
        }
    }

    /// `BYTES`, compact or not.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let at = self.at;
        self.nullable_bytes(what)?.ok_or_else(|| self.invalid(what, at, -1))
    }

    /// How many items an array has, each of which takes at least `min_size` bytes; none: null. All arrays of a reader have
    /// together at most [`MAX_LIST`] items: in memory, and in an answer, an item can be many times as long.
    pub fn nullable_array(
        &mut self,
        what: &'static str,
        min_size: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let at = self.at;
        let Some(count) = self.length(what, |reader| Ok(reader.i32(what)?.into()))? else {
            return Ok(None);
        };
        let (needed, have) = (count.saturating_mul(min_size.max(1)), self.rest().len());
        if needed > have {
            return Err(DecodeError::Short { what, at, needed, have });
        }
        if count > MAX_LIST - self.items {
            return Err(self.invalid(what, at, count as i64));
        }
        self.items += count;
        Ok(Some(count))
    }

    /// How many items an array has, each of which takes at least `min_size` bytes.
    pub fn array_len(&mut self, what: &'static str, min_size: usize) -> Result<usize, DecodeError> {
        let at = self.at;
        self.nullable_array(what, min_size)?.ok_or_else(|| self.invalid(what, at, -1))
    }

    /// An `ARRAY` of items, each of which takes at least `min_size` bytes and is read by `item`.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        min_size: usize,
        mut item: impl FnMut(&mut KafkaReader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.array_len(what, min_size)?;
        // Items in memory may be larger than on the wire; the vector grows with what is read.
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// The tags at the end of a struct, if it is of the flexible form; each with its bytes.
    pub fn tags(
        &mut self,
        mut take: impl FnMut(u32, &'a [u8]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let at = self.at;
        let count = self.varint("tags")?;
        if count > MOST_TAGS - self.tags {
            return Err(self.invalid("tags", at, count.into()));
        }
        self.tags += count;
        for _ in 0..count {
            let tag = self.varint("tag")?;
            let length = self.varint("length of a tag")?;
            take(tag, self.take("tag", length as usize)?)?;
        }
        Ok(())
    }

    /// Tags that nobody reads.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(()))
    }
}

impl KafkaWriter {
    /// Writes fields of the old form, or of the flexible one.
    pub fn new(flexible: bool) -> KafkaWriter {
        KafkaWriter { bytes: Vec::with_capacity(256), flexible }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An `INT8`.
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// A `BOOLEAN`.
    pub fn bool(&mut self, value: bool) {
        self.i8(value.into());
    }

    /// An `INT16`.
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// An `INT32`.
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// An `INT64`.
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// A `UUID`.
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(value.as_bytes());
    }

    /// An `UNSIGNED_VARINT`.
    pub fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A `NULLABLE_STRING`, compact or not. One that is longer than the old form can say is cut at a character.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        let value = value.map(|text| &text[..text.floor_char_boundary(i16::MAX as usize)]);
        let length = value.map(|text| text.len() as i16);
        match length {
            length if self.flexible => self.varint(length.map_or(0, |length| length as u32 + 1)),
            length => self.i16(length.unwrap_or(-1)),
        }
        self.raw(value.unwrap_or_default().as_bytes());
    }

    /// A `STRING`, compact or not; cut as a nullable one is.
    pub fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    /// The length of an array, of bytes or of records, compact or not; none: null.
    pub fn length(&mut self, length: Option<usize>) {
        match length {
            length if self.flexible => self.varint(length.map_or(0, |length| length as u32 + 1)),
            length => self.i32(length.map_or(-1, |length| length as i32)),
        }
    }

    /// An `ARRAY` of items, each of which is written by `item`.
    pub fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut KafkaWriter, &T)) {
        self.length(Some(items.len()));
        for value in items {
            item(self, value);
        }
    }

    /// A tag, whose bytes are written by `fields`. Before the first of a struct stands their count, as a varint.
    pub fn tag(&mut self, tag: u32, fields: impl FnOnce(&mut KafkaWriter)) {
        let mut value = KafkaWriter::new(self.flexible);
        fields(&mut value);
        self.varint(tag);
        self.varint(value.len() as u32);
        self.raw(&value.bytes);
    }

    /// The end of a struct without tags, if it is of the flexible form.
    pub fn no_tags(&mut self) {
        if self.flexible {
            self.varint(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_come_back() {
        for flexible in [false, true] {
            let mut writer = KafkaWriter::new(flexible);
            writer.i8(-3);
            writer.i16(-300);
            writer.i32(70_000);
            writer.i64(-1 << 40);
            writer.uuid(Uuid::from_u128(5));
            writer.string("\u{e4}");
            writer.nullable_string(None);
            writer.length(Some(2));
            writer.raw(&[1, 2]);
            writer.length(None);
            writer.no_tags();
            let bytes = writer.into_bytes();
            let mut reader = KafkaReader::new(&bytes, flexible);
            assert_eq!(reader.i8("a"), Ok(-3));
            assert_eq!(reader.i16("a"), Ok(-300));
            assert_eq!(reader.i32("a"), Ok(70_000));
            assert_eq!(reader.i64("a"), Ok(-1 << 40));
            assert_eq!(reader.uuid("a"), Ok(Uuid::from_u128(5)));
            assert_eq!(reader.string("a"), Ok("\u{e4}"));
            assert_eq!(reader.nullable_string("a"), Ok(None));
            assert_eq!(reader.nullable_bytes("a"), Ok(Some(&[1, 2][..])));
            assert_eq!(reader.nullable_array("a", 1), Ok(None));
            reader.skip_tags().unwrap();
            reader.finish().unwrap();
        }
    }

    #[test]
    fn lists_come_back_and_are_bounded_together() {
        for flexible in [false, true] {
            let lists = |outer: usize, inner: usize| {
                let mut writer = KafkaWriter::new(flexible);
                writer.list(&vec![vec![7; inner]; outer], |writer, list| {
                    writer.list(list, |writer, &item| writer.i8(item));
                });
                writer.into_bytes()
            };
            let read = |bytes: &[u8]| {
                KafkaReader::new(bytes, flexible)
                    .list("outer", 1, |reader| reader.list("inner", 1, |reader| reader.i8("item")))
            };
            assert_eq!(read(&lists(3, 2)), Ok(vec![vec![7; 2]; 3]));
            assert!(read(&lists(1, MAX_LIST - 1)).is_ok());
            let error = read(&lists(1, MAX_LIST)).unwrap_err();
            assert!(matches!(error, DecodeError::Invalid { what: "inner", .. }), "{error}");
            let error = read(&lists(1000, 100)).unwrap_err();
            assert!(matches!(error, DecodeError::Invalid { what: "inner", .. }), "{error}");
        }
    }

    #[test]
    fn a_tag_has_its_length_before_it() {
        let mut writer = KafkaWriter::new(true);
        writer.varint(1);
        writer.tag(5, |writer| writer.string("me"));
        let bytes = writer.into_bytes();
        assert_eq!(bytes, [1, 5, 3, 3, b'm', b'e']);
        let mut reader = KafkaReader::new(&bytes, true);
        let is_mine = |tag, bytes: &[u8]| {
            assert_eq!((tag, bytes), (5, &[3, b'm', b'e'][..]));
            Ok(())
        };
        reader.tags(is_mine).unwrap();
        reader.finish().unwrap();
    }

    #[test]
    fn what_a_length_claims_must_be_there() {
        let claims = |flexible| {
            let mut writer = KafkaWriter::new(flexible);
            writer.length(Some(1 << 30));
            writer.raw(&[0; 100]);
            writer.into_bytes()
        };
        for flexible in [false, true] {
            let bytes = claims(flexible);
            let reader = || KafkaReader::new(&bytes, flexible);
            assert!(matches!(reader().bytes("a"), Err(DecodeError::Short { .. })));
            assert!(matches!(reader().array_len("a", 8), Err(DecodeError::Short { .. })));
        }
        let five = [0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(KafkaReader::new(&five, true).varint("a").is_err());
        assert!(KafkaReader::new(&[0xff; 9], true).varint("a").is_err());
        assert!(KafkaReader::new(&[0xff, 0xff], false).string("a").is_err(), "null");
        assert!(KafkaReader::new(&[0xff, 0xfe], false).nullable_string("a").is_err(), "-2");
    }
}
