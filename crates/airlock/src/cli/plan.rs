//! `airlock plan`

use clap::Args;

/// What people need, and where it is to come from.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Files that say what is needed (`environment.yml`, `requirements.txt`, a lock file), or specs such as `numpy>=1.26`.
    #[arg(required = true, value_name = "FILE|SPEC")]
    pub what: Vec<String>,
    /// The channel; of each ecosystem at most one.
    #[arg(long = "channel", value_name = "CHANNEL", required = true)]
    pub channels: Vec<String>,
    /// The conda subdir of the machine; this machine's by default.
    #[arg(long, value_name = "SUBDIR")]
    pub platform: Option<String>,
    /// The version of Python, such as 3.12.
    #[arg(long, value_name = "VERSION")]
    pub python: Option<String>,
    /// Make what passes, or the nearest that does, the whole content of this child channel (`main/genomics`), for a bundle or
    /// for people who install from it.
    #[arg(long, value_name = "CHILD")]
    pub closure: Option<String>,
    /// The policy of that child, if it is not there yet; by default it adds no rules to its parent's.
    #[arg(long, requires = "closure")]
    pub policy: Option<String>,
    /// A virtual package that the machine has, such as `__cuda=12.4`.
    #[arg(long = "virtual", value_name = "NAME=VERSION")]
    pub virtual_packages: Vec<String>,
}
