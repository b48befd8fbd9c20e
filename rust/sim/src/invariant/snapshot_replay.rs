//! Snapshot equals replay: a state that came by a snapshot (or was rebuilt from disk) is the same as
//! one that applied every entry, row for row, and goes on the same.

use codec::row::{Cf, MetaRow, StateRead};
use machine::Machine;

use super::replay::Replay;
use super::{Check, broken};
use crate::host::{Host, Part};

const NAME: &str = "snapshot equals replay";

pub fn received(meta: &MetaRow, replay: &Replay) -> Check {
    match replay.entry(meta.applied_index) {
        Some(entry) if (entry.term, entry.state.as_slice()) == (meta.applied_term, meta.hash.as_slice()) => Ok(()),
        entry => broken(NAME, format!("snapshot {} of term {}: {entry:?}", meta.applied_index, meta.applied_term)),
    }
}

/// All nodes have applied everything: their rows are the replay's, and so is what they rebuild.
pub fn rows_equal(hosts: &[Host], replay: &Replay) -> Check {
    for host in hosts.iter().filter(|h| h.part == Part::Member && !h.disk.is_rotten()) {
        for cf in Cf::ALL {
            let mut expected = replay.rows.family(cf);
            let mut bad = None;
            let scanned = host.disk.state.scan(cf, b"", b"", &mut |key, value| {
                let next = expected.next();
                if next != Some((key, value)) {
                    bad = Some(format!("{} has another row {} {key:02x?}", host.node_id, cf.name()));
                }
                bad.is_none()
            });
            if let Err(error) = scanned {
                return broken(NAME, error.to_string());
            }
            let missing = || expected.next().map(|(key, _)| format!("{} lacks row {} {key:02x?}", host.node_id, cf.name()));
            if let Some(text) = bad.or_else(missing) {
                return broken(NAME, text);
            }
        }
        let Some(machine) = host.process.as_ref().and_then(|p| p.apply.as_ref()).map(|a| a.machine()) else { continue };
        if let Some(part) = machine.difference(replay.machine()) {
            return broken(NAME, format!("{}: the {part} in memory differ from the replay's", host.node_id));
        }
    }
    let rebuilt = match Machine::load(&replay.rows) {
        Ok(rebuilt) => rebuilt,
        Err(error) => return broken(NAME, error.to_string()),
    };
    match rebuilt.difference(replay.machine()) {
        None => Ok(()),
        Some(part) => broken(NAME, format!("the {part} rebuilt from rows differ from those in memory")),
    }
}
