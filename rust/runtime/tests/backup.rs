//! Backups of running nodes, and new clusters made of them. Every wait is for a notice.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use codec::command::{Body, PutKey};
use codec::log::{Bootstrap, BootstrapMember, Seed};
use node::{ProposalEnd, Token};
use runtime::backup::{restore, verify};
use runtime::ring::Notice;
use runtime::{ClusterNode, Config, Handle, Service};
use store::rocks::{DataDirectory, RocksOptions};
use store::{LogStore, StateStore};

const PATIENCE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(20);

struct Node {
    service: Service,
    handle: Handle,
    leader: bool,
}

impl Node {
    fn start(config: &Config) -> Self {
        let service = Service::open(config.clone()).expect("opens");
        let handle = service.start().expect("starts");
        Self { service, handle, leader: false }
    }

    /// The notice of `token`; without one, until a leader is known.
    fn wait(&mut self, token: Option<Token>) -> Option<Notice> {
        let until = Instant::now() + PATIENCE;
        loop {
            if token.is_none() && self.leader {
                return None;
            }
            let left = until.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: self.handle.ring().notify_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid `pollfd`.
            let ready = unsafe { libc::poll(&mut poll, 1, left.as_millis() as i32) };
            assert_eq!(ready, 1, "{}: no answer; {:?}", self.handle.node_id(), self.handle.view());
            let mut found = None;
            for notice in self.handle.ring().drain(1_000) {
                match notice {
                    Notice::Leader { node_id, .. } => self.leader = node_id.is_some(),
                    Notice::Stopped { detail } => panic!("{} stopped: {detail}", self.handle.node_id()),
                    Notice::Proposed { token: of, .. } | Notice::Readable { token: of, .. } if Some(of) == token => {
                        found = Some(notice);
                    }
                    _ => {}
                }
            }
            if found.is_some() {
                return found;
            }
        }
    }

    fn put(&mut self, key: &str) {
        let (tenant, key) = ("default".to_owned(), key.to_owned());
        let body = Body::PutKey(PutKey { tenant, key, value: vec![b'1'; 3_000], ..PutKey::default() });
        let token = self.handle.propose(vec![body], TIMEOUT).expect("room");
        let notice = self.wait(Some(token));
        assert!(matches!(notice, Some(Notice::Proposed { end: ProposalEnd::Applied, .. })), "{notice:?}");
    }

    /// A linearizable read.
    fn has(&mut self, key: &str) -> bool {
        let token = self.handle.read_index(TIMEOUT).expect("room");
        let notice = self.wait(Some(token));
        assert!(matches!(notice, Some(Notice::Readable { readable: true, .. })), "{notice:?}");
        let state = self.handle.state();
        let rows = state.view();
        runtime::query::key(&*rows, "default", key).expect("readable").is_some()
    }

    fn backup(&self, path: &Path) {
        let mut backup = self.handle.backup().expect("a backup");
        let mut bytes = Vec::new();
        loop {
            let piece = backup.read().expect("readable");
            if piece.is_empty() {
                break;
            }
            bytes.extend(piece);
        }
        std::fs::write(path, bytes).expect("written");
    }

    fn stop(self) {
        assert!(self.service.stop(PATIENCE).expect("flushes"), "the node did not stop in time");
    }
}

fn single(directory: &Path) -> Config {
    Config { node_id: "a".to_owned(), data_dir: directory.join("a"), ..Config::default() }
}

/// A backup of a node with keys k0 to k49.
fn backed_up(directory: &Path) -> (Node, PathBuf) {
    let mut node = Node::start(&single(directory));
    node.wait(None);
    (0..50).for_each(|n| node.put(&format!("k{n}")));
    let file = directory.join("backup");
    node.backup(&file);
    assert!(std::fs::read_dir(directory.join("a/backups")).expect("was made").next().is_none(), "the copy is gone");
    (node, file)
}

/// write → back up → write on → restore on three nodes → they form a cluster of their own with what
/// was there at the backup's revision, and go on, also after a restart.
#[test]
fn a_backup_becomes_a_cluster_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut old, file) = backed_up(directory.path());
    let manifest = verify(&file).expect("whole");
    assert_eq!(manifest.cluster_id, format!("{:016x}", old.handle.view().cluster_id));
    old.put("later");

    let names = ["x", "y", "z"].map(str::to_owned);
    let listeners = names.each_ref().map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let addresses = listeners.map(|l| l.local_addr().expect("bound").to_string());
    let cluster: Vec<ClusterNode> = names
        .iter()
        .zip(&addresses)
        .map(|(node_id, address)| ClusterNode { node_id: node_id.clone(), address: address.clone() })
        .collect();
    let configs: Vec<Config> = cluster
        .iter()
        .map(|n| Config {
            node_id: n.node_id.clone(),
            data_dir: directory.path().join(&n.node_id),
            raft_listen: n.address.clone(),
            raft_advertise: n.address.clone(),
            cluster: cluster.clone(),
            ..Config::default()
        })
        .collect();
    for config in &configs {
        let restored = restore(&file, &config.data_dir, &config.node_id, &names).expect("restored");
        assert_eq!(restored, manifest);
        let error = restore(&file, &config.data_dir, &config.node_id, &names).expect_err("it is there").to_string();
        assert!(error.contains("is not empty"), "{error}");
    }
    let wrong = Config { node_id: "y".to_owned(), data_dir: configs[0].data_dir.clone(), ..configs[1].clone() };
    let error = Service::open(wrong).err().expect("another node's").to_string();
    assert!(error.contains("y"), "{error}");
    // The directory now bears the wrong name: it is restored again.
    std::fs::remove_dir_all(&configs[0].data_dir).expect("removed");
    restore(&file, &configs[0].data_dir, "x", &names).expect("restored");

    let mut nodes: Vec<Node> = configs.iter().map(Node::start).collect();
    for node in &mut nodes {
        node.wait(None);
        for key in ["k0", "k49"] {
            assert!(node.has(key), "{key}");
        }
        assert!(!node.has("later"));
        let revision = runtime::query::revision(&*node.handle.state().view()).expect("readable");
        assert!(revision >= manifest.revision + 1_000_000_000, "{revision}");
        assert_ne!(node.handle.view().cluster_id, old.handle.view().cluster_id);
        assert_eq!(node.handle.view().members.len(), 3);
        assert!(!node.service.handle().state().path().join("../seed").exists());
    }
    nodes[0].put("new");
    for node in nodes.drain(..) {
        node.stop();
    }
    let mut nodes: Vec<Node> = configs.iter().map(Node::start).collect();
    for node in &mut nodes {
        node.wait(None);
        assert!(node.has("new") && node.has("k7"));
    }
    for node in nodes {
        node.stop();
    }
    assert!(old.has("later") && !old.has("new"));
    old.stop();
}

/// cut anywhere, flipped anywhere, of another version, into a directory that is in use → the reason is
/// said and nothing is left behind.
#[test]
fn what_is_not_whole_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let (node, file) = backed_up(directory.path());
    node.stop();
    let bytes = std::fs::read(&file).expect("readable");
    let bad = directory.path().join("bad");
    let refused = |content: &[u8], words: &str| {
        std::fs::write(&bad, content).expect("written");
        let target = directory.path().join("target");
        let error = restore(&bad, &target, "x", &[]).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        assert!(!target.exists());
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).expect("readable").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    };
    refused(&[], "no backup of taskquorum");
    refused(b"something else entirely, and longer", "no backup of taskquorum");
    for cut in [8, 15, 19, 30, bytes.len() / 2, bytes.len() - 25, bytes.len() - 8, bytes.len() - 1] {
        refused(&bytes[..cut], "it is cut off");
    }
    let step = bytes.len() / 150;
    for at in (8..bytes.len()).step_by(step.max(1)).chain([8, 12, 16, 20, bytes.len() - 24, bytes.len() - 1]) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        refused(&flipped, if at == 8 { "version 17" } else { "it is" });
    }
    let mut longer = bytes.clone();
    longer.push(0);
    refused(&longer, "bytes follow its end");
    std::fs::create_dir(directory.path().join("used")).expect("made");
    std::fs::write(directory.path().join("used/file"), b"x").expect("written");
    let error = restore(&file, &directory.path().join("used"), "x", &[]).expect_err("in use").to_string();
    assert!(error.contains("is not empty"), "{error}");
    let error = restore(&file, &directory.path().join("t"), "x", &["y".to_owned()]).expect_err("not listed").to_string();
    assert!(error.contains("does not list"), "{error}");
}

/// the process ends after it saved which cluster it belongs to, and before its log names the seeded
/// state → the next start does the rest.
#[test]
fn seeding_that_was_cut_off_is_finished() {
    let directory = tempfile::tempdir().expect("a directory");
    let (node, file) = backed_up(directory.path());
    node.stop();
    let config = Config { data_dir: directory.path().join("new"), ..single(directory.path()) };
    let manifest = restore(&file, &config.data_dir, "a", &[]).expect("restored");
    let hash = u128::from_str_radix(&manifest.state_hash, 16).expect("hexadecimal").to_be_bytes().to_vec();
    {
        let mut opened = DataDirectory::open(&config.data_dir, "a", &RocksOptions::default()).expect("opens");
        let members = vec![BootstrapMember { node_id: "a".to_owned(), raft_id: 5, address: "127.0.0.1:1".to_owned() }];
        let seed = Some(Seed { digest: vec![1; 16], revision: manifest.revision, cluster_us: manifest.cluster_us, hash });
        let bootstrap = Bootstrap { cluster_id: 77, members, wall_us: manifest.wall_us, seed };
        let identity = codec::log::Identity {
            raft_id: 5,
            node_id: "a".to_owned(),
            cluster_id: 77,
            bootstrap: Some(bootstrap),
            ..Default::default()
        };
        opened.log.save_identity(&identity).expect("saved");
        // A state directory that was begun.
        opened.directory.new_state_dir().expect("made");
    }
    for _ in 0..2 {
        let mut node = Node::start(&config);
        node.wait(None);
        assert!(node.has("k49"));
        assert_eq!(node.handle.view().cluster_id, 77);
        node.put("more");
        node.stop();
    }
}
