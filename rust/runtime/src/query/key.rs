//! Replicated keys.

use codec::row::{self, Cf, KeyRow, StateRead};

use super::json::Object;
use super::{Result, get};

/// A key's object and the revision that `If-Match` compares.
#[derive(Debug)]
pub struct KeyAnswer {
    pub json: Vec<u8>,
    pub revision: u64,
}

/// `None` if the key does not exist.
pub fn key(rows: &dyn StateRead, tenant: &str, name: &str) -> Result<Option<KeyAnswer>> {
    if tenant.len() > 255 {
        return Ok(None);
    }
    let Some(row) = get::<KeyRow>(rows, Cf::Key, &row::key::tenant_scoped(tenant, name))? else { return Ok(None) };
    let mut json = Vec::with_capacity(row.value.len() + 128);
    let mut object = Object::new(&mut json);
    object.text("key", name);
    object.raw("value", &row.value);
    object.number("revision", row.revision);
    object.number("create_revision", row.create_revision);
    object.number("version", row.version);
    object.null("lease");
    object.end();
    Ok(Some(KeyAnswer { json, revision: row.revision }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Rows;
    use super::*;

    #[test]
    fn a_key_is_found_in_its_tenant_only() {
        let mut rows = Rows::default();
        let stored = KeyRow { value: b"{\"a\": 1.0}".to_vec(), revision: 7, create_revision: 3, version: 2 };
        rows.put(Cf::Key, row::key::tenant_scoped("default", "k"), row::encode(&stored));
        let found = key(&rows, "default", "k").expect("read").expect("there");
        assert_eq!(found.revision, 7);
        let expected = r#"{"key":"k","value":{"a": 1.0},"revision":7,"create_revision":3,"version":2,"lease":null}"#;
        assert_eq!(String::from_utf8_lossy(&found.json), expected);
        for (tenant, name) in [("other", "k"), ("default", "kk"), (&*"t".repeat(300), "k")] {
            assert!(key(&rows, tenant, name).expect("read").is_none());
        }
    }
}
