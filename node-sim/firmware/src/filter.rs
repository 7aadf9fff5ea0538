//! A spike is taken out where it is measured: the Hampel filter, causal, in integers.
//!
//! A value that is further from the median of the last `WINDOW` values (itself one of them) than three standard deviations,
//! estimated as 1.4826 times the median absolute deviation, is replaced by that median (Hampel 1974, The influence curve and
//! its role in robust estimation, J. Am. Stat. Assoc. 69, 383-393; Davies and Gather 1993, The identification of multiple
//! outliers, J. Am. Stat. Assoc. 88, 782-792). So a spike of up to (WINDOW - 1) / 2 samples never shows, and a true step
//! shows that many samples late.

/// Three standard deviations by the median absolute deviation, 3 * 1.4826, in 1024ths.
const LIMIT_1024THS: u64 = 4555;

/// The last values of one channel. The window is odd, from 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hampel<const WINDOW: usize> {
    values: [i32; WINDOW],
    filled: u8,
    next: u8,
}

impl<const WINDOW: usize> Default for Hampel<WINDOW> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WINDOW: usize> Hampel<WINDOW> {
    const FITS: () = assert!(WINDOW >= 3 && WINDOW % 2 == 1 && WINDOW <= 15);

    /// Without values.
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::FITS;
        Self { values: [0; WINDOW], filled: 0, next: 0 }
    }

    /// Takes a value, and gives it back, or the median when it is a spike. Whatever is within `floor` of the median is none:
    /// where the values stand still, their deviation is zero, and each new one would be a spike. Until the window is full
    /// nothing is.
    pub fn push(&mut self, value: i32, floor: u32) -> i32 {
        self.values[usize::from(self.next)] = value;
        self.next = (self.next + 1) % WINDOW as u8;
        self.filled = (self.filled + 1).min(WINDOW as u8);
        if usize::from(self.filled) < WINDOW {
            return value;
        }
        let median = median(self.values);
        let deviation = u64::from(self::median(self.values.map(|value| value.abs_diff(median))));
        let limit = (deviation * LIMIT_1024THS / 1024).max(u64::from(floor));
        if u64::from(value.abs_diff(median)) > limit { median } else { value }
    }
}

/// The middle of an odd number of values.
fn median<T: Copy + Ord, const WINDOW: usize>(mut values: [T; WINDOW]) -> T {
    values.sort_unstable();
    values[WINDOW / 2]
}
