//! The page of a receipt: what a station has, and the receipt itself as a QR code (ISO/IEC 18004), so that it can be carried back by
//! a photograph of a screen or a sheet of paper. It stands alone and says nothing that depends on who looks.

use std::fmt::Write as _;

use airlock_core::bundle::{self, Receipt};
use airlock_core::hex;
use airlock_engine::error::{Error, Result};
use askama::Template;
use qrcodegen::{QrCode, QrCodeEcc};

use super::asset::CSS;
use super::format::count;

#[derive(Template)]
#[template(path = "receipt.html")]
struct Page<'a> {
    css: &'static str,
    r: &'a Receipt,
    fingerprint: String,
    missing: String,
    code: Option<Code>,
    bytes: usize,
}

/// The dark modules of a code, as a path of one unit each within a margin of four.
struct Code {
    side: i32,
    path: String,
}

/// The page of a receipt whose file holds `text` but for white space.
pub fn receipt(receipt: &Receipt, text: &str) -> Result<String> {
    let key: [u8; 32] = hex::decode(&receipt.receiver.public_key).unwrap_or_default();
    let missing = receipt.missing.as_ref().map_or_else(String::new, |missing| {
        let volumes = missing.volumes.iter().map(|number| format!("volume {number}"));
        let files = Some(missing.files.count()).filter(|n| *n > 0).map(|n| count(n, "file"));
        format!(
            "of bundle {}: {}",
            missing.bundle.number,
            volumes.chain(files).collect::<Vec<_>>().join(", ")
        )
    });
    let (fingerprint, code) = (bundle::fingerprint(&key), Code::of(text));
    let page = Page { css: CSS, r: receipt, fingerprint, missing, code, bytes: text.len() };
    page.render().map_err(|e| Error::fault(format!("the receipt's page cannot be made: {e}")))
}

impl Code {
    /// The code of a text; none of one that is too long for any.
    fn of(text: &str) -> Option<Self> {
        const MARGIN: i32 = 4;
        let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
        let mut path = String::new();
        for y in 0..code.size() {
            for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
                let _ = write!(path, "M{} {}h1v1h-1z", x + MARGIN, y + MARGIN);
            }
        }
        Some(Self { side: code.size() + 2 * MARGIN, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_no_code_can_hold_has_none() {
        assert!(Code::of(&"x".repeat(2953)).is_some());
        assert!(Code::of(&"x".repeat(2954)).is_none());
    }
}
