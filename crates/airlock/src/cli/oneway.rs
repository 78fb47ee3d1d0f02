//! `airlock send`, `airlock receive`

use std::path::PathBuf;

use airlock_core::time::Span;
use clap::Args;

/// A number with a power of a thousand behind it, such as `900M` or `2.5G`.
fn parse_amount(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no amount; write it as 900M or 2.5G");
    let (number, unit) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        number if number.len() == text.len() => (number, 1),
        number => match &text[number.len()..] {
            "k" | "K" => (number, 1_000),
            "M" => (number, 1_000_000),
            "G" => (number, 1_000_000_000),
            "T" => (number, 1_000_000_000_000),
            _ => return Err(wrong()),
        },
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 3 || (unit == 1 && !part.is_empty()) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let thousandths: u64 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
    let sum = whole.checked_mul(unit).and_then(|n| n.checked_add(unit / 1000 * thousandths));
    sum.filter(|n| *n > 0).ok_or_else(wrong)
}

/// `airlock send`
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The bundle's folder.
    pub dir: PathBuf,
    /// The receiving end: udp://HOST:PORT, http://HOST:PORT/PATH or https://HOST:PORT/PATH.
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Bits a second on the link, such as 900M or 2.5G: 3G over UDP by default, over HTTP what it gives.
    #[arg(long, value_name = "BITS/S", value_parser = parse_amount)]
    pub rate: Option<u64>,
    /// Only what this missing list of the receiver names.
    #[arg(long, value_name = "FILE")]
    pub only: Option<PathBuf>,
    /// Over HTTP: answers do not count, since something in between invents them.
    #[arg(long)]
    pub blind: bool,
    /// The receiving station's station.pub; the one key that is trusted here by default.
    #[arg(long, value_name = "KEYFILE")]
    pub recipient: Option<PathBuf>,
    /// Repair in percent of what is sent; by default what the rate calls for, which covers 5 % of loss and gaps of 50 ms.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u16).range(1..=200))]
    pub repair: Option<u16>,
    /// The link's MTU in bytes; by default what this machine knows of it.
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,
}

/// `airlock receive`
#[derive(Debug, Args)]
pub struct ReceiveArgs {
    /// Where to listen: udp://ADDR:PORT, http://ADDR:PORT or https://ADDR:PORT.
    #[arg(long, value_name = "URL")]
    pub listen: String,
    /// The spool: what comes is kept here, and whole bundles stand here for `import`.
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// End after one sending: with status 0 if the bundle is whole, else with 4 and the missing list on stdout.
    #[arg(long)]
    pub once: bool,
    /// Seconds without a packet or file after which a sending is taken to have broken off.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub silence: u64,
    /// Most bytes that bundles which are not whole yet may take together, such as 500G; what the disk has by default.
    #[arg(long, value_name = "BYTES", value_parser = parse_amount)]
    pub quota: Option<u64>,
    /// Memory of what is under way and cannot be written yet, such as 256M; 512 MiB by default.
    #[arg(long, value_name = "BYTES", value_parser = parse_amount)]
    pub memory: Option<u64>,
    /// How long a bundle that is not whole is kept after something of it came.
    #[arg(long, value_name = "SPAN", value_parser = super::parse_span, default_value = "30 days")]
    pub keep: Span,
    /// For https://: a PEM file with the certificate and its chain.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// For https://: a PEM file with its key.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_powers_of_a_thousand() {
        let read = |text| parse_amount(text).ok();
        assert_eq!(read("2500000000"), Some(2_500_000_000));
        assert_eq!(read("2.5G"), Some(2_500_000_000));
        assert_eq!(read("900M"), Some(900_000_000));
        assert_eq!(read("0.125k"), Some(125));
        for bad in ["", "0", "G", "1.5", "1X", "-1", "1.2345G", "99999999999T", "1.G2"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
