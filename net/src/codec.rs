//! Fields: little-endian numbers, length-prefixed texts and lists. Every length is held against
//! the bytes that are there before anything is reserved for it.

use uuid::Uuid;

/// Why bytes are not the message that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too soon.
    #[error("{what} at byte {at}: {needed} bytes are needed, {have} are there")]
    Short {
        /// Which field.
        what: &'static str,
        /// Where it begins.
        at: usize,
        /// Bytes that it takes.
        needed: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// The field has a value that it cannot have.
    #[error("{what} at byte {at}: {found} is not allowed")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// Where it begins.
        at: usize,
        /// What was found.
        found: u64,
    },
    /// A text is not UTF-8.
    #[error("text at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where it begins.
        at: usize,
    },
    /// Bytes behind the last field.
    #[error("{extra} bytes behind the last field")]
    Extra {
        /// How many.
        extra: usize,
    },
}

/// A value that travels.
pub trait Wire: Sized {
    /// Fewest bytes that any value takes: bounds how many a list can hold.
    const MIN_SIZE: usize;
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes a value off the reader.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Longest text in bytes.
pub const MAX_TEXT: usize = u16::MAX as usize;

/// Most items of a list. An empty text takes two bytes on the wire and twelve times as much in
/// memory; without a bound a frame's size would not bound what it decodes to.
pub const MAX_LIST: usize = 100_000;

/// Decodes a message that must take all of `bytes`.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let value = T::decode(&mut reader)?;
    match reader.left() {
        0 => Ok(value),
        extra => Err(DecodeError::Extra { extra }),
    }
}

/// Encodes a message.
pub fn encode(message: &impl Wire) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    message.encode(&mut out);
    out
}

/// Bytes that are being decoded. Invariant: `at <= bytes.len()`.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Bytes not yet taken.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Where the next field begins.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Takes `count` bytes.
    pub fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let (at, have) = (self.at, self.left());
        let short = DecodeError::Short { what, at, needed: count, have };
        let bytes = self.bytes.get(at..).and_then(|rest| rest.get(..count)).ok_or(short)?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(what, N)?);
        Ok(array)
    }

    /// Says that the field that began at `at` has a value that it cannot have.
    pub fn invalid(&self, what: &'static str, at: usize, found: u64) -> DecodeError {
        DecodeError::Invalid { what, at, found }
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            const MIN_SIZE: usize = size_of::<$type>();

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(<$type>::from_le_bytes(reader.array(stringify!($type))?))
            }
        }
    )*};
}

number!(u8, i8, u16, i16, u32, i32, u64, i64);

impl Wire for bool {
    const MIN_SIZE: usize = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        let at = reader.position();
        match u8::decode(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(reader.invalid("bool", at, found.into())),
        }
    }
}

impl Wire for () {
    const MIN_SIZE: usize = 0;

    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(_: &mut Reader<'_>) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl Wire for String {
    const MIN_SIZE: usize = 2;

    /// Texts longer than [`MAX_TEXT`] are cut at a character.
    fn encode(&self, out: &mut Vec<u8>) {
        let text = &self[..self.floor_char_boundary(MAX_TEXT)];
        (text.len() as u16).encode(out);
        out.extend_from_slice(text.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        let length = u16::decode(reader)?;
        let at = reader.position();
        let bytes = reader.take("text", length.into())?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { at })?;
        Ok(text.to_owned())
    }
}

impl Wire for Uuid {
    const MIN_SIZE: usize = 16;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Uuid, DecodeError> {
        reader.array("uuid").map(Uuid::from_bytes)
    }
}

impl<T: Wire> Wire for Option<T> {
    const MIN_SIZE: usize = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
        if bool::decode(reader)? { T::decode(reader).map(Some) } else { Ok(None) }
    }
}

impl<T: Wire> Wire for Vec<T> {
    const MIN_SIZE: usize = 4;

    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        for item in self {
            item.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let at = reader.position();
        let count = u32::decode(reader)? as usize;
        let needed = count.saturating_mul(T::MIN_SIZE.max(1));
        if needed > reader.left() {
            return Err(DecodeError::Short { what: "list", at, needed, have: reader.left() });
        }
        if count > MAX_LIST {
            return Err(reader.invalid("count of a list", at, count as u64));
        }
        // Items in memory may be larger than on the wire; the vector grows with what is decoded.
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(T::decode(reader)?);
        }
        Ok(items)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    const MIN_SIZE: usize = A::MIN_SIZE + B::MIN_SIZE;

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<(A, B), DecodeError> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    const MIN_SIZE: usize = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Ok(value) => {
                out.push(0);
                value.encode(out);
            }
            Err(error) => {
                out.push(1);
                error.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Result<T, E>, DecodeError> {
        if bool::decode(reader)? { E::decode(reader).map(Err) } else { T::decode(reader).map(Ok) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn comes_back<T: Wire + PartialEq + std::fmt::Debug>(value: T) {
        let bytes = encode(&value);
        assert!(bytes.len() >= T::MIN_SIZE);
        assert_eq!(decode::<T>(&bytes).unwrap(), value);
        for length in 0..bytes.len() {
            assert!(decode::<T>(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
    }

    proptest! {
        #[test]
        fn values_come_back(a: (u8, i16, u32, i64), b: bool, text: String, list: Vec<u32>, texts: Vec<String>) {
            comes_back(a.0);
            comes_back(a.1);
            comes_back(a.2);
            comes_back(a.3);
            comes_back(b);
            comes_back(text.clone());
            comes_back(list);
            comes_back(Some(texts.clone()));
            comes_back::<Result<Vec<String>, String>>(if b { Ok(texts) } else { Err(text) });
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = decode::<Vec<Option<String>>>(&bytes);
            let _ = decode::<Result<Vec<(u64, bool)>, Vec<Vec<u8>>>>(&bytes);
        }
    }

    #[test]
    fn a_claimed_count_reserves_nothing() {
        let bytes = u32::MAX.to_le_bytes();
        let error = decode::<Vec<u64>>(&bytes).unwrap_err();
        assert!(matches!(error, DecodeError::Short { what: "list", .. }), "{error}");
    }

    #[test]
    fn a_list_is_bounded_even_if_its_bytes_are_there() {
        let decoded = |count: usize| decode::<Vec<bool>>(&encode(&vec![true; count]));
        assert_eq!(decoded(MAX_LIST).unwrap().len(), MAX_LIST);
        let error = decoded(MAX_LIST + 1).unwrap_err();
        assert!(matches!(error, DecodeError::Invalid { what: "count of a list", .. }), "{error}");
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_at_a_character() {
        let text = "é".repeat(40_000);
        let back: String = decode(&encode(&text)).unwrap();
        assert_eq!(back.len(), MAX_TEXT - 1);
    }
}
