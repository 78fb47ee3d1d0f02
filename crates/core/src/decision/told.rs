//! What was ruled, in a few words for people.

use std::collections::BTreeSet;

use super::{Ruling, Scope, Weighed};

/// Where.
fn place(scope: &Scope) -> String {
    let build = scope.build.as_ref().map(|build| format!(", builds {build}")).unwrap_or_default();
    let file = scope.sha256.map(|hash| format!(", the file {hash}")).unwrap_or_default();
    format!("{} in {}{build}{file}", scope.spec, scope.channel)
}

/// The rules that were weighed.
fn rules<'a>(weighed: impl Iterator<Item = &'a Weighed>) -> String {
    let rules: BTreeSet<&str> = weighed.map(|one| one.rule.as_str()).collect();
    rules.into_iter().collect::<Vec<_>>().join(" and ")
}

fn counted(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

impl Ruling {
    /// What was ruled, and where.
    pub fn told(&self) -> String {
        match self {
            Self::Block(scope) => format!("block {}", place(scope)),
            Self::Reject(scope) => format!("reject {}", place(scope)),
            Self::Freeze(scope) => format!("freeze {}", scope.channel),
            Self::Approve { scope, files } => {
                let by = rules(files.iter().flat_map(|file| &file.weighed));
                format!("approve {}: {}, held by {by}", place(scope), counted(files.len()))
            }
            Self::Baseline { scope, files } => {
                let by = rules(files.values().flat_map(|file| &file.weighed));
                format!("baseline {}: {}, kept out by {by}", place(scope), counted(files.len()))
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
