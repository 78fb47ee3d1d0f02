//! Licences as SPDX expressions (SPDX 2.3, annex D), and the families that policies speak of.
//!
//! Two questions are asked of an expression. *May it be used under these alone?* `MIT OR GPL-3.0-only` may be used under
//! MIT. *Does it need one of these?* It does not need the GPL, since there is another choice; `MIT AND GPL-3.0-only` does.
//! A text that is no expression (`see LICENSE`) answers neither: it is not known, unless a policy names that very text. So is
//! what names no certain licence: `BSD`, `GPL`, `MIT/GPL-2.0`, `NOASSERTION`.

use spdx::expression::{ExprNode, Expression, Operator};
use spdx::{AdditionItem, LicenseReq, ParseMode};

use crate::pattern::Pattern;
use crate::policy::Truth;

/// Longest licence text that is read as an expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4096;

/// What a family of licences asks of those who use the software.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Dedicated to the public, or without any condition.
    PublicDomain,
    /// Naming the author, and little else.
    Permissive,
    /// Changes to the software itself stay under the licence.
    WeakCopyleft,
    /// So does what is built with it and passed on.
    StrongCopyleft,
    /// So does what is offered over a network.
    NetworkCopyleft,
    /// Not free: a contract with a vendor.
    Proprietary,
    /// None of these, or nobody has sorted it.
    Other,
}

/// The families with the patterns of what belongs to them, the most specific first.
const FAMILIES: [(Family, &str); 6] = [
    (
        Family::PublicDomain,
        "CC0-1.0 Unlicense PDDL-1.0 SAX-PD* blessing LicenseRef-Public-Domain CC-PDDC NIST-PD*",
    ),
    (
        Family::NetworkCopyleft,
        "AGPL-* SSPL-* OSL-* RPL-1.* CPAL-1.0 EUPL-* APSL-1.* RPSL-1.0 Parity-* NPOSL-3.0 Watcom-1.0 CAL-1.0*",
    ),
    (
        Family::WeakCopyleft,
        "LGPL-* LGPLLR MPL-* EPL-* CDDL-* CPL-1.0 IPL-1.0 APSL-2.0 CECILL-C MS-RL ErlPL-1.1 SISSL* SPL-1.0 NPL-* \
         Interbase-1.0 Nokia LPL-* gSOAP-1.3b OFL-1.* CERN-OHL-W-* eCos-2.0 wxWindows FDK-AAC QPL-1.0-INRIA* Artistic-1.0* \
         ClArtistic SugarCRM-1.1.3 OCLC-2.0 Ruby TPL-1.0 YPL-* Zimbra-* NGPL RSCPL Motosoto MulanPubL*",
    ),
    (
        Family::StrongCopyleft,
        "GPL-* BSD-Protection MS-PL CECILL-1.* CECILL-2.* Sleepycat QPL-1.0 CC-BY-SA-* GFDL-* CERN-OHL-S-* copyleft-next-* LiLiQ-R* ODbL-1.0 \
         FreeImage MirOS-SA VOSTROM BitTorrent-* TORQUE-1.1 AGPL* TGPPL-1.0 Arphic-1999 Baekmuk-SA NCGL-UK-2.0 \
         CC-BY-NC-SA-* TAPR-OHL-1.0",
    ),
    (
        Family::Permissive,
        "MIT MIT-* MITNFA X11* ISC* 0BSD BSD-1-Clause BSD-2-Clause* BSD-3-Clause \
         BSD-3-Clause-Attribution BSD-3-Clause-Clear BSD-3-Clause-HP BSD-3-Clause-LBNL BSD-3-Clause-Modification \
         BSD-3-Clause-Open-MPI BSD-3-Clause-Sun BSD-3-Clause-acpica BSD-3-Clause-flex BSD-4-Clause* BSD-4.3* BSD-Source-Code \
         BSD-Systemics* Apache-* Zlib* zlib-acknowledgement BSL-1.0 PSF-2.0 Python-2.0* CNRI-Python* \
         PostgreSQL NCSA AFL-* CC-BY-1.0 CC-BY-2.* CC-BY-3.* CC-BY-4.0 HPND* Libpng libpng-2.0 libtiff IJG* curl OpenSSL* \
         SSLeay* TCL Unicode-3.0 Unicode-DFS-* ICU FTL Info-ZIP W3C* WTFPL NTP* OLDAP-* PHP-3.* Artistic-2.0 UPL-1.0 bzip2-1.0.* \
         MulanPSL-* BlueOak-1.0.0 ECL-* EFL-* Fair AML NAIST-2003 Intel ANTLR-PD* ZPL-* Xnet VSL-1.0 Vim TCP-wrappers \
         SMLNJ SGI-B-2.0 Beerware JasPer-2.0 Spencer-* RSA-MD GD FSFAP* FSFUL* Sendmail* Minpack mpich2 Naumen NLOD-* \
         Bitstream-* CUA-OPL-1.0-X Condor-1.1 EUDatagram FreeBSD-DOC JSON Plexus libselinux-1.0 DOC dtoa Entessa \
         ",
    ),
    (Family::Proprietary, "*proprietary* LicenseRef-*EULA* *-EULA *End-User-License*"),
];

/// Exceptions that let other software of any licence be built with what they stand behind.
const LINKING: [&str; 4] =
    ["Classpath-exception*", "GCC-exception*", "LLVM-exception", "OpenJDK-assembly-exception*"];

impl Family {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::PublicDomain,
        Self::Permissive,
        Self::WeakCopyleft,
        Self::StrongCopyleft,
        Self::NetworkCopyleft,
        Self::Proprietary,
        Self::Other,
    ];

    /// The name in policies, behind `family:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PublicDomain => "public-domain",
            Self::Permissive => "permissive",
            Self::WeakCopyleft => "weak-copyleft",
            Self::StrongCopyleft => "strong-copyleft",
            Self::NetworkCopyleft => "network-copyleft",
            Self::Proprietary => "proprietary",
            Self::Other => "other",
        }
    }

    /// A licence of it, to try what a rule would say of one.
    pub const fn example(self) -> &'static str {
        match self {
            Self::PublicDomain => "CC0-1.0",
            Self::Permissive => "MIT",
            Self::WeakCopyleft => "MPL-2.0",
            Self::StrongCopyleft => "GPL-3.0-only",
            Self::NetworkCopyleft => "AGPL-3.0-only",
            Self::Proprietary => "LicenseRef-Proprietary",
            Self::Other => "LicenseRef-none-that-is-named",
        }
    }

    /// The family of a licence by its SPDX name.
    pub fn of(name: &str) -> Self {
        table()
            .iter()
            .find(|(_, patterns)| patterns.iter().any(|p| p.matches(name)))
            .map_or(Self::Other, |(f, _)| *f)
    }

    fn of_requirement(requirement: &LicenseReq) -> Self {
        let family = Self::of(&requirement.license.to_string());
        let exception = requirement.addition.as_ref().map(AdditionItem::to_string);
        let links = exception.is_some_and(|name| LINKING.iter().any(|p| Pattern::new(p).matches(&name)));
        if links && family == Self::StrongCopyleft { Self::WeakCopyleft } else { family }
    }
}

fn table() -> &'static [(Family, Vec<Pattern>)] {
    static TABLE: std::sync::LazyLock<Vec<(Family, Vec<Pattern>)>> = std::sync::LazyLock::new(|| {
        let patterns = |list: &str| list.split_whitespace().map(Pattern::new).collect();
        FAMILIES.iter().map(|(family, list)| (*family, patterns(list))).collect()
    });
    &TABLE
}

/// Whether it stands under an addition that is in no list: nobody knows whether that gives or takes.
fn is_unknown_addition(requirement: &LicenseReq) -> bool {
    requirement.addition.as_ref().is_some_and(|addition| addition.id().is_none())
}

/// What a policy names: a licence, with wildcards if wanted, a family, or a text that is no expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// `family:permissive`
    Family(Family),
    /// `MIT`, `LGPL-*`, `GPL-3.0-only WITH GCC-exception-3.1`
    Licence(Pattern),
    /// `text:see LICENSE*`
    Text(Pattern),
}

impl Named {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is wrong with it: a name that no licence has would never be met.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("family:") {
            let found = Family::ALL.into_iter().find(|f| f.name() == name).map(Self::Family);
            let known = || Family::ALL.map(Family::name).join(", ");
            return found.ok_or_else(|| format!("`{name}` is no family of licences; there are {}", known()));
        }
        if let Some(other) = text.strip_prefix("text:") {
            return Ok(Self::Text(Pattern::new(other)));
        }
        if text == "unknown" {
            return Err(
                "a licence that nobody states is asked for without a list: licence = \"unknown\"".to_owned()
            );
        }
        let pattern = Pattern::new(text);
        let is_known = match text.contains(['*', '?']) {
            true => {
                let licence = text.split(" WITH ").next().unwrap_or_default();
                licence.starts_with("LicenseRef-") || is_met(&Pattern::new(licence))
            }
            false => expression(text).is_some_and(|e| {
                let mut all = e.requirements().map(|r| r.req.to_string());
                all.next().is_some_and(|one| one.eq_ignore_ascii_case(text)) && all.next().is_none()
            }),
        };
        if is_known {
            return Ok(Self::Licence(pattern));
        }
        let text: String = text.chars().take(60).collect();
        let other = common(&text).or_else(|| nearest(&text)).map(|near| format!("did you mean `{near}`? "));
        let other = other.unwrap_or_default();
        Err(format!(
            "`{text}` is no SPDX name of one licence, so that it would never be met; {other}each licence is named by itself, and a text that is none as `text:{text}`"
        ))
    }

    /// As it is written.
    pub fn text(&self) -> String {
        match self {
            Self::Family(family) => format!("family:{}", family.name()),
            Self::Licence(pattern) => pattern.as_str().to_owned(),
            Self::Text(pattern) => format!("text:{}", pattern.as_str()),
        }
    }

    /// A licence that it means, as far as one is known.
    pub fn example(&self) -> &str {
        match self {
            Self::Family(family) => family.example(),
            Self::Licence(pattern) | Self::Text(pattern) => pattern.as_str(),
        }
    }

    /// `GPL-3.0` means `GPL-3.0-only` and `GPL-3.0-or-later` too, and a licence also what it is with an exception that only
    /// gives more.
    /// With an addition that is in no list it is not known what of it is left.
    fn means(&self, requirement: &LicenseReq) -> Truth {
        let of_licence = |is: bool| match is && is_unknown_addition(requirement) {
            true => Truth::Unknown,
            false => is.into(),
        };
        match self {
            Self::Family(family) => of_licence(Family::of_requirement(requirement) == *family),
            Self::Text(_) => Truth::False,
            Self::Licence(pattern) => {
                let name = requirement.license.to_string();
                let plain = ["-only", "-or-later", "+"].iter().find_map(|end| name.strip_suffix(end));
                let is_plain = pattern.matches(&name) || plain.is_some_and(|p| pattern.matches(p));
                let whole = requirement.to_string();
                of_licence(is_plain).max(is_written(pattern, &whole).into())
            }
        }
    }

    /// Whether it means a text that is no expression.
    fn is_text(&self, text: &str) -> bool {
        match self {
            Self::Family(family) => *family == Family::Proprietary && Family::of(text) == *family,
            Self::Licence(_) => false,
            Self::Text(pattern) => pattern.matches(text),
        }
    }
}

/// Whether a pattern means a licence together with its exception: both are named, or neither has a wildcard for the other.
fn is_written(pattern: &Pattern, whole: &str) -> bool {
    (pattern.as_str().contains(" WITH ") || !whole.contains(" WITH ")) && pattern.matches(whole)
}

/// Whether some licence of the list has such a name.
fn is_met(pattern: &Pattern) -> bool {
    let names = || spdx::identifiers::LICENSES.iter().map(|licence| licence.name);
    names().any(|name| pattern.matches(name))
}

/// The licence that was probably meant.
fn nearest(text: &str) -> Option<&'static str> {
    let plain = |text: &str| -> String {
        let text = text.to_ascii_lowercase().replace("version", "").replace("license", "").replace(".0", "");
        let text = text.strip_suffix('+').unwrap_or(&text).replace("-only", "").to_owned();
        text.chars().filter(|c| c.is_ascii_alphanumeric() && *c != 'v').collect()
    };
    let is_later = text.ends_with('+');
    let wanted = plain(text);
    let all = spdx::identifiers::LICENSES.iter().map(|licence| licence.name);
    let mut fitting = all.filter(|name| plain(name) == wanted && !name.ends_with('+'));
    let first = fitting.next()?;
    let later =
        || spdx::identifiers::LICENSES.iter().map(|l| l.name).find(|n| *n == format!("{first}-or-later"));
    let only = || spdx::identifiers::LICENSES.iter().map(|l| l.name).find(|n| *n == format!("{first}-only"));
    if is_later { later().or(Some(first)) } else { only().or(Some(first)) }
}

/// The modes of reading: what the list of SPDX has, also if it is deprecated; no names that somebody may have meant.
const MODE: ParseMode = ParseMode {
    allow_slash_as_or_operator: false,
    allow_imprecise_license_names: false,
    allow_postfix_plus_on_gpl: true,
    allow_deprecated: true,
    allow_unknown: false,
};

/// The expression that a text is, if it is one and names licences. Small `and` and `or`, and texts that can mean one licence
/// only, are understood.
pub fn expression(text: &str) -> Option<Expression> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return None;
    }
    let parse = |text: &str| Expression::parse_mode(text, MODE).ok();
    let read = parse(text).or_else(|| parse(&spelt(text))).or_else(|| parse(common(text)?))?;
    let says_nothing = |name: &str| matches!(name, "NOASSERTION" | "NONE");
    let is_certain = !read.requirements().any(|r| says_nothing(&r.req.license.to_string()));
    is_certain.then_some(read)
}

/// A licence as documents of SPDX 2.3 name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spdx {
    /// An expression, with the names in it that stand for texts which are in no list (`LicenseRef-Ours`).
    Expression {
        /// The expression.
        text: String,
        /// Those names.
        refs: Vec<String>,
    },
    /// Words that are no expression.
    Words(String),
}

impl Spdx {
    /// How a stated licence is named. Expressions with what SPDX 2.3 does not know (`AdditionRef-`), or with names of other
    /// documents, are words.
    pub fn of(stated: &str) -> Self {
        let words = || Self::Words(stated.trim().to_owned());
        let Some(text) = expression(stated).map(|expression| expression.to_string()) else { return words() };
        if text.contains("AdditionRef-") || text.contains("DocumentRef-") {
            return words();
        }
        let names = text.split([' ', '(', ')']).filter(|word| word.starts_with("LicenseRef-"));
        let refs = names.map(str::to_owned).collect();
        Self::Expression { text, refs }
    }
}

/// The same with the words of expressions, and the names of licences, as they are spelt: case does not count in them.
fn spelt(text: &str) -> String {
    let ids = || spdx::identifiers::LICENSES.iter().map(|licence| licence.name);
    let word = |word: &str| -> String {
        let name = word.trim_matches(['(', ')']);
        let known = ["AND", "OR", "WITH"].into_iter().chain(ids()).find(|id| id.eq_ignore_ascii_case(name));
        known.map_or_else(|| word.to_owned(), |known| word.replace(name, known))
    };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Texts that indexes are full of and that mean one licence.
fn common(text: &str) -> Option<&'static str> {
    const TEXTS: [(&str, &str); 22] = [
        ("bsd 3-clause", "BSD-3-Clause"),
        ("bsd 3-clause license", "BSD-3-Clause"),
        ("bsd-3-clause license", "BSD-3-Clause"),
        ("3-clause bsd", "BSD-3-Clause"),
        ("3-clause bsd license", "BSD-3-Clause"),
        ("bsd_3_clause", "BSD-3-Clause"),
        ("new bsd", "BSD-3-Clause"),
        ("new bsd license", "BSD-3-Clause"),
        ("bsd 2-clause", "BSD-2-Clause"),
        ("simplified bsd license", "BSD-2-Clause"),
        ("mit license", "MIT"),
        ("the mit license", "MIT"),
        ("apache 2.0", "Apache-2.0"),
        ("apache 2.0 license", "Apache-2.0"),
        ("apache license 2.0", "Apache-2.0"),
        ("apache license, version 2.0", "Apache-2.0"),
        ("apache license version 2.0", "Apache-2.0"),
        ("apache-2.0 license", "Apache-2.0"),
        ("mozilla public license 2.0 (mpl 2.0)", "MPL-2.0"),
        ("public domain", "LicenseRef-Public-Domain"),
        ("public-domain", "LicenseRef-Public-Domain"),
        ("proprietary", "LicenseRef-Proprietary"),
    ];
    let lower = text.trim().to_lowercase();
    TEXTS.iter().find(|(known, _)| *known == lower).map(|(_, spdx)| *spdx)
}

/// Whether the software may be used under these licences alone.
pub fn allows(text: &str, named: &[Named]) -> Truth {
    match expression(text) {
        Some(expression) => of_expression(&expression, |r| any(named, r)),
        None => of_text(text, named),
    }
}

/// Whether it cannot be used without one of these.
pub fn needs(text: &str, named: &[Named]) -> Truth {
    match expression(text) {
        Some(expression) => !of_expression(&expression, |r| !any(named, r)),
        None => of_text(text, named),
    }
}

fn any(named: &[Named], requirement: &LicenseReq) -> Truth {
    named.iter().map(|one| one.means(requirement)).max().unwrap_or(Truth::False)
}

/// An expression in three values: a sum is the least of its parts, a choice the greatest.
fn of_expression(expression: &Expression, of: impl Fn(&LicenseReq) -> Truth) -> Truth {
    let mut stack = Vec::new();
    for node in expression.iter() {
        let value = match node {
            ExprNode::Req(one) => of(&one.req),
            ExprNode::Op(operator) => match (operator, stack.pop(), stack.pop()) {
                (Operator::And, Some(a), Some(b)) => std::cmp::min(a, b),
                (Operator::Or, Some(a), Some(b)) => std::cmp::max(a, b),
                _ => Truth::Unknown,
            },
        };
        stack.push(value);
    }
    stack.pop().unwrap_or(Truth::Unknown)
}

/// Of a text that is no expression it is known whether somebody named that text, and nothing else.
fn of_text(text: &str, named: &[Named]) -> Truth {
    if named.iter().any(|one| one.is_text(text.trim())) { Truth::True } else { Truth::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(list: &[&str]) -> Vec<Named> {
        list.iter().map(|one| Named::parse(one).unwrap()).collect()
    }

    #[test]
    fn a_choice_may_be_used_under_one_and_a_sum_needs_all() {
        use Truth::{False, True, Unknown};
        for (text, list, may, must) in [
            ("MIT", &["MIT"][..], True, True),
            ("mit", &["MIT"], True, True),
            ("MIT OR GPL-3.0-only", &["MIT"], True, False),
            ("MIT OR GPL-3.0-only", &["GPL-3.0"], True, False),
            ("MIT AND GPL-3.0-only", &["MIT"], False, True),
            ("MIT AND GPL-3.0-only", &["GPL-3.0"], False, True),
            ("MIT AND (BSD-2-Clause OR Apache-2.0)", &["MIT", "BSD-*"], True, True),
            ("GPL-2.0-or-later", &["GPL-3.0"], False, False),
            ("GPL-3.0-or-later", &["GPL-3.0"], True, True),
            ("GPL-3.0-only WITH GCC-exception-3.1", &["family:weak-copyleft"], True, True),
            ("GPL-3.0-only WITH GCC-exception-3.1", &["family:strong-copyleft"], False, False),
            ("GPL-3.0-only WITH GCC-exception-3.1", &["GPL-3.0-only WITH GCC-*"], True, True),
            ("AGPL-3.0-or-later", &["family:network-copyleft"], True, True),
            ("LGPL-2.1-or-later OR MPL-1.1", &["family:weak-copyleft"], True, True),
            ("BSD 3-Clause", &["family:permissive"], True, True),
            ("Apache 2.0", &["Apache-2.0"], True, True),
            ("MIT and BSD-3-Clause", &["family:permissive"], True, True),
            ("see LICENSE.txt", &["MIT"], Unknown, Unknown),
            ("see LICENSE.txt", &["text:see LICENSE*"], True, True),
            // A wildcard is held against one licence and never against the whole.
            ("BSD-3-Clause AND AGPL-3.0-only", &["MIT*", "BSD-*"], False, True),
            ("GPL-2.0-only OR MIT", &["GPL-*"], True, False),
            ("MIT AND LicenseRef-Proprietary", &["MIT*"], False, True),
            // What may be read in two ways, or says nothing, is not known.
            ("NOASSERTION", &["MIT"], Unknown, Unknown),
            ("MIT AND NONE", &["GPL-3.0"], Unknown, Unknown),
            ("GNU GPL v2", &["GPL-2.0"], Unknown, Unknown),
            ("GPL", &["GPL-3.0"], Unknown, Unknown),
            ("MIT/GPL-2.0", &["MIT"], Unknown, Unknown),
            ("BSD", &["family:permissive"], Unknown, Unknown),
            // What is added to a licence and stands in no list may take away what it gives.
            ("Apache-2.0 WITH AdditionRef-Commons-Clause", &["Apache-2.0"], Unknown, Unknown),
            ("Apache-2.0 WITH AdditionRef-Commons-Clause", &["family:permissive"], Unknown, Unknown),
            ("Apache-2.0 WITH AdditionRef-Commons-Clause", &["MIT"], False, False),
            ("AGPL-3.0-only WITH AdditionRef-x", &["AGPL-3.0"], Unknown, Unknown),
            ("AGPL-3.0-only WITH AdditionRef-x", &["family:network-copyleft"], Unknown, Unknown),
            ("MIT OR AGPL-3.0-only WITH AdditionRef-x", &["AGPL-3.0"], Unknown, False),
            ("Free for non-commercial and commercial use", &["family:proprietary"], Unknown, Unknown),
            ("Apache-2.0 WITH AdditionRef-Commons-Clause", &["Apache-2.0 WITH AdditionRef-*"], True, True),
            ("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"], True, True),
            ("LicenseRef-MIT-but-pay", &["family:permissive"], False, False),
            ("GPL-2.0-only WITH Bison-exception-2.2", &["family:weak-copyleft"], False, False),
            ("Proprietary", &["family:proprietary"], True, True),
            ("Some Proprietary Licence", &["family:proprietary"], True, True),
            ("LicenseRef-Something", &["family:permissive"], False, False),
        ] {
            assert_eq!(
                (allows(text, &named(list)), needs(text, &named(list))),
                (may, must),
                "{text} {list:?}"
            );
        }
    }

    #[test]
    fn a_name_that_no_licence_has_is_refused_with_the_one_that_was_meant() {
        for (name, near) in [
            ("AGPLv3", "AGPL-3.0-only"),
            ("AGPL3", "AGPL-3.0-only"),
            ("GPL-3", "GPL-3.0-only"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("Apache 2.0", "Apache-2.0"),
            ("MIT OR Apache-2.0", "named by itself"),
            ("unknown", "licence = \"unknown\""),
            ("Nothing*", "text:Nothing*"),
            ("family:free", "weak-copyleft"),
        ] {
            let error = Named::parse(name).unwrap_err();
            assert!(error.contains(near), "{name}: {error}");
        }
        for name in [
            "MIT",
            "GPL-3.0",
            "LGPL-*",
            "LicenseRef-Ours",
            "GPL-3.0-only WITH GCC-exception-3.1",
            "Apache-2.0",
        ] {
            assert!(Named::parse(name).is_ok(), "{name}: {:?}", Named::parse(name));
        }
    }

    #[test]
    fn documents_of_spdx_name_a_licence_by_an_expression_or_by_its_words() {
        let named = |text: &str, refs: &[&str]| Spdx::Expression {
            text: text.to_owned(),
            refs: refs.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(Spdx::of("MIT"), named("MIT", &[]));
        assert_eq!(Spdx::of("MIT License"), named("MIT", &[]));
        assert_eq!(
            Spdx::of("(MIT AND LicenseRef-A) OR LicenseRef-B"),
            named("(MIT AND LicenseRef-A) OR LicenseRef-B", &["LicenseRef-A", "LicenseRef-B"])
        );
        for words in
            ["see LICENSE", "BSD", "NOASSERTION", "MIT WITH AdditionRef-x", "DocumentRef-a:LicenseRef-b"]
        {
            assert_eq!(Spdx::of(words), Spdx::Words(words.to_owned()));
        }
    }

    /// The list of those who keep SPDX's says of some that they are copyleft: none of them is sorted under what asks less.
    #[test]
    fn what_others_call_copyleft_is_nowhere_called_permissive() {
        let all = spdx::identifiers::LICENSES.iter().map(|licence| licence.name);
        let copyleft = all.filter(|name| spdx::license_id(name).is_some_and(spdx::LicenseId::is_copyleft));
        let mild = |name: &&str| matches!(Family::of(name), Family::Permissive | Family::PublicDomain);
        assert_eq!(copyleft.filter(mild).collect::<Vec<_>>(), Vec::<&str>::new());
        for family in Family::ALL {
            assert_eq!(Family::of(family.example()), family, "{}", family.example());
            assert_eq!(Named::parse(&format!("family:{}", family.name())), Ok(Named::Family(family)));
        }
    }
}
