//! The control socket: one line a command, one line an answer (`ok …` or `error …`).
//!
//! ```text
//! lose clear|torn_op|torn_sequence SEED   the power goes and comes back: what was lost
//! rule OPERATION ACTION …                 see `rules`
//! rules-clear
//! freeze                                  no operation is answered from now on
//! wait-frozen MS                          until a rule has frozen it
//! kill                                    what was held, and all that follows, fails with EIO until `lose`
//! stats                                   operations, syncs, unsynced, hits of rules
//! save DIRECTORY                          writes the current content there
//! ```

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::Disk;
use crate::image;
use crate::model::Loss;

/// Serves connections, each on a thread of its own, until the process ends.
pub fn serve(listener: UnixListener, disk: Arc<Disk>) {
    for stream in listener.incoming().flatten() {
        let disk = disk.clone();
        std::thread::spawn(move || converse(&stream, &disk));
    }
}

fn converse(stream: &UnixStream, disk: &Disk) {
    let mut out = stream;
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let answer = match obey(disk, line.trim()) {
            Ok(text) => format!("ok {text}\n"),
            Err(text) => format!("error {text}\n"),
        };
        if out.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Carries out one command.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn obey(disk: &Disk, line: &str) -> Result<String, String> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "lose" => {
            let (loss, seed) = rest.split_once(' ').ok_or("lose clear|torn_op|torn_sequence SEED")?;
            let loss = match loss {
                "clear" => Loss::Clear,
                "torn_op" => Loss::TornOp,
                "torn_sequence" => Loss::TornSequence,
                other => return Err(format!("{other:?} is no loss: clear, torn_op, torn_sequence")),
            };
            let seed = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
            let lost = disk.lose(loss, seed);
            Ok(format!(
                "lost={} kept={} torn={} bytes_lost={}",
                lost.operations_lost, lost.operations_kept, lost.writes_torn, lost.bytes_lost
            ))
        }
        "rule" => {
            let rule = rest.parse()?;
            disk.with(|_, rules| rules.add(rule));
            Ok(String::new())
        }
        "rules-clear" => {
            disk.with(|_, rules| rules.clear());
            Ok(String::new())
        }
        "freeze" => {
            disk.freeze();
            Ok(String::new())
        }
        "wait-frozen" => {
            let ms = rest.parse().map_err(|_| format!("{rest:?} is no number of milliseconds"))?;
            Ok(format!("frozen={}", u8::from(disk.wait_frozen(Duration::from_millis(ms)))))
        }
        "kill" => {
            disk.kill();
            Ok(String::new())
        }
        "stats" => {
            let (operations, syncs, unsynced) = disk.counts();
            let hits = disk.with(|_, rules| rules.hits);
            Ok(format!("operations={operations} syncs={syncs} unsynced={unsynced} hits={hits}"))
        }
        "save" => disk.with(|model, _| image::save(model, Path::new(rest))).map(|()| String::new()).map_err(|e| e.to_string()),
        other => Err(format!("{other:?} is no command")),
    }
}
