//! Values that stand in several commands: ids, digests, amounts, labels, JSON that is not looked into.

use std::collections::BTreeMap;

use codec::TaskId;
use codec::command;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// UUID text → 16 bytes, "" → no bytes.
#[derive(Default)]
pub(super) struct Id(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Id(Vec::new()));
        }
        TaskId::parse(&text).map(|id| Id(id.to_vec())).ok_or_else(|| D::Error::custom("a task id is UUID text"))
    }
}

/// Hexadecimal text → bytes.
#[derive(Default)]
pub(super) struct Hex(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
        let pair = |p: &[u8]| Some((digit(p[0])? << 4) | digit(*p.get(1)?)?);
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.map(Hex).ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits"))
    }
}

pub(super) type Amounts = BTreeMap<String, u64>;
pub(super) type Labels = BTreeMap<String, String>;

pub(super) fn amounts(map: Amounts) -> Vec<command::Amount> {
    map.into_iter().map(|(name, amount)| command::Amount { name, amount }).collect()
}

pub(super) fn amounts_with_slots(mut map: Amounts) -> Vec<command::Amount> {
    map.entry("slots".to_owned()).or_insert(1);
    amounts(map)
}

pub(super) fn labels(map: Labels) -> Vec<command::Label> {
    map.into_iter().map(|(key, value)| command::Label { key, value }).collect()
}

pub(super) fn raw(value: Option<&RawValue>) -> Vec<u8> {
    value.map_or_else(|| b"null".to_vec(), |v| v.get().as_bytes().to_vec())
}
