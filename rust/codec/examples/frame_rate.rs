//! Entries a second that one thread frames and reads back: 64 submits of 100 bytes an entry.
//!
//! `cargo run --release -p codec --example frame_rate [ENTRIES]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use codec::command::{Body, Submit, TaskSpec};
use codec::frame::{Frame, to_frame};
use codec::{Command, EntryPayload, FrameKind};

const COMMANDS_AN_ENTRY: u64 = 64;

fn command(sequence: u64) -> Command {
    let spec = TaskSpec { id: vec![7; 16], task_type: "summarize".into(), payload: vec![b'x'; 100], ..TaskSpec::default() };
    let body = Submit { tenant: "default".into(), body_hash: vec![1; 16], tasks: vec![spec], ..Submit::default() };
    Command { session: 1, sequence, resolved_below: sequence, term: 0, body: Some(Body::Submit(body)) }
}

fn say(what: &str, entries: u64, bytes: usize, spent: Duration) {
    let seconds = spent.as_secs_f64();
    let commands = (entries * COMMANDS_AN_ENTRY) as f64 / seconds;
    println!("{what:<7} {commands:>12.0} commands/s {:>8.0} MB/s", entries as f64 * bytes as f64 / seconds / 1e6);
}

fn main() {
    let entries: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let payload = EntryPayload { cluster_us: 1, wall_us: 1, seed: 1, commands: (1..=COMMANDS_AN_ENTRY).map(command).collect() };
    let frame = to_frame(FrameKind::EntryPayload, &payload);
    let started = Instant::now();
    for _ in 0..entries {
        black_box(to_frame(FrameKind::EntryPayload, black_box(&payload)));
    }
    say("encode", entries, frame.len(), started.elapsed());
    let started = Instant::now();
    for _ in 0..entries {
        let read: EntryPayload = Frame::decode_message(FrameKind::EntryPayload, black_box(&frame)).expect("our own frame");
        black_box(read);
    }
    say("decode", entries, frame.len(), started.elapsed());
}
