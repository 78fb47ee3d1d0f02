//! Reading a policy file: each fault is named with its line, its column and the nearest valid spelling.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Action, ArtifactPredicate, Bound, Condition, FindingPredicate, Policy, Rule};
use crate::ecosystem::{ArtifactKind, Ecosystem};
use crate::identity::Coverage;
use crate::matching::Status;
use crate::severity::Preferred;
use crate::time::Span;

/// Largest policy file, in bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;
/// How deep conditions may nest.
pub const CONDITION_DEPTH_MAX: usize = 32;

/// A fault in a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct PolicyError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong, and what was probably meant.
    pub message: String,
}

struct Reader<'a> {
    text: &'a str,
}

type Read<T> = Result<T, PolicyError>;
type Value<'a> = Spanned<DeValue<'a>>;

pub(super) fn parse(text: &str) -> Read<Policy> {
    let reader = Reader { text };
    if text.len() > POLICY_BYTES_MAX {
        return Err(reader.error(0, format!("the policy is larger than {POLICY_BYTES_MAX} bytes")));
    }
    let document = DeTable::parse(text)
        .map_err(|e| reader.error(e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
    let table = document.get_ref();
    reader.only(table, &["policy", "rule"])?;
    let head_value = reader.required(table, "policy", 0)?;
    let head = reader.table(head_value)?;
    reader.only(head, &["name", "description", "hold_deadline", "scores"])?;
    let name = reader.string(reader.required(head, "name", head_value.span().start)?)?;
    let description = head.get("description").map(|v| reader.string(v)).transpose()?.unwrap_or_default();
    let hold_deadline =
        head.get("hold_deadline").map(|v| reader.span(v)).transpose()?.unwrap_or(Span::days(14));
    let scores = match head.get("scores") {
        Some(list) => reader.array(list)?.into_iter().map(|v| reader.preferred(v)).collect::<Read<_>>()?,
        None => Vec::new(),
    };
    let mut rules = Vec::new();
    let mut names = BTreeSet::new();
    if let Some(list) = table.get("rule") {
        for value in reader.array(list)? {
            let rule = reader.rule(value)?;
            if !names.insert(rule.name.clone()) {
                return Err(reader.error(
                    value.span().start,
                    format!("a rule named `{}` stands above already", rule.name),
                ));
            }
            rules.push(rule);
        }
    }
    if rules.is_empty() {
        return Err(
            reader.error(0, "the policy has no [[rule]], so that it would admit everything".to_owned())
        );
    }
    Ok(Policy { name, description, hold_deadline, scores, rules })
}

impl Reader<'_> {
    fn error(&self, at: usize, message: String) -> PolicyError {
        let before = self.text.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        PolicyError {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message,
        }
    }

    fn at<T>(&self, value: &Value<'_>, message: String) -> Read<T> {
        Err(self.error(value.span().start, message))
    }

    fn only(&self, table: &DeTable<'_>, known: &[&str]) -> Read<()> {
        for key in table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                return Err(self.unknown(key.span().start, "key", key.get_ref(), known));
            }
        }
        Ok(())
    }

    fn unknown(&self, at: usize, what: &str, found: &str, known: &[&str]) -> PolicyError {
        let found: String = found.chars().take(60).collect();
        let hint = match nearest(&found, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.error(at, format!("unknown {what} `{found}`; {hint}"))
    }

    fn required<'t, 'd>(&self, table: &'t DeTable<'d>, key: &str, at: usize) -> Read<&'t Value<'d>> {
        table.get(key).ok_or_else(|| self.error(at, format!("`{key}` is missing here")))
    }

    fn table<'t, 'd>(&self, value: &'t Value<'d>) -> Read<&'t DeTable<'d>> {
        match value.get_ref().as_table() {
            Some(table) => Ok(table),
            None => self.at(value, format!("expected a table, found a {}", value.get_ref().type_str())),
        }
    }

    fn array<'t, 'd>(&self, value: &'t Value<'d>) -> Read<Vec<&'t Value<'d>>> {
        match value.get_ref().as_array() {
            Some(array) => Ok(array.iter().collect()),
            None => self.at(value, format!("expected a list, found a {}", value.get_ref().type_str())),
        }
    }

    fn string(&self, value: &Value<'_>) -> Read<String> {
        match value.get_ref().as_str() {
            Some(text) => Ok(text.to_owned()),
            None => self.at(value, format!("expected a text, found a {}", value.get_ref().type_str())),
        }
    }

    fn preferred(&self, value: &Value<'_>) -> Read<Preferred> {
        let text = self.string(value)?;
        match Preferred::parse(&text) {
            Some(preferred) => Ok(preferred),
            None => self.at(
                value,
                "expected a source with wildcards and, if wanted, a version, such as `NVD* 3.1`".to_owned(),
            ),
        }
    }

    fn bool(&self, value: &Value<'_>) -> Read<bool> {
        match value.get_ref().as_bool() {
            Some(flag) => Ok(flag),
            None => self.at(value, format!("expected true or false, found a {}", value.get_ref().type_str())),
        }
    }

    fn number(&self, value: &Value<'_>) -> Read<f64> {
        let text = match value.get_ref() {
            DeValue::Integer(i) if i.radix() == 10 => i.as_str().to_owned(),
            DeValue::Float(f) => f.as_str().to_owned(),
            other => return self.at(value, format!("expected a number, found a {}", other.type_str())),
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => self.at(value, "expected an ordinary number".to_owned()),
        }
    }

    fn span(&self, value: &Value<'_>) -> Read<Span> {
        let text = self.string(value)?;
        text.parse().map_err(|e: crate::time::NotASpan| self.error(value.span().start, e.to_string()))
    }

    /// A list of words of a closed set.
    fn words<T: Copy>(&self, value: &Value<'_>, known: &[(&str, T)]) -> Read<Vec<T>> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let mut out = Vec::new();
        for item in self.array(value)? {
            let text = self.string(item)?;
            match known.iter().find(|(name, _)| *name == text) {
                Some((_, word)) => out.push(*word),
                None => return Err(self.unknown(item.span().start, "value", &text, &names)),
            }
        }
        if out.is_empty() {
            return self.at(value, "the list is empty, so that this never holds".to_owned());
        }
        Ok(out)
    }

    fn rule(&self, value: &Value<'_>) -> Read<Rule> {
        let table = self.table(value)?;
        self.only(table, &["name", "action", "when"])?;
        let start = value.span().start;
        let name = self.string(self.required(table, "name", start)?)?;
        let action_value = self.required(table, "action", start)?;
        let action = match self.string(action_value)?.as_str() {
            "deny" => Action::Deny,
            "hold" => Action::Hold,
            "warn" => Action::Warn,
            other => {
                return Err(self.unknown(
                    action_value.span().start,
                    "action",
                    other,
                    &["deny", "hold", "warn"],
                ));
            }
        };
        let when = self.condition(self.required(table, "when", start)?, 0)?;
        Ok(Rule { name, action, when })
    }

    fn condition(&self, value: &Value<'_>, depth: usize) -> Read<Condition> {
        if depth > CONDITION_DEPTH_MAX {
            return self.at(value, format!("conditions nest deeper than {CONDITION_DEPTH_MAX} levels"));
        }
        let table = self.table(value)?;
        let mut members = table.iter();
        let (Some((key, inner)), None) = (members.next(), members.next()) else {
            return self.at(
                value,
                "a condition holds exactly one predicate; join several with `all` or `any`".to_owned(),
            );
        };
        let list = || -> Read<Vec<Condition>> {
            let parts: Vec<Condition> =
                self.array(inner)?.into_iter().map(|v| self.condition(v, depth + 1)).collect::<Read<_>>()?;
            if parts.is_empty() {
                return self.at(inner, "the list is empty, so that it says nothing".to_owned());
            }
            Ok(parts)
        };
        let one = || self.condition(inner, depth + 1).map(Box::new);
        match key.get_ref().as_ref() {
            "all" => list().map(Condition::All),
            "any" => list().map(Condition::Any),
            "not" => one().map(Condition::Not),
            "any_finding" => one().map(Condition::AnyFinding),
            "no_finding" => one().map(Condition::NoFinding),
            name => self.predicate(key.span().start, name, inner),
        }
    }

    fn predicate(&self, at: usize, name: &str, value: &Value<'_>) -> Read<Condition> {
        use ArtifactPredicate as A;
        use FindingPredicate as F;
        let finding = |p: F| Ok(Condition::Finding(p));
        let artifact = |p: A| Ok(Condition::Artifact(p));
        match name {
            "cvss" if value.get_ref().as_str() == Some("missing") => finding(F::CvssMissing),
            "cvss" => finding(F::Cvss(self.bound(value, 10.0)?)),
            "status" => finding(F::Status(self.words(value, &Status::ALL.map(|s| (s.name(), s)))?)),
            "kev" => finding(F::Kev(self.bool(value)?)),
            "epss" => finding(F::Epss(self.bound(value, 1.0)?)),
            "malicious" => finding(F::Malicious(self.bool(value)?)),
            "fix_available" => finding(F::FixAvailable(self.bool(value)?)),
            "ecosystem" => {
                let known = [("conda", Ecosystem::Conda), ("pypi", Ecosystem::Pypi)];
                artifact(A::Ecosystem(self.words(value, &known)?))
            }
            "name" => {
                let names: Vec<String> =
                    self.array(value)?.into_iter().map(|v| self.string(v)).collect::<Read<_>>()?;
                artifact(A::Name(names.iter().map(|n| n.to_ascii_lowercase()).collect()))
            }
            "kind" => artifact(A::Kind(self.words(value, &ArtifactKind::ALL.map(|k| (k.name(), k)))?)),
            "younger_than" => artifact(A::Age { younger: true, than: self.span(value)? }),
            "older_than" => artifact(A::Age { younger: false, than: self.span(value)? }),
            "yanked" => artifact(A::Yanked(self.bool(value)?)),
            "licence" => {
                let stated: Vec<String> =
                    self.array(value)?.into_iter().map(|v| self.string(v)).collect::<Read<_>>()?;
                if stated.is_empty() || stated.iter().any(|s| s.trim().is_empty()) {
                    return self.at(value, "the list holds no licence, or an empty one".to_owned());
                }
                artifact(A::Licence(stated.iter().map(|s| s.trim().to_owned()).collect()))
            }
            "coverage" => artifact(A::Coverage(self.words(value, &Coverage::ALL.map(|c| (c.name(), c)))?)),
            "feed_older_than" => artifact(A::FeedOlderThan(self.span(value)?)),
            other => Err(self.unknown(at, "predicate", other, &PREDICATES)),
        }
    }

    fn bound(&self, value: &Value<'_>, most: f64) -> Read<Bound> {
        let table = self.table(value)?;
        let mut members = table.iter();
        let (Some((key, inner)), None) = (members.next(), members.next()) else {
            return self.at(value, "expected one bound, such as { above = 7.0 }".to_owned());
        };
        let number = self.number(inner)?;
        if !(0.0..=most).contains(&number) {
            return self.at(inner, format!("the value lies between 0 and {most}"));
        }
        match key.get_ref().as_ref() {
            "above" => Ok(Bound::Above(number)),
            "at_least" => Ok(Bound::AtLeast(number)),
            "below" => Ok(Bound::Below(number)),
            "at_most" => Ok(Bound::AtMost(number)),
            other => Err(self.unknown(
                key.span().start,
                "bound",
                other,
                &["above", "at_least", "below", "at_most"],
            )),
        }
    }
}

const PREDICATES: [&str; 20] = [
    "all",
    "any",
    "not",
    "any_finding",
    "no_finding",
    "cvss",
    "status",
    "kev",
    "epss",
    "malicious",
    "fix_available",
    "ecosystem",
    "name",
    "kind",
    "younger_than",
    "older_than",
    "yanked",
    "licence",
    "coverage",
    "feed_older_than",
];

/// The known word that is nearest to what was typed, if any is near.
fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().map(|word| (distance(typed, word), *word)).min()?;
    (best.0 <= 2.max(typed.len() / 3)).then_some(best.1)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
