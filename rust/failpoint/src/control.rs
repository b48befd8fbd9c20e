//! The control socket of a build with failpoints: one line a command, one line an answer.
//!
//! ```text
//! set NAME ACTIONS   ok | error …
//! clear              all places do nothing: ok
//! hits               ok name=count …
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::{configure, hits};

/// Serves the socket, which replaces what an earlier process left there, until the process ends.
///
/// # Errors
/// The socket cannot be bound, or the process is out of threads.
pub fn listen(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::thread::Builder::new().name("failpoints".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            converse(&stream);
        }
    })?;
    Ok(())
}

fn converse(stream: &UnixStream) {
    let mut out = stream;
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let answer = match obey(line.trim()) {
            Ok(text) => format!("ok {text}\n"),
            Err(text) => format!("error {text}\n"),
        };
        if out.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn obey(line: &str) -> Result<String, String> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "set" => {
            let (name, actions) = rest.split_once(' ').ok_or("set NAME ACTIONS")?;
            configure(name, actions).map(|()| String::new())
        }
        "clear" => {
            fail::list().into_iter().for_each(|(name, _)| fail::remove(name));
            Ok(String::new())
        }
        "hits" => Ok(hits().into_iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")),
        other => Err(format!("{other:?} is no command: set, clear, hits")),
    }
}
