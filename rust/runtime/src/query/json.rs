//! Writing JSON text: numbers and names are formatted here, stored JSON goes in byte for byte.
//!
//! The objects of the API are written field by field from rows, so no tree of values is built.

/// Appends one JSON object to a buffer; [`Object::end`] closes it.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    /// Writes the key; the caller appends exactly one value to the returned buffer.
    pub fn value(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        text(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub fn text(&mut self, key: &str, value: &str) {
        text(self.value(key), value);
    }

    /// `null` for the empty text.
    pub fn text_or_null(&mut self, key: &str, value: &str) {
        if value.is_empty() { self.null(key) } else { self.text(key, value) }
    }

    pub fn number(&mut self, key: &str, value: u64) {
        integer(self.value(key), value);
    }

    pub fn signed(&mut self, key: &str, value: i32) {
        self.value(key).extend_from_slice(value.to_string().as_bytes());
    }

    pub fn boolean(&mut self, key: &str, value: bool) {
        self.value(key).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub fn null(&mut self, key: &str) {
        self.value(key).extend_from_slice(b"null");
    }

    /// JSON text that is stored as it came.
    pub fn raw(&mut self, key: &str, json: &[u8]) {
        raw(self.value(key), json);
    }

    /// `raw`, or `null` where nothing is stored.
    pub fn raw_or_null(&mut self, key: &str, json: Option<&[u8]>) {
        raw(self.value(key), json.unwrap_or(b"null"));
    }

    /// A UUID of 16 bytes; `null` for no bytes.
    pub fn id(&mut self, key: &str, bytes: &[u8]) {
        id(self.value(key), bytes);
    }

    /// RFC 3339 in UTC with microseconds; `null` for 0.
    pub fn time(&mut self, key: &str, wall_us: u64) {
        time(self.value(key), wall_us);
    }

    /// `value` / 10^`digits` as a JSON number.
    pub fn decimal(&mut self, key: &str, value: u64, digits: u32) {
        decimal(self.value(key), value, digits);
    }

    pub fn texts<'t>(&mut self, key: &str, values: impl IntoIterator<Item = &'t str>) {
        array(self.value(key), values, text);
    }

    pub fn ids<'t>(&mut self, key: &str, values: impl IntoIterator<Item = &'t [u8]>) {
        array(self.value(key), values, id);
    }
}

/// Writes an array, `item` writing each of its values.
pub fn array<T>(out: &mut Vec<u8>, values: impl IntoIterator<Item = T>, mut item: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (position, value) in values.into_iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        item(out, value);
    }
    out.push(b']');
}

/// Writes a JSON string.
pub fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&value.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&value.as_bytes()[plain..]);
    out.push(b'"');
}

/// Writes stored JSON; empty bytes, which no client can store, are `null`.
pub fn raw(out: &mut Vec<u8>, json: &[u8]) {
    out.extend_from_slice(if json.is_empty() { b"null" } else { json });
}

pub fn integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(value.to_string().as_bytes());
}

pub fn id(out: &mut Vec<u8>, bytes: &[u8]) {
    match codec::TaskId::from_slice(bytes) {
        Ok(id) => text(out, &id.to_string()),
        Err(_) => out.extend_from_slice(b"null"),
    }
}

/// Writes `value` / 10^`digits` with at least one and at most `digits` decimals.
pub fn decimal(out: &mut Vec<u8>, value: u64, digits: u32) {
    let unit = 10u64.pow(digits);
    let fraction = format!("{:0width$}", value % unit, width = digits as usize);
    let kept = fraction.trim_end_matches('0');
    out.extend_from_slice(format!("{}.{}", value / unit, if kept.is_empty() { "0" } else { kept }).as_bytes());
}

pub fn time(out: &mut Vec<u8>, wall_us: u64) {
    match rfc3339(wall_us) {
        Some(value) => text(out, &value),
        None => out.extend_from_slice(b"null"),
    }
}

/// `None` for 0 and for times past the year 9999, which RFC 3339 cannot write.
pub fn rfc3339(wall_us: u64) -> Option<String> {
    const LAST_US: u64 = 253_402_300_799_999_999;
    if wall_us == 0 || wall_us > LAST_US {
        return None;
    }
    let (seconds, micros) = (wall_us / 1_000_000, wall_us % 1_000_000);
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"))
}

/// Days since 1970-01-01 → (year, month, day). Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`, for days that are not negative.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn times_are_rfc3339_in_utc() {
        let cases = [
            (1, "1970-01-01T00:00:00.000001Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_795_521_599_999_999, "2026-11-24T11:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        ];
        for (wall_us, expected) in cases {
            assert_eq!(rfc3339(wall_us).as_deref(), Some(expected));
        }
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(u64::MAX), None);
    }

    #[test]
    fn decimals_are_exact_and_short() {
        for (value, digits, expected) in
            [(7_000, 4, "0.7"), (10_000, 4, "1.0"), (1, 4, "0.0001"), (2_000, 3, "2.0"), (0, 4, "0.0")]
        {
            assert_eq!(written(|out| decimal(out, value, digits)), expected);
        }
    }

    #[test]
    fn any_text_survives_a_json_parser() {
        for value in ["", "plain", "a\"b\\c\n\r\t\u{1}\u{1f}", "ünï\u{10ffff}"] {
            let json = written(|out| text(out, value));
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), value);
        }
    }

    #[test]
    fn an_object_joins_its_fields_with_commas() {
        let json = written(|out| {
            let mut object = Object::new(out);
            object.text("a", "x");
            object.raw("b", b"{\"kept\" :1}");
            object.null("c");
            object.end();
        });
        assert_eq!(json, r#"{"a":"x","b":{"kept" :1},"c":null}"#);
    }
}
