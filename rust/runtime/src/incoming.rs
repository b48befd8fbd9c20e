//! The files of one snapshot as they arrive: in the order of the offer, each checked.
//!
//! What always holds: everything before (`file`, `offset`) is on the disk and adds up to its checksum;
//! nothing that a peer names leaves the directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use codec::Message;
use codec::frame::{Frame, FrameKind, to_frame};
use codec::peer::{PeerBody, PeerMessage, SnapshotChunk, SnapshotFile, SnapshotOffer, SnapshotResume};

/// Files of one snapshot.
const FILES_MAX: usize = 100_000;

pub(crate) struct Incoming {
    pub from: u64,
    pub offer: SnapshotOffer,
    path: PathBuf,
    /// Position in `offer.files` of the file being written.
    file: usize,
    open: Option<File>,
    offset: u64,
    /// Of the first `offset` bytes.
    crc32c: u32,
}

/// Whether a snapshot of these files can be taken at all.
pub(crate) fn check_offer(offer: &SnapshotOffer) -> Result<(), String> {
    if offer.files.is_empty() || offer.files.len() > FILES_MAX {
        return Err(format!("an offer of {} files", offer.files.len()));
    }
    for file in &offer.files {
        let plain = !file.name.starts_with('.') && !file.name.contains(['/', '\\', '\0']) && (1..=255).contains(&file.name.len());
        if !plain || file.name == "OFFER" {
            return Err(format!("{:?} is no plain file name", file.name));
        }
    }
    Ok(())
}

/// The offer as it is kept beside the files.
pub(crate) fn encode_offer(offer: &SnapshotOffer) -> Vec<u8> {
    to_frame(FrameKind::Peer, &PeerMessage { body: Some(PeerBody::SnapshotOffer(offer.clone())) })
}

/// `None` for anything but a whole offer: then what was received is of no use.
pub(crate) fn decode_offer(bytes: &[u8]) -> Option<SnapshotOffer> {
    let (frame, _) = Frame::decode(bytes).ok()?;
    match PeerMessage::decode(frame.payload).ok()?.body? {
        PeerBody::SnapshotOffer(offer) => Some(offer),
        _ => None,
    }
}

/// Whether two offers are of the same checkpoint, whoever sent it and when.
pub(crate) fn same_files(a: &SnapshotOffer, b: &SnapshotOffer) -> bool {
    (a.index, a.term) == (b.index, b.term) && a.files == b.files
}

impl Incoming {
    pub(crate) fn begin(from: u64, offer: SnapshotOffer, path: PathBuf) -> Self {
        Self { from, offer, path, file: 0, open: None, offset: 0, crc32c: 0 }
    }

    /// Goes on with what an earlier attempt left: whole files that add up, and the beginning of one.
    pub(crate) fn resume(from: u64, offer: SnapshotOffer, path: PathBuf) -> Result<Self, String> {
        let mut incoming = Self::begin(from, offer, path);
        while let Some(file) = incoming.offer.files.get(incoming.file) {
            let Some((bytes, crc32c)) = hash_file(&incoming.path.join(&file.name))? else { break };
            if bytes == file.bytes && crc32c == file.crc32c {
                incoming.file += 1;
            } else {
                // A file that is whole and wrong, or too long, begins again.
                if bytes < file.bytes {
                    (incoming.offset, incoming.crc32c) = (bytes, crc32c);
                }
                break;
            }
        }
        Ok(incoming)
    }

    /// What the sender is told: where to begin.
    pub(crate) fn place(&self) -> SnapshotResume {
        SnapshotResume {
            transfer: self.offer.transfer,
            file: self.file as u32,
            offset: self.offset,
            crc32c: if self.offset == 0 { 0 } else { self.crc32c },
        }
    }

    pub(crate) fn bytes_done(&self) -> u64 {
        self.offer.files.iter().take(self.file).map(|f| f.bytes).sum::<u64>() + self.offset
    }

    /// Whether every file is there; makes those that are empty.
    pub(crate) fn complete(&mut self) -> Result<bool, String> {
        while let Some(file) = self.offer.files.get(self.file).filter(|f| f.bytes == 0) {
            File::create(self.path.join(&file.name)).map_err(|e| format!("{}: {e}", file.name))?;
            self.file += 1;
        }
        Ok(self.file == self.offer.files.len())
    }

    /// Writes one chunk. A chunk at the start of the current file begins that file again.
    ///
    /// # Errors
    /// What is wrong with it, or with the disk. What was complete before stays.
    pub(crate) fn write(&mut self, chunk: &SnapshotChunk) -> Result<(), String> {
        self.complete()?;
        let Some(file) = self.offer.files.get(self.file).cloned() else {
            return Err("a chunk after the last file".to_owned());
        };
        if chunk.offset == 0 && self.offset > 0 {
            (self.open, self.offset, self.crc32c) = (None, 0, 0);
        }
        let fits = chunk.data.len() as u64 <= file.bytes - self.offset;
        if chunk.file as usize != self.file || chunk.offset != self.offset || chunk.data.is_empty() || !fits {
            return Err(format!(
                "{}: a chunk of file {} at {} where {} was expected",
                file.name, chunk.file, chunk.offset, self.offset
            ));
        }
        let found = crc32c::crc32c(&chunk.data);
        if chunk.crc32c.is_some_and(|sent| sent != found) {
            return Err(format!("{}: the chunk at {} does not add up to its checksum", file.name, chunk.offset));
        }
        self.append(&file, &chunk.data, found).map_err(|e| format!("{}: {e}", file.name))?;
        if self.offset == file.bytes {
            let whole = self.crc32c == file.crc32c;
            (self.open, self.offset, self.crc32c) = (None, 0, 0);
            if !whole {
                return Err(format!("{}: checksum mismatch", file.name));
            }
            self.file += 1;
        }
        Ok(())
    }

    fn append(&mut self, file: &SnapshotFile, data: &[u8], crc32c: u32) -> std::io::Result<()> {
        if self.open.is_none() {
            let mut open = OpenOptions::new().write(true).create(true).truncate(false).open(self.path.join(&file.name))?;
            open.set_len(self.offset)?;
            open.seek(SeekFrom::Start(self.offset))?;
            self.open = Some(open);
        }
        if let Some(open) = &mut self.open {
            open.write_all(data)?;
        }
        self.crc32c = crc32c::crc32c_combine(self.crc32c, crc32c, data.len());
        self.offset += data.len() as u64;
        Ok(())
    }
}

/// Length and CRC32C of a file; `None` if there is none.
fn hash_file(path: &std::path::Path) -> Result<Option<(u64, u32)>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let (mut bytes, mut crc32c) = (0, 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            return Ok(Some((bytes, crc32c)));
        }
        crc32c = crc32c::crc32c_append(crc32c, &buffer[..length]);
        bytes += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &[u8]); 5] = [("a", b""), ("b", b"hello"), ("c", b"x"), ("d", b"world"), ("e", b"")];

    fn offer() -> SnapshotOffer {
        let file = |(name, data): (&str, &[u8])| SnapshotFile {
            name: name.to_owned(),
            bytes: data.len() as u64,
            crc32c: crc32c::crc32c(data),
        };
        SnapshotOffer { transfer: 1, files: FILES.into_iter().map(file).collect(), ..Default::default() }
    }

    fn chunk(file: u32, offset: u64, data: &'static [u8]) -> SnapshotChunk {
        SnapshotChunk { transfer: 1, file, offset, data: data.into(), crc32c: Some(crc32c::crc32c(data)) }
    }

    fn assert_whole(folder: &std::path::Path) {
        for (name, data) in FILES {
            assert_eq!(std::fs::read(folder.join(name)).unwrap(), data, "{name}");
        }
    }

    #[test]
    fn chunks_in_order_make_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::begin(1, offer(), folder.path().to_owned());
        for part in [chunk(1, 0, b"hel"), chunk(1, 3, b"lo"), chunk(2, 0, b"x"), chunk(3, 0, b"world")] {
            assert!(!incoming.complete().unwrap());
            incoming.write(&part).unwrap();
        }
        assert!(incoming.complete().unwrap());
        assert_eq!(incoming.bytes_done(), 11);
        assert_whole(folder.path());
    }

    #[test]
    fn a_gap_a_flipped_bit_and_a_byte_too_many_are_refused_and_lose_nothing() {
        let flipped = SnapshotChunk { crc32c: Some(7), ..chunk(2, 0, b"x") };
        for bad in [chunk(2, 1, b"x"), flipped, chunk(2, 0, b"y"), chunk(2, 0, b"xx"), chunk(3, 0, b"world"), chunk(2, 0, b"")] {
            let folder = tempfile::tempdir().unwrap();
            let mut incoming = Incoming::begin(1, offer(), folder.path().to_owned());
            incoming.write(&chunk(1, 0, b"hello")).unwrap();
            assert!(incoming.write(&bad).is_err(), "{bad:?}");
            let mut again = Incoming::resume(1, offer(), folder.path().to_owned()).unwrap();
            assert_eq!(again.place(), SnapshotResume { transfer: 1, file: 2, offset: 0, crc32c: 0 });
            again.write(&chunk(2, 0, b"x")).unwrap();
            again.write(&chunk(3, 0, b"world")).unwrap();
            assert!(again.complete().unwrap());
            assert_whole(folder.path());
        }
    }

    /// cut off after every byte, and then with each file damaged → the next attempt says exactly what
    /// it has, and ends with the same files.
    #[test]
    fn whatever_an_attempt_left_the_next_one_ends_with_the_same_files() {
        let sent: Vec<(u32, u64, u8)> =
            (0u32..).zip(FILES).flat_map(|(f, (_, data))| (0..).zip(data).map(move |(at, b)| (f, at, *b))).collect();
        let one = |(file, offset, byte): (u32, u64, u8)| SnapshotChunk {
            transfer: 1,
            file,
            offset,
            data: vec![byte].into(),
            crc32c: None,
        };
        for cut in 0..=sent.len() {
            for damaged in ["", "b", "c", "d"] {
                let folder = tempfile::tempdir().unwrap();
                let mut incoming = Incoming::begin(1, offer(), folder.path().to_owned());
                sent[..cut].iter().for_each(|byte| incoming.write(&one(*byte)).unwrap());
                drop(incoming);
                let path = folder.path().join(damaged);
                if !damaged.is_empty() && path.exists() {
                    std::fs::write(&path, b"Something else").unwrap();
                }
                let mut again = Incoming::resume(1, offer(), folder.path().to_owned()).unwrap();
                let place = again.place();
                let from = sent.iter().position(|s| (s.0, s.1) >= (place.file, place.offset)).unwrap_or(sent.len());
                assert!(from <= cut, "{cut} {damaged}: {place:?}");
                if damaged.is_empty() {
                    assert_eq!(from, cut, "nothing is sent twice");
                }
                sent[from..].iter().for_each(|byte| again.write(&one(*byte)).unwrap());
                assert!(again.complete().unwrap());
                assert_whole(folder.path());
            }
        }
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "a\\b", "a\0", ".hidden", "OFFER"] {
            let mut offer = offer();
            offer.files[0].name = name.to_owned();
            assert!(check_offer(&offer).is_err(), "{name:?}");
        }
        assert!(check_offer(&SnapshotOffer::default()).is_err());
        check_offer(&offer()).unwrap();
        assert_eq!(decode_offer(&encode_offer(&offer())), Some(offer()));
        assert_eq!(decode_offer(&encode_offer(&offer())[1..]), None);
    }
}
