//! A disk that fails once (DESIGN rule 4): the store is poisoned, nothing is retried, and the next
//! process finds what was acknowledged. The failure is a real one: the kernel's limit on the size
//! of a file. It holds for the whole process, so this file has one test.

#![allow(clippy::unwrap_used)]

mod common;

use codec::row::{Cf, StateRead};
use common::*;
use store::memory::{MemoryDisk, MemoryLog, MemoryState};
use store::{LogStore, StateStore, StoreError};

/// Bounds the size of files written from now on; over it a write fails with EFBIG.
fn limit_file_size(bytes: u64) {
    // SAFETY: both calls only pass plain values to the kernel.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

fn assert_failed_then_poisoned(log: &mut impl LogStore, state: &impl StateStore) {
    let last = log.last_index();
    let mut next = entry(last + 1, 1);
    next.data = vec![1; 100_000].into();
    assert!(matches!(log.append(&[next], None), Err(StoreError::Failed { .. })));
    assert!(matches!(state.flush(), Err(StoreError::Failed { .. })));

    limit_file_size(libc::RLIM_INFINITY);
    let poisoned = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Poisoned(_))), "{result:?}");
    poisoned(log.append(&[entry(last + 1, 1)], None));
    poisoned(log.append(&[], Some(&hard_state(2, 7, 0))));
    poisoned(log.save_identity(&identity()));
    poisoned(log.truncate_prefix(1));
    poisoned(log.sync_witness());
    poisoned(log.entries(1, 2, 1).map(|_| ()));
    poisoned(state.write(&[meta(3)]));
    poisoned(state.flush().map(|_| ()));
    assert_eq!(log.last_index(), last);
}

#[test]
fn a_failed_write_poisons_the_store() {
    let mut log = MemoryLog::new("state-1");
    let state = MemoryState::new(&MemoryDisk::default());
    log.append(&entries(1..=3, 1), None).unwrap();
    log.fail_next_write();
    state.fail_next_write();
    assert_failed_then_poisoned(&mut log, &state);

    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path()).unwrap();
    opened.log.save_identity(&identity()).unwrap();
    opened.log.append(&entries(1..=3, 1), Some(&hard_state(1, 7, 2))).unwrap();
    opened.state.write(&[put(Cf::Key, b"kept", b"1"), meta(1)]).unwrap();
    opened.state.flush().unwrap();
    let mut noise = 1u32;
    let bytes = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    });
    let bytes: Vec<u8> = bytes.take(100_000).collect();
    opened.state.write(&[put(Cf::Blob, b"lost", &bytes), meta(2)]).unwrap();
    limit_file_size(50_000);
    assert_failed_then_poisoned(&mut opened.log, opened.state.as_ref());
    drop(opened);

    let opened = open(folder.path()).unwrap();
    assert_eq!(opened.log.entries(1, 4, u64::MAX).unwrap(), entries(1..=3, 1));
    assert_eq!(opened.log.last_index(), 3);
    assert_eq!(opened.state.flushed_index(), 1);
    assert_eq!(opened.state.get(Cf::Key, b"kept").unwrap().unwrap(), b"1");
    assert_eq!(opened.state.get(Cf::Blob, b"lost").unwrap(), None);
}
