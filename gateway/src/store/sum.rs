//! A check sum of what a row holds, kept beside it: SQLite does not notice a bit that flips inside a value.

/// A row's check sum under way: FNV-1a with 64 bits. It notices any one byte that differs, and others with odds of
/// 2⁻⁶⁴ against it; it is no guard against intent.
#[derive(Debug, Clone, Copy)]
pub struct Sum(u64);

impl Sum {
    /// Of nothing yet.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn take(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// With a number.
    pub fn int(self, number: impl Into<i64>) -> Self {
        self.take(&number.into().to_le_bytes())
    }

    /// With a number that may be missing.
    pub fn maybe(self, number: Option<i64>) -> Self {
        self.int(i64::from(number.is_some())).int(number.unwrap_or(0))
    }

    /// With bytes or text.
    pub fn bytes(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.int(bytes.len() as i64).take(bytes)
    }

    /// As a row holds it.
    pub const fn value(self) -> i64 {
        self.0.cast_signed()
    }

    /// Whether a row holds it. Rows of an older layout hold none.
    pub fn is(self, stored: Option<i64>) -> bool {
        stored.is_none_or(|stored| stored == self.value())
    }
}
