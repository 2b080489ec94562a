//! Quantities as people write and read them: `64M` in, `32.0 MiB`, `312 k`, `3.21 us` out.
//!
//! Used by the command line's arguments and by everything that prints. Sizes are binary (1K = 1024), rates
//! and MB/s decimal, as is usual for each.

/// Reads a number of bytes: digits with an optional K, M, G or T (powers of 1024; `KiB` and `KB` mean the same).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let advice =
        || format!("'{text}' is not a size: write bytes, or a number with K, M, G or T, such as 64M");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, suffix) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| advice())?;
    let shift = match suffix.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(advice()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' does not fit 64 bits"))
}

/// `4.0 KiB`, `32.0 MiB`.
pub(crate) fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < 1024.0 {
            let decimals = usize::from(unit != "B");
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// How a number is written: divided, with so many digits after the point, and its unit.
///
/// Three digits are shown, which is what the spread between rounds supports. A spread is written in the scale of
/// its median, so that its numbers can be compared by eye.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    divisor: f64,
    decimals: usize,
    pub(crate) unit: &'static str,
}

impl Scale {
    /// `950`, `31.2 k`, `1.04 M`.
    pub(crate) fn of_count(value: f64) -> Self {
        Self::choose(value, &[(1.0, ""), (1e3, " k"), (1e6, " M"), (1e9, " G")])
    }

    /// `812 ns`, `3.21 us`, `51.0 us`, `1.20 ms`, from nanoseconds.
    pub(crate) fn of_nanoseconds(value: f64) -> Self {
        Self::choose(value, &[(1.0, " ns"), (1e3, " us"), (1e6, " ms"), (1e9, " s")])
    }

    fn choose(value: f64, units: &[(f64, &'static str)]) -> Self {
        let value = value.abs();
        let fitting = units.iter().find(|(divisor, _)| value / divisor < 999.5);
        let (divisor, unit) = *fitting.unwrap_or(&units[units.len() - 1]);
        let decimals = match value / divisor {
            _ if divisor == 1.0 => 0,
            scaled if scaled < 9.995 => 2,
            scaled if scaled < 99.95 => 1,
            _ => 0,
        };
        Self { divisor, decimals, unit }
    }

    /// The number without its unit.
    pub(crate) fn number(self, value: f64) -> String {
        format!("{:.*}", self.decimals, value / self.divisor)
    }
}

/// A count with three digits: `312 k`.
pub(crate) fn count(value: f64) -> String {
    let scale = Scale::of_count(value);
    scale.number(value) + scale.unit
}

/// A time with three digits: `3.21 us`.
pub(crate) fn nanoseconds(value: f64) -> String {
    let scale = Scale::of_nanoseconds(value);
    scale.number(value) + scale.unit
}

/// `12.5 %` of a part in a whole; nothing of nothing is 0 %.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * share(part, whole))
}

/// The part as a fraction of the whole, 0 when there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `1 page`, `8192 pages`.
pub(crate) fn plural(number: u64, noun: &str) -> String {
    let ending = if noun.ends_with('s') { "es" } else { "s" };
    format!("{number} {noun}{}", if number == 1 { "" } else { ending })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_suffixes() {
        for (text, size) in [("4096", 4096), ("64M", 64 << 20), ("1g", 1 << 30), ("4 KiB", 4096), ("0", 0)] {
            assert_eq!(parse_bytes(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn nonsense_sizes_are_refused_with_an_example() {
        for text in ["", "M", "-1", "1.5G", "12X", "99999999999T"] {
            let message = parse_bytes(text).expect_err(text);
            assert!(message.contains("64M") || message.contains("64 bits"), "{message}");
        }
    }

    #[test]
    fn numbers_read_with_three_digits_and_a_unit() {
        assert_eq!(bytes(33_554_432.0), "32.0 MiB");
        assert_eq!(count(312_345.0), "312 k");
        assert_eq!(count(1_040_000.0), "1.04 M");
        assert_eq!(nanoseconds(3_214.0), "3.21 us");
        assert_eq!(nanoseconds(51_040.0), "51.0 us");
        assert_eq!(percent(1, 8), "12.5 %");
        assert_eq!(percent(0, 0), "0.0 %");
        assert_eq!(plural(1, "page"), "1 page");
    }
}
