//! What was ruled, in a few words for people.

use std::collections::BTreeSet;

use super::{Ruling, Scope};

/// Where.
fn place(scope: &Scope) -> String {
    let build = scope.build.as_ref().map(|build| format!(", builds {build}")).unwrap_or_default();
    let file = scope.sha256.map(|hash| format!(", the file {hash}")).unwrap_or_default();
    format!("{} in {}{build}{file}", scope.spec, scope.channel)
}

impl Ruling {
    /// What was ruled, and where.
    pub fn told(&self) -> String {
        match self {
            Self::Block(scope) => format!("block {}", place(scope)),
            Self::Reject(scope) => format!("reject {}", place(scope)),
            Self::Freeze(scope) => format!("freeze {}", scope.channel),
            Self::Approve { scope, files } => {
                let rules: BTreeSet<&str> =
                    files.iter().flat_map(|file| &file.weighed).map(|one| one.rule.as_str()).collect();
                let rules: Vec<&str> = rules.into_iter().collect();
                let files =
                    if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) };
                format!("approve {}: {files}, held by {}", place(scope), rules.join(" and "))
            }
            Self::Waive { rule, scope, advisory } => {
                let only =
                    advisory.as_ref().map(|a| format!(" as far as it rests on {a}")).unwrap_or_default();
                format!("waive {rule} for {}{only}", place(scope))
            }
            Self::Status { advisory, status, scope, .. } => {
                format!("{advisory} is {} for {}", status.name(), place(scope))
            }
            Self::Statements { scope, source } => format!("what {source} states counts for {}", place(scope)),
            Self::Identity { mappings, scope } if mappings.is_empty() => {
                format!("no advisory can concern {}", place(scope))
            }
            Self::Identity { mappings, scope } => {
                let keys: Vec<&str> = mappings.iter().map(|m| m.key.as_str()).collect();
                format!("{} is {}", place(scope), keys.join(" and "))
            }
            Self::Revoke { decision } => format!("revoke {decision}"),
        }
    }
}
