//! Changes of the members. Who is alive (`alive`) the leader fills in.

use codec::command;
use codec::row::MemberRole;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddMember {
    node_id: String,
    address: String,
    role: Role,
}

impl AddMember {
    pub(super) fn into_command(self) -> command::AddMember {
        let role = self.role.into_command() as i32;
        command::AddMember { node_id: self.node_id, address: self.address, role, alive: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Voter,
    Learner,
    Observer,
}

impl Role {
    fn into_command(self) -> MemberRole {
        match self {
            Role::Voter => MemberRole::Voter,
            Role::Learner => MemberRole::Learner,
            Role::Observer => MemberRole::Observer,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveMember {
    node_id: String,
}

impl RemoveMember {
    pub(super) fn into_command(self) -> command::RemoveMember {
        command::RemoveMember { node_id: self.node_id, alive: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplaceMember {
    node_id: String,
    address: String,
}

impl ReplaceMember {
    pub(super) fn into_command(self) -> command::ReplaceMember {
        command::ReplaceMember { node_id: self.node_id, address: self.address, alive: Vec::new() }
    }
}
