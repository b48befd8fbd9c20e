//! Identifiers that are cheaper as bytes than as text.

use std::fmt;

use crate::frame::DecodeError;

/// A task's identifier: the 16 bytes of a UUID (version 7 when made by this project, so that
/// byte order is creation order).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TaskId(pub [u8; 16]);

impl TaskId {
    /// The identifier in its wire form.
    ///
    /// # Errors
    /// `DecodeError::Invalid` unless `bytes` is 16 bytes long.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        <[u8; 16]>::try_from(bytes).map(Self).map_err(|_| DecodeError::Invalid("task id is not 16 bytes"))
    }

    /// Reads the 36-character text form, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 36 {
            return None;
        }
        let mut out = [0u8; 16];
        let mut nibble = 0;
        for (at, &c) in text.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if c != b'-' {
                    return None;
                }
                continue;
            }
            let digit = (c as char).to_digit(16)? as u8;
            out[nibble / 2] = (out[nibble / 2] << 4) | digit;
            nibble += 1;
        }
        Some(Self(out))
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for byte in self.0 {
            if matches!(at, 8 | 13 | 18 | 23) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::TaskId;

    #[test]
    fn text_form_round_trips() {
        let text = "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f506";
        let id = TaskId::parse(text).expect("a UUID");
        assert_eq!(id.to_string(), text);
        assert_eq!(TaskId::parse(&text.to_uppercase()), Some(id));
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "0192f3a4b5c67d8e9fa0b1c2d3e4f506",
            "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f50g",
            "0192f3a4-b5c6-7d8e-9fa0_b1c2d3e4f506",
        ] {
            assert_eq!(TaskId::parse(text), None, "{text}");
        }
    }
}
