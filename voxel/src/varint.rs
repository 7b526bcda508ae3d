//! Unsigned integers in as many bytes as they need (LEB128): seven bits a byte, low bits first.

/// Appends `value`: one byte below 128, ten bytes at most.
pub(crate) fn push(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes one integer off the front of `bytes`. `None` when it is cut short, does not fit 64 bits, or is longer than
/// [`push`] writes it: equal values then have equal bytes.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return (*byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back_and_other_spellings_do_not() {
        for value in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut bytes = Vec::new();
            push(value, &mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest), Some(value));
            assert!(rest.is_empty());
            assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take(&mut [0x80, 0x00].as_slice()), None, "longer than needed");
        assert_eq!(take(&mut [0xff; 10].as_slice()), None, "no end");
        assert_eq!(take(&mut [[0xff; 9].as_slice(), &[2]].concat().as_slice()), None, "65 bits");
    }
}
