//! What a shape is made of: fields, each with the versions that have it.

/// A field of a request, or of an item in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// What errors call it.
    pub(super) name: &'static str,
    /// How it is written.
    pub(super) kind: Kind,
    /// First version that has it.
    since: i16,
    /// Last version that has it.
    until: i16,
    /// First version in which it may be null.
    null_since: i16,
}

/// How a field is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A `STRING`.
    Text,
    /// `BYTES`.
    Bytes,
    /// An array of `INT32`.
    Numbers,
    /// An array of `STRING`, none of which is null.
    Texts,
    /// An array of structs.
    List(&'static [Field]),
}

/// In no version.
const NEVER: i16 = i16::MAX;

impl Field {
    /// Bytes of one of the [`Kind::Numbers`].
    pub(super) const NUMBER_LEN: usize = size_of::<i32>();

    const fn new(name: &'static str, kind: Kind) -> Field {
        Field { name, kind, since: 0, until: i16::MAX, null_since: NEVER }
    }

    /// Only versions from this one on have it.
    pub(super) const fn since(self, version: i16) -> Field {
        Field { since: version, ..self }
    }

    /// Only versions up to this one have it.
    pub(super) const fn until(self, version: i16) -> Field {
        Field { until: version, ..self }
    }

    /// It may be null.
    pub(super) const fn nullable(self) -> Field {
        self.nullable_since(0)
    }

    /// From this version on it may be null.
    pub(super) const fn nullable_since(self, version: i16) -> Field {
        Field { null_since: version, ..self }
    }

    /// True if the version has it.
    pub(super) fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }

    /// True if it may be null in this version.
    pub(super) fn is_nullable(&self, version: i16) -> bool {
        version >= self.null_since
    }
}

/// A `BOOLEAN`.
pub(super) const fn bool(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

/// An `INT8`.
pub(super) const fn i8(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

/// An `INT16`.
pub(super) const fn i16(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(2))
}

/// An `INT32`.
pub(super) const fn i32(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(4))
}

/// An `INT64`.
pub(super) const fn i64(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(8))
}

/// A `UUID`.
pub(super) const fn uuid(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(16))
}

/// A `STRING`.
pub(super) const fn text(name: &'static str) -> Field {
    Field::new(name, Kind::Text)
}

/// `BYTES`.
pub(super) const fn bytes(name: &'static str) -> Field {
    Field::new(name, Kind::Bytes)
}

/// An array of `INT32`.
pub(super) const fn numbers(name: &'static str) -> Field {
    Field::new(name, Kind::Numbers)
}

/// An array of `STRING`.
pub(super) const fn texts(name: &'static str) -> Field {
    Field::new(name, Kind::Texts)
}

/// An array of structs.
pub(super) const fn list(name: &'static str, item: &'static [Field]) -> Field {
    Field::new(name, Kind::List(item))
}
