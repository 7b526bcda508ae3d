//! Numbers as people write and read them: sizes in bytes, counts, rates, times.

use std::fmt;
use std::str::FromStr;

/// A number of bytes: read from `1GiB`, `512MiB`, `2GB` or a plain number, shown in binary units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub u64);

const BINARY: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
const DECIMAL: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = (text[..split].trim(), text[split..].trim());
        let wrong = || format!("{text:?} is no size: write a number and a unit, as in 512MiB or 1.5GiB");
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let place = |units: &[&str], base: f64| {
            units.iter().position(|u| u.eq_ignore_ascii_case(unit)).map(|i| base.powi(i as i32))
        };
        // A single letter means binary, as for most programs that take memory limits.
        let letter = ["B", "K", "M", "G", "T"];
        let factor = place(&BINARY, 1024.0).or(place(&DECIMAL, 1000.0)).or(place(&letter, 1024.0)).ok_or_else(wrong)?;
        Ok(Bytes((number * factor) as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < BINARY.len() {
            value /= 1024.0;
            unit += 1;
        }
        let decimals = usize::from(unit > 0 && value < 100.0);
        write!(f, "{value:.decimals$} {}", BINARY[unit])
    }
}

/// A count with thousands set apart: 16,777,216.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A shape as people write it: 512 x 512 x 512.
pub(crate) fn shape(sides: &[usize]) -> String {
    sides.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// A rate of voxels.
pub(crate) fn rate(voxels: u64, seconds: f64) -> String {
    let per_second = voxels as f64 / seconds.max(1e-9);
    match per_second {
        r if r >= 1e9 => format!("{:.2} Gvoxel/s", r / 1e9),
        r if r >= 1e6 => format!("{:.1} Mvoxel/s", r / 1e6),
        r => format!("{:.0} kvoxel/s", r / 1e3),
    }
}

/// A duration: 3.2 s, 4 min 10 s, 2 h 5 min.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {} min", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        let read = |text: &str| text.parse::<Bytes>().map(|b| b.0);
        assert_eq!(read("1GiB"), Ok(1 << 30));
        assert_eq!(read("1.5 GiB"), Ok(3 << 29));
        assert_eq!(read("2GB"), Ok(2_000_000_000));
        assert_eq!(read("512m"), Ok(512 << 20));
        assert_eq!(read("4096"), Ok(4096));
        assert!(read("lots").is_err_and(|e| e.contains("lots")));
        assert_eq!(Bytes(1 << 30).to_string(), "1.0 GiB");
        assert_eq!(Bytes(300 << 20).to_string(), "300 MiB");
        assert_eq!(Bytes(12).to_string(), "12 B");
        assert_eq!(count(16_777_216), "16,777,216");
        assert_eq!(count(12), "12");
    }
}
