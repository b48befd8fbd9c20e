//! What a sample is, and the values that samples of several kinds share.

use codec::command::*;
use codec::frame::{FrameKind, to_frame};
use codec::log::ConfState;
use codec::row::*;
use codec::{Message, Outcome};

type Reader = Box<dyn Fn(&[u8]) -> bool>;

/// A type's name, its bytes as written, and a check that bytes read as the same message.
pub struct Sample {
    pub name: String,
    pub bytes: Vec<u8>,
    pub reads_back: Reader,
}

pub fn row_sample<M: Message + Default + PartialEq + Clone + 'static>(name: &str, message: M) -> Sample {
    let bytes = encode(&message);
    Sample { name: format!("row_{name}"), bytes, reads_back: Box::new(move |b| decode::<M>(b).is_ok_and(|m| m == message)) }
}

pub fn frame_sample<M: Message + Default + PartialEq + Clone + 'static>(name: &str, kind: FrameKind, message: M) -> Sample {
    let bytes = to_frame(kind, &message);
    let reads_back = move |b: &[u8]| codec::Frame::decode_message::<M>(kind, b).is_ok_and(|m| m == message);
    Sample { name: name.to_owned(), bytes, reads_back: Box::new(reads_back) }
}

pub fn text(value: &str) -> String {
    value.to_owned()
}

pub fn id(n: u8) -> Vec<u8> {
    vec![n; 16]
}

pub fn label() -> Label {
    Label { key: text("region"), value: text("eu") }
}

pub fn amount() -> Amount {
    Amount { name: text("slots"), amount: 2 }
}

pub fn retry() -> RetryPolicy {
    let non_retryable = vec![text("fatal")];
    RetryPolicy { max_attempts: 3, backoff_ms: 200, factor_milli: 2_000, max_backoff_ms: 60_000, non_retryable }
}

pub fn requirements() -> Requirements {
    let capability = CapabilityNeed { dimension: text("nlp"), min_bp: 7_000, weight_milli: 1_500 };
    Requirements { capabilities: vec![capability], resources: vec![amount()], labels: vec![label()] }
}

pub fn outcome() -> Outcome {
    Outcome {
        refusal: codec::Refusal::StaleEpoch as i32,
        revision: 1,
        status: Status::Running as i32,
        epoch: 2,
        agent_id: text("agent"),
        agent_epoch: 3,
        task_ids: vec![id(1)],
        names: vec![text("first")],
        replayed: true,
        field: text("/tasks/0"),
        detail: text("why"),
        key_revision: 4,
        create_revision: 5,
        key_version: 6,
    }
}

pub fn configuration() -> ConfState {
    ConfState { voters: vec![1, 2], learners: vec![3], voters_outgoing: vec![4], learners_next: vec![5], auto_leave: true }
}
