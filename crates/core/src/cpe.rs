//! CPE 2.3 names as formatted strings (NISTIR 7695, section 6.2), as far as advisories use them.

/// The value of one attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// `*`: any value.
    Any,
    /// `-`: there is none.
    NotApplicable,
    /// This value, without the quoting; in lower case, since names compare without regard to it.
    Value(String),
    /// A value with unquoted `*` or `?` in it, which stand for whatever there may be.
    Pattern(String),
}

impl Attribute {
    /// The value, if it is one.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Value(value) => Some(value),
            Self::Any | Self::NotApplicable | Self::Pattern(_) => None,
        }
    }
}

/// What kind of product a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `a`: an application or library.
    Application,
    /// `o`: an operating system, also the firmware of a device.
    OperatingSystem,
    /// `h`: a device.
    Hardware,
    /// `*` or `-`: not said.
    Any,
}

/// A name; attributes that nothing here asks for are checked and not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpe {
    /// The kind of product.
    pub part: Part,
    /// Who makes it.
    pub vendor: Attribute,
    /// What it is called.
    pub product: Attribute,
    /// The version.
    pub version: Attribute,
    /// The update: `beta1`, `p2`.
    pub update: Attribute,
    /// The software environment for which it is made: `python`, `wordpress`, `windows`.
    pub target_sw: Attribute,
}

/// Attributes of a name, of which the first is the part.
const ATTRIBUTES: usize = 11;
/// A name, in bytes. The longest of NVD's dictionary have some 300.
const BYTES_MAX: usize = 2000;

impl Cpe {
    /// Reads a formatted string, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("a CPE name has more than {BYTES_MAX} bytes"));
        }
        let odd = |why: &str| format!("`{text}` is no CPE 2.3 name: {why}");
        let rest = text.strip_prefix("cpe:2.3:").ok_or_else(|| odd("it does not begin with `cpe:2.3:`"))?;
        let attributes = split(rest).ok_or_else(|| odd("it ends behind a backslash"))?;
        let [
            part,
            vendor,
            product,
            version,
            update,
            _edition,
            _language,
            _sw_edition,
            target_sw,
            _hw,
            _other,
        ] = <[Attribute; ATTRIBUTES]>::try_from(attributes)
            .map_err(|_| odd("it does not have 11 attributes"))?;
        let part = match &part {
            Attribute::Any | Attribute::NotApplicable => Part::Any,
            Attribute::Value(part) if part == "a" => Part::Application,
            Attribute::Value(part) if part == "o" => Part::OperatingSystem,
            Attribute::Value(part) if part == "h" => Part::Hardware,
            _ => return Err(odd("its part is none of a, o, h")),
        };
        Ok(Self { part, vendor, product, version, update, target_sw })
    }
}

/// Cuts attributes apart at unquoted colons and takes the quoting off.
fn split(text: &str) -> Option<Vec<Attribute>> {
    let mut out = Vec::with_capacity(ATTRIBUTES);
    let (mut value, mut is_pattern, mut is_quoted) = (String::new(), false, false);
    let mut end = |value: &mut String, is_pattern: &mut bool, is_quoted: &mut bool| {
        let text = std::mem::take(value);
        let plain = !std::mem::take(is_quoted);
        out.push(match text.as_str() {
            "*" if plain => Attribute::Any,
            "-" if plain => Attribute::NotApplicable,
            _ if std::mem::take(is_pattern) => Attribute::Pattern(text),
            _ => Attribute::Value(text),
        });
        *is_pattern = false;
    };
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' => end(&mut value, &mut is_pattern, &mut is_quoted),
            '\\' => {
                value.extend(chars.next()?.to_lowercase());
                is_quoted = true;
            }
            '*' | '?' => {
                value.push(c);
                is_pattern = true;
            }
            c => value.extend(c.to_lowercase()),
        }
    }
    end(&mut value, &mut is_pattern, &mut is_quoted);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_bound() {
        let cpe = Cpe::parse(r"cpe:2.3:a:nodejs:node.js:18.0.0:rc\.1:*:*:lts:*:-:*").unwrap();
        assert_eq!(cpe.part, Part::Application);
        assert_eq!((cpe.vendor.value(), cpe.product.value()), (Some("nodejs"), Some("node.js")));
        assert_eq!((cpe.version.value(), cpe.update.value()), (Some("18.0.0"), Some("rc.1")));
        assert_eq!(cpe.target_sw, Attribute::Any);
        let cpe = Cpe::parse(r"cpe:2.3:a:joomla:joomla\!:-:*:*:*:*:*:*:*").unwrap();
        assert_eq!(cpe.product.value(), Some("joomla!"));
        assert_eq!((cpe.version, cpe.update), (Attribute::NotApplicable, Attribute::Any));
        let cpe = Cpe::parse(r"cpe:2.3:*:Foo\:bar:\-:1\*:1.?:*:*:*:Python:*:*").unwrap();
        assert_eq!((cpe.part, cpe.vendor.value()), (Part::Any, Some("foo:bar")));
        // What is quoted stands for itself.
        assert_eq!((cpe.product.value(), cpe.version.value()), (Some("-"), Some("1*")));
        assert_eq!((cpe.update, cpe.target_sw.value()), (Attribute::Pattern("1.?".into()), Some("python")));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "cpe:/a:openssl:openssl:1.1.1k",
            "cpe:2.3:a:openssl:openssl:1.1.1k",
            "cpe:2.3:x:openssl:openssl:*:*:*:*:*:*:*:*",
            "cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*:*",
            r"cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:\",
            &format!("cpe:2.3:a:{}:openssl:*:*:*:*:*:*:*:*", "x".repeat(2000)),
        ] {
            assert!(Cpe::parse(bad).is_err(), "{bad}");
        }
    }
}
