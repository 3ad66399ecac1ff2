//! Bytes taken for choices. Never fails: when the bytes are used up, every choice is the first.

/// The choices that are left.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    /// True if no choice is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }

    /// The next `most` bytes, fewer at the end.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next `N` bytes, zeroes behind the end.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// True once in `n` times, were the bytes random.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    pub fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `n`; 0 if there is none.
    pub fn below(&mut self, n: usize) -> usize {
        // As few bytes as will do, so that a changed byte of the input changes one choice.
        let number = match n {
            0..=0x100 => usize::from(self.byte()),
            0x101..=0x1_0000 => usize::from(u16::from_le_bytes(self.array())),
            _ => u32::from_le_bytes(self.array()) as usize,
        };
        number.checked_rem(n).unwrap_or(0)
    }

    /// One of `items`.
    pub fn pick<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T {
        items[self.below(N)]
    }

    /// Up to `most` bytes, as many as a choice says.
    pub fn piece(&mut self, most: usize) -> &'a [u8] {
        let length = self.below(most + 1);
        self.take(length)
    }
}
