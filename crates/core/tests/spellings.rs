//! A rule for a name holds for every spelling of the name, on both sides: a ban that a capital or an underscore gets
//! around is none.
#![allow(clippy::unwrap_used, reason = "tests")]

use airlock_core::ecosystem::{Ecosystem, canonical_name, is_safe_file_name};
use airlock_core::spec::Spec;
use proptest::prelude::*;

/// Another spelling of the same PyPI name (PEP 503).
fn respelt(name: &str, choices: &[u8]) -> String {
    let mut out = String::new();
    for (c, choice) in name.chars().zip(choices.iter().cycle()) {
        match (c, choice % 4) {
            ('-', 0) => out.push('_'),
            ('-', 1) => out.push('.'),
            ('-', 2) => out.push_str("-_."),
            (c, 1 | 3) => out.push(c.to_ascii_uppercase()),
            (c, _) => out.push(c),
        }
    }
    out
}

proptest! {
    #[test]
    fn a_spec_in_any_spelling_names_the_same_project(
        name in "[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,3}",
        typed in prop::collection::vec(any::<u8>(), 1..20),
        served in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let canonical = canonical_name(Ecosystem::Pypi, &respelt(&name, &served)).unwrap();
        prop_assert_eq!(&canonical, &name);
        let spec = Spec::parse(Ecosystem::Pypi, &respelt(&name, &typed)).unwrap();
        prop_assert!(spec.matches_name(&canonical));
    }

    #[test]
    fn a_conda_spec_in_any_case_names_the_same_package(
        name in "[a-z0-9][a-z0-9._-]{0,12}",
        typed in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let upper: String = name
            .chars()
            .zip(typed.iter().cycle())
            .map(|(c, n)| if n % 2 == 0 { c.to_ascii_uppercase() } else { c })
            .collect();
        let canonical = canonical_name(Ecosystem::Conda, &upper).unwrap();
        prop_assert_eq!(&canonical, &name);
        prop_assert!(Spec::parse(Ecosystem::Conda, &upper).unwrap().matches_name(&canonical));
    }

    #[test]
    fn what_is_accepted_as_a_name_is_a_file_name_and_its_own_canonical_form(text in "\\PC{0,40}|[A-Za-z0-9._%/\\\\-]{0,40}") {
        for ecosystem in [Ecosystem::Conda, Ecosystem::Pypi] {
            if let Some(name) = canonical_name(ecosystem, &text) {
                prop_assert_eq!(canonical_name(ecosystem, &name), Some(name.clone()));
                prop_assert!(!name.contains(['/', '\\', '%', ' ']) && name != "." && name != "..");
                prop_assert!(name.len() > 250 || is_safe_file_name(&name) || name.starts_with('.'));
            }
        }
    }
}
