//! Logs of an attempt as NDJSON: one `{"t","level","text"}` a line, the newest 64 KiB.

use codec::command::LogLine;

use crate::limits::LOG_BYTES_MAX;

/// `log` with `lines` at its end; whole lines at the start give way.
pub(crate) fn append(mut log: Vec<u8>, lines: &[LogLine]) -> Vec<u8> {
    for line in lines {
        log.extend_from_slice(b"{\"t\":\"");
        push_time(line.wall_us, &mut log);
        log.extend_from_slice(b"\",\"level\":");
        push_text(&line.level, &mut log);
        log.extend_from_slice(b",\"text\":");
        push_text(&line.text, &mut log);
        log.extend_from_slice(b"}\n");
    }
    if log.len() > LOG_BYTES_MAX {
        let earliest = log.len() - LOG_BYTES_MAX;
        // The cut is right after a line's end; a single line that is too long goes whole.
        let cut = log[earliest - 1..].iter().position(|b| *b == b'\n').map_or(log.len(), |at| earliest + at);
        log.drain(..cut);
    }
    log
}

fn push_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\r' => out.extend_from_slice(b"\\r"),
            c if c < ' ' => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// RFC 3339 in UTC with microseconds. Days to dates: Howard Hinnant, "chrono-compatible low-level
/// date algorithms", `civil_from_days`.
fn push_time(wall_us: u64, out: &mut Vec<u8>) {
    let (seconds, micros) = (wall_us / 1_000_000, wall_us % 1_000_000);
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    out.extend_from_slice(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(wall_us: u64, text: &str) -> LogLine {
        LogLine { wall_us, level: "info".into(), text: text.into() }
    }

    #[test]
    fn times_and_control_characters_are_written_as_json_wants_them() {
        let log = append(Vec::new(), &[line(1_709_164_799_000_042, "a \"b\"\n\u{1}é"), line(0, "")]);
        let text = String::from_utf8(log).expect("UTF-8");
        let expected = "{\"t\":\"2024-02-28T23:59:59.000042Z\",\"level\":\"info\",\"text\":\"a \\\"b\\\"\\n\\u0001é\"}\n\
                        {\"t\":\"1970-01-01T00:00:00.000000Z\",\"level\":\"info\",\"text\":\"\"}\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_newest_whole_lines_stay() {
        let mut log = Vec::new();
        for number in 0..3_000 {
            log = append(log, &[line(number, "some text that fills the log")]);
        }
        assert!(log.len() <= LOG_BYTES_MAX && log.len() > LOG_BYTES_MAX - 200);
        assert!(log.starts_with(b"{\"t\"") && log.ends_with(b"}\n"));
        assert!(String::from_utf8(log).expect("UTF-8").contains("00.002999Z"));
        assert!(append(Vec::new(), &[line(0, &"x".repeat(LOG_BYTES_MAX))]).is_empty());
    }
}
