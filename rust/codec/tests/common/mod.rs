//! One sample of every type that is written to a disk or a socket, with every field set: a field
//! that is added must be given a value here, and so gets its bytes into a golden file.
#![allow(dead_code)]

pub mod commands;
mod logs;
mod peers;
mod rows;
mod sample;

pub use commands::command_samples;
pub use logs::log_samples;
pub use peers::peer_samples;
pub use sample::Sample;

pub fn samples() -> Vec<Sample> {
    [command_samples(), commands::grown_commands(), rows::row_samples(), log_samples(), peer_samples()]
        .into_iter()
        .flatten()
        .collect()
}
