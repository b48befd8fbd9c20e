//! Writes to the key-value store.

use codec::command;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeyCondition {
    Revision(u64),
    Absent(bool),
}

impl KeyCondition {
    fn into_command(self) -> command::KeyCondition {
        match self {
            KeyCondition::Revision(revision) => command::KeyCondition::Revision(revision),
            KeyCondition::Absent(absent) => command::KeyCondition::Absent(absent),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutKey<'a> {
    tenant: String,
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(default)]
    condition: Option<KeyCondition>,
}

impl PutKey<'_> {
    pub(super) fn into_command(self) -> command::PutKey {
        command::PutKey {
            tenant: self.tenant,
            key: self.key,
            value: self.value.get().as_bytes().to_vec(),
            condition: self.condition.map(KeyCondition::into_command),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteKey {
    tenant: String,
    key: String,
    #[serde(default)]
    condition: Option<KeyCondition>,
}

impl DeleteKey {
    pub(super) fn into_command(self) -> command::DeleteKey {
        command::DeleteKey { tenant: self.tenant, key: self.key, condition: self.condition.map(KeyCondition::into_command) }
    }
}
